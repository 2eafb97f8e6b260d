//! What the changes of a flush come to, before a driver writes them: one insertion or one update of each
//! row, one removal or one addition of each row that is nothing but its key. Sans-I/O, and the same for
//! both databases.

mod steps;
#[cfg(test)]
mod tests;

use std::hash::Hash;

use abide_core::event::Event;
use abide_core::execution::Execution;
use abide_core::ids::{TaskKey, Timestamp};
use abide_core::kernel::{
    Change, Effects, NewExecutionRow, NewTaskRow, OutboxRow, Row, SignalRead, SignalWrite, TaskEnd,
};
use abide_core::payload::Payload;
use abide_core::task::Task;
use abide_core::timer::Timer;
use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::error::StoreError;

pub(crate) use steps::{StepEnding, StepRow, Steps};

/// Everything that a flush writes. The lists are to be written in the order in which they stand here.
#[derive(Default)]
pub(crate) struct Net<'a> {
    pub(crate) new_executions: Vec<(&'a Execution, &'a NewExecutionRow)>,
    pub(crate) executions: Vec<&'a Execution>,
    pub(crate) new_tasks: Vec<(&'a Task, &'a NewTaskRow)>,
    /// Tasks whose rows change, and nothing else of them.
    pub(crate) moved: Vec<&'a Task>,
    /// Tasks whose rows change and whose attempt ended or reported: written once, so that the row
    /// leaves one dead version.
    pub(crate) moved_and_ended: Vec<(&'a Task, TaskEnds)>,
    /// Tasks whose attempt ended or reported, and whose rows change in nothing else.
    pub(crate) ended: Vec<(TaskKey, TaskEnds)>,
    pub(crate) events: &'a [Event],
    pub(crate) outbox: ComeAndGo<OutboxRow>,
    pub(crate) timers: ComeAndGo<Timer>,
    pub(crate) sent: Vec<Sent<'a>>,
    pub(crate) signals_read: Vec<&'a SignalRead>,
    pub(crate) steps: Steps<'a>,
}

impl<'a> Net<'a> {
    pub(crate) fn of(
        now: Timestamp,
        executions: &'a [Row<Execution>],
        tasks: &'a [Row<Task>],
        effects: &'a Effects,
    ) -> Result<Net<'a>, StoreError> {
        let mut net = Net {
            events: &effects.events,
            outbox: ComeAndGo::of(&effects.outbox),
            timers: ComeAndGo::of(&effects.timers),
            steps: Steps::of(now, &effects.steps)?,
            ..Net::default()
        };
        net.add_executions(executions, &effects.new_executions);
        net.add_tasks(tasks, effects)?;
        net.add_signals(&effects.signals, &effects.signals_read);
        Ok(net)
    }

    fn add_executions(&mut self, rows: &'a [Row<Execution>], new: &'a [NewExecutionRow]) {
        let cold: FxHashMap<_, _> = new.iter().map(|row| (row.id, row)).collect();
        for row in rows {
            match row.new {
                true => self.new_executions.push((&row.value, cold[&row.value.id])),
                false => self.executions.push(&row.value),
            }
        }
        // Two flushes that insert the same instances wait for each other in one order.
        self.new_executions
            .sort_by_key(|(row, _)| (&*row.instance, row.generation));
    }

    fn add_tasks(&mut self, rows: &'a [Row<Task>], effects: &'a Effects) -> Result<(), StoreError> {
        let cold: FxHashMap<_, _> = effects.new_tasks.iter().map(|row| (row.key, row)).collect();
        let mut ends = ends(&effects.task_ends, &effects.progress)?;
        for row in rows {
            let key = row.value.key;
            if row.new {
                self.new_tasks.push((&row.value, cold[&key]));
            } else if let Some(end) = ends.remove(&key) {
                self.moved_and_ended.push((&row.value, end));
            } else {
                self.moved.push(&row.value);
            }
        }
        self.ended = ends.into_iter().collect();
        self.ended.sort_unstable_by_key(|(key, _)| *key);
        Ok(())
    }

    fn add_signals(&mut self, sent: &'a [SignalWrite], read: &'a [SignalRead]) {
        // The last word on each counts.
        let mut read: FxHashMap<_, _> = read
            .iter()
            .map(|read| ((&*read.instance, &*read.name, read.number), read))
            .collect();
        for sent in sent {
            let read = read.remove(&(&*sent.instance, &*sent.name, sent.number));
            let by = read.and_then(|read| read.by);
            self.sent.push(Sent { sent, by });
        }
        self.signals_read = read.into_values().collect();
    }
}

