//! What rules need of the store, and how they stop without it.

use std::sync::Arc;

use crate::ids::{ExecutionId, TaskKey, VersionId, WorkerId};
use crate::table::Illegal;
use crate::texts;

use super::refusal::Refusal;

/// Something a rule needs that was not read yet. The store reads it, in the same transaction, and
/// runs the request again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// The latest execution of an instance.
    Instance(Arc<str>),
    /// An execution's row.
    Execution(ExecutionId),
    /// The name of a workflow version's workflow.
    WorkflowName(VersionId),
    /// A task's row.
    Task(TaskKey),
    /// The graph of an execution: its own, or that of its workflow version.
    Graph(ExecutionId, VersionId, bool),
    /// Rows of those tasks of the execution.
    Tasks(ExecutionId, TaskSet),
    /// What the execution's tasks changed in the context, and the context it began with.
    Context(ExecutionId),
    /// The waits a task has recorded.
    Waits(TaskKey),
    /// How many operations a task has recorded.
    StepCount(TaskKey),
    /// What a task has recorded at a number.
    Step(TaskKey, u32),
    /// The signal that an operation of a task read.
    SignalRead(TaskKey, u32),
    /// The oldest unread signals that were sent to an execution under a name; if some were loaded
    /// already, those that follow.
    Mailbox(ExecutionId, Arc<str>),
    /// The number that the next signal of a name to an instance gets.
    SignalNumber(Arc<str>, Arc<str>),
    /// The tasks of an execution that wait for a signal of that name.
    SignalWaiters(ExecutionId, Arc<str>),
    /// Whether a worker is alive.
    Worker(WorkerId),
    /// The highest priority that was ready in each of these queues when the flush began.
    ReadyHead(Arc<[VersionId]>),
}

texts! {
    /// Tasks of one execution that a rule looks at together.
    TaskSet {
        /// Tasks that have not ended: all that a worker holds, and at most [`super::PIECE`] of the others.
        Open = "open",
        /// Tasks that Failed or were Abandoned.
        Failed = "failed",
        /// Tasks that are Ready: at most one more than [`super::PIECE`].
        Ready = "ready",
    }
}

/// Why a request did not go through.
#[derive(Debug)]
pub enum Stop {
    /// Read these and run it again. None at all: it only has to wait for requests before it.
    Missing(Vec<Need>),
    /// It is refused.
    Refused(Refusal),
}

impl From<Need> for Stop {
    fn from(need: Need) -> Stop {
        Stop::Missing(vec![need])
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl From<Illegal> for Stop {
    fn from(illegal: Illegal) -> Stop {
        Stop::Refused(Refusal::Illegal(illegal))
    }
}
