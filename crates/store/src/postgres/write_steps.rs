//! Writes the recorded operations of tasks. What happened to each number within a flush, in order,
//! comes to at most one removal and one writing of it, in that order: a number may be given up and
//! used again.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use abide_core::ids::{TaskKey, Timestamp};
use abide_core::kernel::{StepChange, StepWrite, Supersede};
use abide_core::step::{StepEnd, StepId, StepState};

use crate::error::StoreError;

use super::columns::{Column, also, insert, int, names, on, text, unnest};
use super::statement::Statement;
use super::write::{json, push, time};

/// Writes the changes of a flush.
pub(super) fn write<'a>(
    statements: &mut Vec<Statement<'a>>,
    now: Timestamp,
    changes: &'a [StepChange],
) -> Result<(), StoreError> {
    let mut folded = Folded::default();
    for change in changes {
        folded.add(now, change)?;
    }
    let Folded {
        numbers,
        mut superseded,
    } = folded;
    let (mut withdrawn, mut answered, mut inserted) = (Vec::new(), Vec::new(), Vec::new());
    for ((key, number), net) in numbers {
        if net.withdrawn {
            withdrawn.push((key, number));
        }
        match net.write {
            Some(row) if row.answers => answered.push(row),
            Some(row) => inserted.push(row),
            None => {}
        }
    }
    push(statements, &SUPERSEDE, &range(), &mut superseded);
    push(statements, &UNREAD, &range(), &mut superseded);
    push(statements, &WITHDRAW, &number(), &mut withdrawn);
    push(statements, &ANSWER, &answer(), &mut answered);
    push(statements, &INSERT, &new_step(), &mut inserted);
    Ok(())
}

/// What is to be done in the end.
#[derive(Default)]
struct Folded<'a> {
    numbers: BTreeMap<(TaskKey, u32), Net<'a>>,
    superseded: Vec<(TaskKey, Supersede)>,
}

/// What the changes of one number come to.
#[derive(Default)]
struct Net<'a> {
    /// A wait that is stored goes first.
    withdrawn: bool,
    write: Option<StepRow<'a>>,
}

struct StepRow<'a> {
    key: TaskKey,
    id: &'a StepId,
    /// Whether a wait that is stored is answered.
    answers: bool,
    state: StepState,
    order: u32,
    due_at: Option<Timestamp>,
    result: Option<Cow<'a, str>>,
    recorded_at: Timestamp,
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
                    row.due_at = wait.due_at;
                    row.answers = wait.answers;
                }
                net.write = Some(row);
            }
            StepChange::Withdraw(key, number) => {
                let net = self.numbers.entry((*key, *number)).or_default();
                match &net.write {
                    // What has ended is not withdrawn.
                    Some(row) if row.state != StepState::Waiting => {}
                    Some(_) => net.write = None,
                    None => net.withdrawn = true,
                }
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
}

impl<'a> StepRow<'a> {
    fn new(now: Timestamp, write: &'a StepWrite) -> Result<StepRow<'a>, StoreError> {
        let StepWrite { key, step, answers } = write;
        let (due_at, result) = match &step.end {
            StepEnd::Waiting { due_at } => (*due_at, None),
            StepEnd::Done(payload) => (None, Some(Cow::Borrowed(payload.as_str()))),
            StepEnd::Failed(failure) => (None, Some(Cow::Owned(json(failure)?))),
        };
        Ok(StepRow {
            key: *key,
            id: &step.id,
            answers: *answers,
            state: step.end.state(),
            order: step.order,
            due_at,
            result,
            recorded_at: now,
        })
    }
}

const KEY: &[&str] = &["execution", "task", "number"];

fn answer<'a>() -> Vec<Column<'a, StepRow<'a>>> {
    vec![
        int("execution", |s| Some(s.key.execution.0)),
        int("task", |s| Some(s.key.number.into())),
        int("number", |s| Some(s.id.number.into())),
        text("state", |s| Some(s.state.as_str().into())),
        int("ordinal", |s| Some(s.order.into())),
        text("result", |s| s.result.take()),
        int("recorded_at", |s| Some(s.recorded_at.0)),
    ]
}

fn new_step<'a>() -> Vec<Column<'a, StepRow<'a>>> {
    also(
        answer(),
        vec![
            text("kind", |s| Some(s.id.kind.as_str().into())),
            text("name", |s| Some(Cow::Borrowed(&*s.id.name))),
            text("fingerprint", |s| {
                s.id.fingerprint.as_deref().map(Cow::Borrowed)
            }),
            int("due_at", |s| time(s.due_at)),
        ],
    )
}

fn number() -> Vec<Column<'static, (TaskKey, u32)>> {
    vec![
        int("execution", |(key, _)| Some(key.execution.0)),
        int("task", |(key, _)| Some(key.number.into())),
        int("number", |(_, number)| Some((*number).into())),
    ]
}

fn range() -> Vec<Column<'static, (TaskKey, Supersede)>> {
    vec![
        int("execution", |(key, _)| Some(key.execution.0)),
        int("task", |(key, _)| Some(key.number.into())),
        int("failed", |(_, supersede)| Some(supersede.failed.into())),
        int("since", |(_, supersede)| Some(supersede.from.into())),
    ]
}

static INSERT: LazyLock<String> = LazyLock::new(|| insert("steps", &new_step()));

static ANSWER: LazyLock<String> = LazyLock::new(|| {
    let answer = answer();
    format!(
        "UPDATE ~steps t SET state = u.state, ordinal = u.ordinal, result = u.result, recorded_at = u.recorded_at \
         FROM {} AS u {} WHERE {} AND t.state = '{}'",
        unnest(&answer),
        names(&answer),
        on(KEY),
        StepState::Waiting
    )
});

static WITHDRAW: LazyLock<String> = LazyLock::new(|| {
    format!(
        "DELETE FROM ~steps t USING {} AS u {} WHERE {} AND t.state = '{}'",
        unnest(&number()),
        names(&number()),
        on(KEY),
        StepState::Waiting
    )
});

/// Steps that no longer count go, with their results.
static SUPERSEDE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "DELETE FROM ~steps t USING {} AS u {} WHERE {} AND (t.number = u.failed OR t.number >= u.since)",
        unnest(&range()),
        names(&range()),
        on(&["execution", "task"]),
    )
});

/// Signals that they read are unread again. Relies on the key of signals, by their instance.
static UNREAD: LazyLock<String> = LazyLock::new(|| {
    format!(
        "UPDATE ~signals t SET read_execution = NULL, read_task = NULL, read_operation = NULL \
         FROM {} AS u {} JOIN ~executions e ON e.id = u.execution \
         WHERE t.instance = e.instance AND t.read_execution = u.execution AND t.read_task = u.task \
         AND (t.read_operation = u.failed OR t.read_operation >= u.since)",
        unnest(&range()),
        names(&range()),
    )
});
