//! The rows of the queue.

use crate::ids::{TaskKey, Timestamp, VersionId, WorkerId};

/// A row of the outbox: "this task can be claimed now" by anyone (`worker` none), or "look at this
/// task" addressed to the worker that holds it. All of it is the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OutboxRow {
    /// Whom it is for.
    pub worker: Option<WorkerId>,
    /// The queue.
    pub queue: VersionId,
    /// Higher goes first. 0 for what is addressed to a worker.
    pub priority: i16,
    /// Since when.
    pub ready_at: Timestamp,
    /// The task.
    pub key: TaskKey,
}
