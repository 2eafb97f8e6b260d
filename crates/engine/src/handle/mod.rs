//! The door to durable operations: what a task that asks for a [`TaskHandle`] can do. Each
//! operation is a future that talks to the [`operations`] table of its attempt; the worker's
//! driver does the writing.

mod cancel;
mod condition;
mod defer;
pub(crate) mod operations;
pub(crate) mod progress;
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

/// A task's hold on its own execution: waiting without a slot, recorded steps, durable sleeps and
/// signals, progress, cancellation, and who it is.
///
/// A task gets one by asking for it, `handle: &TaskHandle` or `handle: TaskHandle`; a task that
/// doesn't pays for none of it. Clones are the same handle.
///
/// # Durable operations
///
/// [`step`](TaskHandle::step), [`sleep`](TaskHandle::sleep), [`sleep_until`](TaskHandle::sleep_until)
/// and [`signal`](TaskHandle::signal) are recorded. After a crash, a deploy or an eviction the
/// function runs again from the top, and each of them returns at once what is recorded. So between
/// them the code must do the same on every run: what depends on time, chance or the world goes
/// into a step. Operations are told apart by the order in which they are *built*, that is, called;
/// it doesn't matter in which order they are awaited, and they can be joined and raced.
///
/// While a task does nothing but wait for these, its slot is free for others and its future stays
/// parked in memory. A branch of a `join!` with I/O of its own goes on meanwhile, without a slot;
/// put such I/O into a step and the slot is kept. When too many tasks are parked, the oldest are
/// dropped from memory (so is everything their futures own: `Drop`s run) and replayed when what
/// they wait for comes.
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

    /// The stable id that the execution was started with.
    pub fn instance(&self) -> &str {
        &self.attempt.instance
    }

    /// The id of the task in its workflow.
    pub fn task_id(&self) -> &str {
        &self.attempt.task().id
    }

    /// The id of the node that runs the task: the task's own, unless the graph was built at run
    /// time.
    pub fn node_id(&self) -> &str {
        self.attempt.node()
    }

    /// Execution and number of the task: the key under which the store knows it.
    pub fn key(&self) -> TaskKey {
        self.attempt.key()
    }

    /// Which attempt this is, from 1. It rises after a failure or a crash, not when the function
    /// is replayed after a wait.
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
