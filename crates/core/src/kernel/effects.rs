//! What a flush writes, as plain data: changed rows, columns that no rule reads, events, and rows
//! that come and go.

use std::sync::Arc;

use crate::context::Changes;
use crate::event::Event;
use crate::failure::Failure;
use crate::graph::Graph;
use crate::ids::{ExecutionId, TaskKey, Timestamp};
use crate::payload::Payload;
use crate::status::ExecutionStatus;
use crate::step::StepRecord;
use crate::timer::Timer;

use super::outbox_row::OutboxRow;
use super::rerun::Supersede;

/// A row and whether it must be written.
#[derive(Clone, Debug)]
pub struct Row<T> {
    /// The row as it is now.
    pub value: T,
    /// It is not in the store yet.
    pub new: bool,
    /// It differs from what is in the store.
    pub dirty: bool,
}

/// Columns of a new execution that no rule reads.
#[derive(Clone, Debug)]
pub struct NewExecutionRow {
    /// The execution.
    pub id: ExecutionId,
    /// Its input.
    pub input: Option<Payload>,
    /// Digest of what it was started with.
    pub input_hash: String,
    /// Labels, a JSON array.
    pub tags: Option<String>,
    /// Its own graph, if it was built at run time.
    pub graph: Option<Arc<Graph>>,
}

/// Columns of a new task that no rule reads.
#[derive(Clone, Debug)]
pub struct NewTaskRow {
    /// The task.
    pub key: TaskKey,
    /// Its graph, which knows its node id and task.
    pub graph: Arc<Graph>,
    /// Its own input, in a graph built at run time.
    pub input: Option<Payload>,
}

/// Payload columns that a task's end sets.
#[derive(Clone, Debug, Default)]
pub struct TaskEnd {
    /// What it returned.
    pub output: Option<Payload>,
    /// What it changed in the context.
    pub changes: Option<Changes>,
    /// All that the context changed up to and including it, as [`Changes`], when a checkpoint was due.
    pub checkpoint: Option<Payload>,
    /// Its last error.
    pub error: Option<Failure>,
}

/// An execution that ended in this flush.
#[derive(Clone, Debug)]
pub struct ExecutionEnd {
    /// Which one.
    pub id: ExecutionId,
    /// How.
    pub status: ExecutionStatus,
}

/// What happens to the record of a task's operations.
#[derive(Clone, Debug)]
pub enum StepChange {
    /// A step is written.
    Write(StepWrite),
    /// A recorded wait is withdrawn, or a record goes that was given back.
    Withdraw(TaskKey, u32),
    /// The signal that was a wait's answer went back to its mailbox.
    GiveBack(TaskKey, u32),
    /// Another signal takes the place of a wait's answer.
    HandOver(TaskKey, u32, Payload),
    /// Steps no longer count.
    Supersede(TaskKey, Supersede),
}

/// A step to write.
#[derive(Clone, Debug)]
pub struct StepWrite {
    /// The task.
    pub key: TaskKey,
    /// The record.
    pub step: StepRecord,
    /// Whether a record of the wait is there already and is answered now.
    pub answers: bool,
}

/// A signal to write.
#[derive(Clone, Debug)]
pub struct SignalWrite {
    /// The instance.
    pub instance: Arc<str>,
    /// Its execution that was live, which alone may read it.
    pub execution: ExecutionId,
    /// The mailbox.
    pub name: Arc<str>,
    /// Its number there.
    pub number: i64,
    /// What it carries.
    pub payload: Payload,
    /// Who sent it.
    pub actor: Option<Arc<str>>,
    /// When.
    pub sent_at: Timestamp,
}

/// A signal that was read, or that is unread again.
#[derive(Clone, Debug)]
pub struct SignalRead {
    /// The instance.
    pub instance: Arc<str>,
    /// The mailbox.
    pub name: Arc<str>,
    /// Its number there.
    pub number: i64,
    /// The task and the operation that read it; none if it is unread again.
    pub by: Option<(TaskKey, u32)>,
}

/// A row that is nothing but its key. What one request adds, a later one of the same flush may
/// remove, and the other way round: so these are written in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// Add it, unless it is there.
    Add(T),
    /// Remove it, if it is there.
    Remove(T),
}

macro_rules! effects {
    ($($(#[$doc:meta])* $field:ident: $type:ty),+ $(,)?) => {
        /// What a flush writes besides its dirty rows, in the order it came about.
        #[derive(Debug, Default)]
        pub struct Effects { $($(#[$doc])* pub $field: Vec<$type>),+ }

        #[derive(Clone, Copy, Debug, Default)]
        pub(super) struct Mark { pub(super) undo: usize, $($field: usize),+ }

        impl Effects {
            pub(super) fn mark(&self, undo: usize) -> Mark { Mark { undo, $($field: self.$field.len()),+ } }
            pub(super) fn truncate(&mut self, mark: Mark) { $(self.$field.truncate(mark.$field);)+ }
        }
    };
}

effects! {
    /// Events to append.
    events: Event,
    /// Columns of new executions.
    new_executions: NewExecutionRow,
    /// Columns of new tasks.
    new_tasks: NewTaskRow,
    /// Columns of ended attempts.
    task_ends: (TaskKey, TaskEnd),
    /// Outbox rows that come and go.
    outbox: Change<OutboxRow>,
    /// Timers that come and go.
    timers: Change<Timer>,
    /// Steps that are written or removed.
    steps: StepChange,
    /// Signals to add.
    signals: SignalWrite,
    /// Signals that were read or are unread again; the last word on each counts.
    signals_read: SignalRead,
    /// Progress values.
    progress: (TaskKey, String),
    /// Executions that ended.
    ended: ExecutionEnd,
}
