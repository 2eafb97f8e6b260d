//! What tasks have recorded: their operations, the waits among them, and the signals they read.

use rustc_hash::FxHashMap;

use crate::ids::TaskKey;
use crate::kernel::effects::{StepChange, StepWrite};
use crate::kernel::need::{Need, Stop};
use crate::kernel::refusal::Refusal;
use crate::kernel::rerun::Supersede;
use crate::step::{Operation, StepRecord};

use super::undo::Undo;
use super::{Message, Working};

/// What stands at an operation's number.
#[derive(Clone, Debug)]
pub(super) enum Recorded {
    /// A record, in words. No other may be written there.
    Taken(String),
    /// What was given back, which another record may replace.
    GivenBack,
}

/// What this flush knows of the record of one task.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// Its waits, once they were read.
    pub(super) waits: Option<Vec<Operation>>,
    /// How many operations are stored, once that was read.
    pub(super) stored: Option<u32>,
    /// How many more this flush wrote than it withdrew.
    pub(super) added: i64,
    /// What stands at the numbers that were read.
    pub(super) steps: FxHashMap<u32, Option<Recorded>>,
    /// The signals that operations have read.
    pub(super) reads: FxHashMap<u32, Option<Message>>,
}

impl Working {
    pub(super) fn journal(&mut self, key: TaskKey) -> &mut Journal {
        self.journals.entry(key).or_default()
    }

    pub(in crate::kernel) fn waits(&self, key: TaskKey) -> Result<&[Operation], Stop> {
        let waits = self
            .journals
            .get(&key)
            .and_then(|journal| journal.waits.as_deref());
        waits.ok_or_else(|| Need::Waits(key).into())
    }

    pub(in crate::kernel) fn set_waits(&mut self, key: TaskKey, waits: Vec<Operation>) {
        let before = self.journal(key).waits.replace(waits);
        self.undo.push(Undo::Waits(key, before));
    }

    /// How many operations the task has recorded, with what this flush added and withdrew. It
    /// superseded none: what it makes ready for another attempt it does not claim from the outbox.
    pub(in crate::kernel) fn step_count(&self, key: TaskKey) -> Result<u32, Stop> {
        let journal = self.journals.get(&key);
        let counted = journal.and_then(|journal| Some((journal.stored?, journal.added)));
        let (stored, added) = counted.ok_or(Need::StepCount(key))?;
        Ok((i64::from(stored) + added) as u32)
    }

    fn count_step(&mut self, key: TaskKey, more: i64) {
        let added = &mut self.journals.entry(key).or_default().added;
        self.undo.push(Undo::StepsAdded(key, *added));
        *added += more;
    }

    /// Writes a step where none is.
    pub(in crate::kernel) fn add_step(
        &mut self,
        key: TaskKey,
        step: StepRecord,
    ) -> Result<(), Stop> {
        let number = step.id.number;
        let steps = &mut self.journals.entry(key).or_default().steps;
        let recorded = steps.get_mut(&number).ok_or(Need::Step(key, number))?;
        if let Some(Recorded::Taken(recorded)) = recorded {
            let recorded = recorded.clone();
            return Err(Refusal::StepTaken {
                key,
                number,
                recorded,
            }
            .into());
        }
        let before = recorded.replace(Recorded::Taken(step.id.to_string()));
        if before.is_some() {
            self.effects.steps.push(StepChange::Withdraw(key, number));
        } else {
            self.count_step(key, 1);
        }
        self.undo.push(Undo::Step(key, number, before));
        let write = StepWrite {
            key,
            step,
            answers: false,
        };
        self.effects.steps.push(StepChange::Write(write));
        Ok(())
    }

    /// Writes the result of a recorded wait.
    pub(in crate::kernel) fn answer_wait(&mut self, key: TaskKey, step: StepRecord) {
        let write = StepWrite {
            key,
            step,
            answers: true,
        };
        self.effects.steps.push(StepChange::Write(write));
    }

    pub(in crate::kernel) fn withdraw_wait(&mut self, key: TaskKey, number: u32) {
        let journal = self.journals.entry(key).or_default();
        if let Some(recorded) = journal.steps.get_mut(&number)
            && let Some(before) = recorded.take()
        {
            self.undo.push(Undo::Step(key, number, Some(before)));
        }
        if let Some(signal) = journal.reads.get_mut(&number)
            && let Some(before) = signal.take()
        {
            self.undo.push(Undo::SignalRead(key, number, Some(before)));
        }
        self.count_step(key, -1);
        self.effects.steps.push(StepChange::Withdraw(key, number));
    }

    pub(in crate::kernel) fn supersede(&mut self, key: TaskKey, supersede: Supersede) {
        let is_superseded = |of: u32| of == supersede.failed || of >= supersede.from;
        let journal = self.journals.entry(key).or_default();
        let known = journal.steps.len() + journal.reads.len();
        for (&number, recorded) in &mut journal.steps {
            if is_superseded(number)
                && let Some(before) = recorded.take()
            {
                self.undo.push(Undo::Step(key, number, Some(before)));
            }
        }
        for (&number, signal) in &mut journal.reads {
            if is_superseded(number)
                && let Some(before) = signal.take()
            {
                self.undo.push(Undo::SignalRead(key, number, Some(before)));
            }
        }
        self.walked(known);
        let change = StepChange::Supersede(key, supersede);
        self.effects.steps.push(change);
    }

    /// An answered wait gave its signal back: another wait may be recorded in its place.
    pub(in crate::kernel) fn give_back_step(&mut self, key: TaskKey, number: u32) {
        let steps = &mut self.journal(key).steps;
        let before = steps.insert(number, Some(Recorded::GivenBack)).flatten();
        self.undo.push(Undo::Step(key, number, before));
        self.effects.steps.push(StepChange::GiveBack(key, number));
    }

    /// The signal that an operation of a task read, as far as it was not given back.
    pub(in crate::kernel) fn signal_read(
        &self,
        key: TaskKey,
        operation: u32,
    ) -> Result<Option<&Message>, Stop> {
        let journal = self.journals.get(&key);
        let read = journal.and_then(|journal| journal.reads.get(&operation));
        Ok(read.ok_or(Need::SignalRead(key, operation))?.as_ref())
    }

    /// Notes what an operation of a task has read now.
    pub(in crate::kernel) fn set_signal_read(
        &mut self,
        key: TaskKey,
        operation: u32,
        signal: Option<Message>,
    ) {
        let reads = &mut self.journal(key).reads;
        let before = reads.insert(operation, signal).flatten();
        self.undo.push(Undo::SignalRead(key, operation, before));
    }
}
