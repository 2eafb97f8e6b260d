//! The working set of one flush: the rows it read, what the rules made of them, and what is to be
//! written. A request that stops half-way leaves no trace in it.
//!
//! Invariant: what a request looks up, it finds by its execution, task or mailbox. No request walks
//! over what others of the flush brought, so that the work of a flush grows with its requests.

mod journal;
mod loaded;
mod mailbox;
mod queues;
mod rows;
#[cfg(test)]
mod tests;
mod undo;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::context::Changes;
use crate::execution::Execution;
use crate::graph::Graph;
use crate::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use crate::payload::Payload;
use crate::task::Task;

use super::effects::{Effects, Mark, Row};
use super::need::TaskSet;
use super::subject::Subject;

use journal::Journal;
use mailbox::Mailbox;
use queues::Head;
use undo::{Address, Undo};

/// The latest execution of an instance, as a start needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// The execution.
    pub id: ExecutionId,
    /// Its generation.
    pub generation: u32,
    /// Digest of its input.
    pub input_hash: String,
}

/// A stored signal.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its mailbox.
    pub name: Arc<str>,
    /// Its number there.
    pub number: i64,
    /// What it carries.
    pub payload: Payload,
}

/// What context rules read of an execution.
#[derive(Clone, Debug, Default)]
pub struct ContextParts {
    /// The context it began with.
    pub base: serde_json::Map<String, serde_json::Value>,
    /// What its tasks changed, by number.
    pub changes: FxHashMap<u32, Changes>,
    /// Checkpoints: what was changed up to and including a task, by number.
    pub checkpoints: FxHashMap<u32, Changes>,
}

/// The working set. The store fills the `loaded` side, the rules the rest.
#[derive(Default)]
pub struct Working {
    /// The time of this flush.
    pub now: Timestamp,
    pub(super) executions: FxHashMap<ExecutionId, Option<Row<Execution>>>,
    pub(super) tasks: FxHashMap<TaskKey, Option<Row<Task>>>,
    /// The keys of `tasks`, by execution.
    tasks_of: FxHashMap<ExecutionId, Vec<TaskKey>>,
    own_graphs: FxHashMap<ExecutionId, Arc<Graph>>,
    graphs: FxHashMap<VersionId, Arc<Graph>>,
    pub(super) workflow_names: FxHashMap<VersionId, Arc<str>>,
    pub(super) instances: FxHashMap<Arc<str>, Option<Latest>>,
    /// Of which executions which tasks were read, and whether more remain than were read.
    task_sets: FxHashMap<(ExecutionId, TaskSet), bool>,
    contexts: FxHashMap<ExecutionId, ContextParts>,
    fresh_changes: FxHashMap<TaskKey, Changes>,
    journals: FxHashMap<TaskKey, Journal>,
    mailboxes: FxHashMap<Address, Mailbox>,
    signal_numbers: FxHashMap<(Arc<str>, Arc<str>), i64>,
    workers: FxHashMap<WorkerId, bool>,
    heads: FxHashMap<VersionId, Head>,
    /// The request that runs, by its place in the order in which the requests were asked for.
    place: usize,
    /// Whether a request before it has not run through.
    is_ahead: bool,
    undo: Vec<Undo>,
    begun: Mark,
    pub(super) effects: Effects,
    #[cfg(test)]
    walked: std::cell::Cell<usize>,
}

impl Working {
    /// An empty working set for a flush at this time.
    pub fn new(now: Timestamp) -> Working {
        Working {
            now,
            ..Working::default()
        }
    }

    /// The next request to run is the one at this place, in the order in which they were asked for.
    /// It is ahead if one before it has not run through yet, since that misses rows.
    pub fn set_place(&mut self, place: usize, is_ahead: bool) {
        (self.place, self.is_ahead) = (place, is_ahead);
    }

    /// Counts, for tests, the rows that a lookup walked over.
    #[cfg(test)]
    fn walked(&self, rows: usize) {
        self.walked.set(self.walked.get() + rows);
    }

    #[cfg(not(test))]
    #[inline(always)]
    fn walked(&self, _rows: usize) {}

    /// What is to be written: rows that changed, and the rest.
    pub fn into_effects(self) -> (Vec<Row<Execution>>, Vec<Row<Task>>, Effects) {
        let mut executions: Vec<_> = self
            .executions
            .into_values()
            .flatten()
            .filter(|row| row.dirty)
            .collect();
        let mut tasks: Vec<_> = self
            .tasks
            .into_values()
            .flatten()
            .filter(|row| row.dirty)
            .collect();
        // In key order: neighbours share pages, and PostgreSQL locks rows in one order.
        executions.sort_unstable_by_key(|row| row.value.id);
        tasks.sort_unstable_by_key(|row| row.value.key);
        (executions, tasks, self.effects)
    }

    /// The subject by one name: an instance is its latest execution, as soon as that is known.
    pub fn resolve(&self, subject: &Subject) -> Subject {
        let Subject::Instance(instance) = subject else {
            return subject.clone();
        };
        match self.instances.get(instance) {
            Some(Some(latest)) => Subject::Execution(latest.id),
            _ => subject.clone(),
        }
    }
}