/// A signal that is new, and who has read it already.
pub(crate) struct Sent<'a> {
    pub(crate) sent: &'a SignalWrite,
    pub(crate) by: Option<(TaskKey, u32)>,
}

/// What the ends of a task's attempts and its reports within one flush come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TaskEnds {
    /// An attempt ended: its columns take the place of those before, though NULL.
    pub(crate) ended: bool,
    pub(crate) output: Option<Payload>,
    pub(crate) changes: Option<Payload>,
    pub(crate) checkpoint: Option<Payload>,
    pub(crate) error: Option<Payload>,
    pub(crate) progress: Option<String>,
}

/// Later ends replace earlier ones, but for an error, which stays until there is another.
fn ends(
    ends: &[(TaskKey, TaskEnd)],
    progress: &[(TaskKey, String)],
) -> Result<FxHashMap<TaskKey, TaskEnds>, StoreError> {
    let mut folded: FxHashMap<TaskKey, TaskEnds> = FxHashMap::default();
    for (key, end) in ends {
        let TaskEnd {
            output,
            changes,
            checkpoint,
            error,
        } = end;
        if output.is_none() && changes.is_none() && checkpoint.is_none() && error.is_none() {
            continue;
        }
        let into = folded.entry(*key).or_default();
        into.ended = true;
        into.output.clone_from(output);
        into.changes = changes
            .as_ref()
            .map(|changes| Payload::from_json(changes.to_json()));
        into.checkpoint.clone_from(checkpoint);
        if let Some(error) = error {
            into.error = Some(json(error)?);
        }
    }
    for (key, value) in progress {
        folded.entry(*key).or_default().progress = Some(value.clone());
    }
    Ok(folded)
}

/// Rows that are nothing but their key. The last change of each counts: a task that is claimed and
/// becomes ready again within one flush keeps its new row, one that becomes ready and is cancelled has
/// none.
#[derive(Debug, PartialEq)]
pub(crate) struct ComeAndGo<T> {
    pub(crate) removed: Vec<T>,
    pub(crate) added: Vec<T>,
}

impl<T> Default for ComeAndGo<T> {
    fn default() -> Self {
        ComeAndGo {
            removed: Vec::new(),
            added: Vec::new(),
        }
    }
}

impl<T: Copy + Eq + Hash> ComeAndGo<T> {
    pub(crate) fn of(changes: &[Change<T>]) -> ComeAndGo<T> {
        let mut net = ComeAndGo::default();
        match changes {
            [] => {}
            [Change::Add(row)] => net.added.push(*row),
            [Change::Remove(row)] => net.removed.push(*row),
            changes => net.fold(changes),
        }
        net
    }

    fn fold(&mut self, changes: &[Change<T>]) {
        let mut last: FxHashMap<T, usize> = FxHashMap::default();
        for (at, change) in changes.iter().enumerate() {
            let (Change::Add(row) | Change::Remove(row)) = change;
            last.insert(*row, at);
        }
        for (at, change) in changes.iter().enumerate() {
            match change {
                Change::Add(row) if last[row] == at => self.added.push(*row),
                Change::Remove(row) if last[row] == at => self.removed.push(*row),
                _ => {}
            }
        }
    }
}

fn json(value: &impl Serialize) -> Result<Payload, StoreError> {
    let json = serde_json::to_string(value);
    json.map(Payload::from_json)
        .map_err(|error| StoreError::Internal(error.to_string()))
}
