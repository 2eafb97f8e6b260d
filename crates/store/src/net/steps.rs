//! What happens to the recorded operations of tasks. The changes of one number within a flush, in
//! order, come to at most one removal and one writing of it, in that order: a number may be given up
//! and used again.

use std::collections::BTreeMap;

use abide_core::ids::{TaskKey, Timestamp};
use abide_core::kernel::{StepChange, StepWrite, Supersede};
use abide_core::payload::Payload;
use abide_core::step::{StepEnd, StepId, StepState};

use crate::error::StoreError;

use super::json;

/// What is to be done in the end, in the order of the lists.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Steps<'a> {
    /// Steps that no longer count go; signals that they read are unread again.
    pub(crate) superseded: Vec<(TaskKey, Supersede)>,
    /// The stored answer of a wait becomes another, or none since it is given back.
    pub(crate) rewritten: Vec<(TaskKey, u32, Option<Payload>)>,
    /// A wait that is stored goes, or a record that was given back.
    pub(crate) withdrawn: Vec<(TaskKey, u32)>,
    /// A wait that is stored is answered.
    pub(crate) answered: Vec<StepRow<'a>>,
    pub(crate) inserted: Vec<StepRow<'a>>,
}

/// An operation as it is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StepRow<'a> {
    pub(crate) key: TaskKey,
    pub(crate) id: &'a StepId,
    pub(crate) ending: StepEnding,
    pub(crate) recorded_at: Timestamp,
    /// Whether a wait that is stored is answered.
    answers: bool,
}

/// How an operation stands, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StepEnding {
    pub(crate) state: StepState,
    pub(crate) ordinal: u32,
    pub(crate) due_at: Option<Timestamp>,
    /// What it ended with: a result, or an error as JSON.
    pub(crate) result: Option<Payload>,
}

impl<'a> Steps<'a> {
    pub(crate) fn of(now: Timestamp, changes: &'a [StepChange]) -> Result<Steps<'a>, StoreError> {
        let mut steps = Steps::default();
        match changes {
            [] => {}
            // What most flushes write: nothing to fold.
            [StepChange::Write(write)] => steps.write(StepRow::new(now, write)?),
            changes => {
                let mut folded = Folded::default();
                for change in changes {
                    folded.add(now, change)?;
                }
                folded.list(&mut steps);
            }
        }
        Ok(steps)
    }

    fn write(&mut self, row: StepRow<'a>) {
        match row.answers {
            true => self.answered.push(row),
            false => self.inserted.push(row),
        }
    }
}

#[derive(Default)]
struct Folded<'a> {
    numbers: BTreeMap<(TaskKey, u32), Number<'a>>,
    superseded: Vec<(TaskKey, Supersede)>,
}

/// What the changes of one number come to.
#[derive(Default)]
struct Number<'a> {
    withdrawn: bool,
    rewritten: Option<Option<Payload>>,
    write: Option<StepRow<'a>>,
}

impl<'a> Folded<'a> {
    fn add(&mut self, now: Timestamp, change: &'a StepChange) -> Result<(), StoreError> {
        match change {
            StepChange::Write(write) => {
                let at = (write.key, write.step.id.number);
                let net = self.numbers.entry(at).or_default();
                let mut row = StepRow::new(now, write)?;
                if let (true, Some(wait)) = (write.answers, net.write.take()) {
                    // A wait of this very flush: it is stored as it ended, where it was recorded.
                    row.id = wait.id;
                    row.ending.due_at = wait.ending.due_at;
                    row.answers = wait.answers;
                }
                net.write = Some(row);
            }
            StepChange::Withdraw(key, number) => {
                let net = self.numbers.entry((*key, *number)).or_default();
                match &net.write {
                    // What has ended is not withdrawn.
                    Some(row)
                        if matches!(row.ending.state, StepState::Done | StepState::Failed) => {}
                    Some(row) => {
                        net.withdrawn |= row.answers;
                        net.write = None;
                    }
                    None => net.withdrawn = true,
                }
            }
            StepChange::GiveBack(key, number) => self.rewrite((*key, *number), None),
            StepChange::HandOver(key, number, payload) => {
                self.rewrite((*key, *number), Some(payload));
            }
            StepChange::Supersede(key, supersede) => {
                let Supersede { failed, from } = *supersede;
                let range = (*key, from)..=(*key, u32::MAX);
                let mut gone: Vec<_> = self.numbers.range(range).map(|(at, _)| *at).collect();
                gone.push((*key, failed));
                gone.iter().for_each(|at| drop(self.numbers.remove(at)));
                self.superseded.push((*key, *supersede));
            }
        }
        Ok(())
    }

    /// An answered wait gets another answer, or has given it back.
    fn rewrite(&mut self, at: (TaskKey, u32), result: Option<&Payload>) {
        let net = self.numbers.entry(at).or_default();
        match &mut net.write {
            Some(row) => {
                row.ending.result = result.cloned();
                if result.is_none() {
                    row.ending.state = StepState::GivenBack;
                }
            }
            None => {
                // It is stored as done, so what was to withdraw it before found nothing to withdraw.
                net.withdrawn = false;
                net.rewritten = Some(result.cloned());
            }
        }
    }

    fn list(self, steps: &mut Steps<'a>) {
        steps.superseded = self.superseded;
        for ((key, number), net) in self.numbers {
            if net.withdrawn {
                steps.withdrawn.push((key, number));
            }
            if let Some(result) = net.rewritten {
                steps.rewritten.push((key, number, result));
            }
            if let Some(row) = net.write {
                steps.write(row);
            }
        }
    }
}

impl<'a> StepRow<'a> {
    fn new(now: Timestamp, write: &'a StepWrite) -> Result<StepRow<'a>, StoreError> {
        let StepWrite { key, step, answers } = write;
        let (due_at, result) = match &step.end {
            StepEnd::Waiting { due_at } => (*due_at, None),
            StepEnd::Done(payload) => (None, Some(payload.clone())),
            StepEnd::Failed(failure) => (None, Some(json(failure)?)),
            StepEnd::GivenBack => (None, None),
        };
        Ok(StepRow {
            key: *key,
            id: &step.id,
            ending: StepEnding {
                state: step.end.state(),
                ordinal: step.order,
                due_at,
                result,
            },
            recorded_at: now,
            answers: *answers,
        })
    }
}
