//! Durable operations: what a task with a [`TaskHandle`] can do. Each operation is a future that
//! talks to the [`operations`] table of its attempt. The worker's driver writes the records.
//!
//! [`step`], [`wait`] (sleeps and signals) and [`defer`] with [`condition`] are the operations; [`place`]
//! tells where they may be asked for. [`cancel`] is the token by which a function hears that it should
//! stop. [`progress`] takes reports, [`reports`] keeps the latest, [`report_writer`] writes it.

mod cancel;
mod condition;
mod defer;
pub(crate) mod operations;
pub(crate) mod place;
mod progress;
pub(crate) mod report_writer;
pub(crate) mod reports;
mod step;
mod wait;

use std::fmt;
use std::sync::Arc;

use abide_core::ids::{ExecutionId, TaskKey};

use crate::attempt::Attempt;

pub use cancel::CancellationToken;
pub use condition::{Condition, Immediate, Polled, Verdict};
pub use defer::{Deadline, Deferred};
pub use progress::ProgressError;
pub(crate) use reports::Report;

/// A task's access to its own execution: waiting without a slot, recorded steps, durable sleeps and
/// signals, progress, cancellation, and the ids of the task.
///
/// A task gets a handle with the parameter `handle: &TaskHandle` or `handle: TaskHandle`. A task
/// without this parameter has no extra cost. Clones are the same handle.
///
/// # Durable operations
///
/// [`step`](TaskHandle::step), [`sleep`](TaskHandle::sleep),
/// [`sleep_until`](TaskHandle::sleep_until) and [`signal`](TaskHandle::signal) are operations, and
/// are recorded. After a crash, a deploy or an eviction the function runs again from the top, and
/// each operation returns its recorded result at once. So between its operations the function must
/// do the same on every run. Put code that depends on the time, on random numbers or on the outside
/// world into a step.
///
/// Operations are identified by the order in which they are *built*, which is the order of the
/// calls. The order in which you await them does not matter, and you can join and race them. A
/// replay has the same winner in each race. Only the function itself may build operations. In the
/// body of a step, in a condition, and in a spawned task while a step runs, they are refused.
///
/// While a task only waits for operations, other tasks use its slot, and its future stays parked in
/// memory. A branch of a `join!` with I/O of its own continues meanwhile, without a slot; put such
/// I/O into a step to keep the slot. If too many tasks are parked, the engine drops the oldest
/// futures from memory, with everything they own (`Drop`s run). It replays such a task when the
/// task's wait ends.
#[derive(Clone)]
pub struct TaskHandle {
    pub(crate) attempt: Arc<Attempt>,
}

impl TaskHandle {
    pub(crate) fn new(attempt: Arc<Attempt>) -> TaskHandle {
        TaskHandle { attempt }
    }

    /// The execution that the task is part of.
    pub fn execution_id(&self) -> ExecutionId {
        self.attempt.key().execution
    }

    /// The instance: the stable id that the execution was started with.
    pub fn instance(&self) -> &str {
        &self.attempt.instance
    }

    /// The id of the task in its workflow.
    pub fn task_id(&self) -> &str {
        &self.attempt.task().id
    }

    /// The id of the node that runs the task. It is the task's id, unless the graph was built at
    /// run time.
    pub fn node_id(&self) -> &str {
        self.attempt.node()
    }

    /// The execution's id and the task's number: the key of the task in the store.
    pub fn key(&self) -> TaskKey {
        self.attempt.key()
    }

    /// The number of this attempt, from 1. It rises after a failure or a crash, but not when the
    /// function is replayed after a wait.
    pub fn attempt(&self) -> u32 {
        self.attempt.number
    }

    /// Whether the task holds one of its worker's slots. It does, except while it waits.
    pub fn holds_slot(&self) -> bool {
        self.attempt.operations().is_active()
    }
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle")
            .field("key", &format_args!("{}", self.key()))
            .field("node", &self.node_id())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
