//! Events: facts in the past tense, one stream per execution and one per task. Only
//! [`crate::transition`] makes them; everything else reads them.

use std::sync::Arc;

use crate::ids::{ExecutionId, Timestamp, WorkerId};
use crate::texts;

texts! {
    /// The type of an event: what happened.
    EventType {
        /// The execution was recorded.
        ExecutionCreated = "execution.created",
        /// Its first task was claimed.
        ExecutionStarted = "execution.started",
        /// The execution completed.
        ExecutionCompleted = "execution.completed",
        /// The execution failed.
        ExecutionFailed = "execution.failed",
        /// The execution's deadline passed, and it ended.
        ExecutionTimedOut = "execution.timed_out",
        /// No new task is claimed from now on.
        ExecutionPaused = "execution.paused",
        /// Tasks are claimed again.
        ExecutionResumed = "execution.resumed",
        /// A cancellation of the execution was requested.
        ExecutionCancelling = "execution.cancelling",
        /// The execution stopped on request.
        ExecutionCancelled = "execution.cancelled",
        /// The execution ended by starting its next generation.
        ExecutionContinuedAsNew = "execution.continued_as_new",
        /// A user reset its failed tasks.
        ExecutionRetried = "execution.retried",
        /// A user set an outcome by hand.
        ExecutionForced = "execution.forced",
        /// The task was recorded.
        TaskCreated = "task.created",
        /// Its dependencies have ended and its rule holds.
        TaskMarkedReady = "task.marked_ready",
        /// A worker claimed the task.
        TaskClaimed = "task.claimed",
        /// The task runs in a slot of the worker.
        TaskStarted = "task.started",
        /// The task waits and has released its slot.
        TaskDeferred = "task.deferred",
        /// The task holds a slot again.
        TaskResumed = "task.resumed",
        /// Its future was dropped from memory; the wait is in the store.
        TaskEvicted = "task.evicted",
        /// Its wait is over; it can be claimed.
        TaskWoken = "task.woken",
        /// The task completed.
        TaskCompleted = "task.completed",
        /// An attempt failed.
        TaskFailed = "task.failed",
        /// Another attempt will follow.
        TaskRetryScheduled = "task.retry_scheduled",
        /// Its rule does not hold.
        TaskSkipped = "task.skipped",
        /// Its worker gave it back at shutdown.
        TaskReleased = "task.released",
        /// Its worker died; it can be claimed again.
        TaskRecovered = "task.recovered",
        /// Its workers died too often.
        TaskAbandoned = "task.abandoned",
        /// Its execution was stopped.
        TaskCancelled = "task.cancelled",
        /// A result arrived from a worker that no longer held the task.
        TaskLateResultDiscarded = "task.late_result_discarded",
        /// A user's retry put it back.
        TaskReset = "task.reset",
        /// A user gave the execution another priority.
        ExecutionPriorityChanged = "execution.priority_changed",
    }
}

impl EventType {
    /// The number stored in `execution_events.type`. Never renumbered: new types are appended.
    pub const fn code(self) -> i64 {
        self as i64 + 1
    }

    /// The type with a stored number.
    pub fn from_code(code: i64) -> Option<EventType> {
        usize::try_from(code)
            .ok()?
            .checked_sub(1)
            .and_then(|i| Self::ALL.get(i))
            .copied()
    }

    /// Whether it ends an execution's stream: only an explicit action of a user can add events
    /// after it.
    pub const fn ends_execution(self) -> bool {
        matches!(
            self,
            Self::ExecutionCompleted
                | Self::ExecutionFailed
                | Self::ExecutionTimedOut
                | Self::ExecutionCancelled
                | Self::ExecutionContinuedAsNew
        )
    }

    /// Whether it reports a failure. The query "what failed in the last hour" asks for these types,
    /// and they have an index of their own.
    pub const fn is_failure(self) -> bool {
        matches!(
            self,
            Self::ExecutionFailed
                | Self::ExecutionTimedOut
                | Self::TaskFailed
                | Self::TaskAbandoned
        )
    }
}

/// One entry of a stream. `n` counts from 1 within (execution, task) and equals the row's version
/// after the event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The execution.
    pub execution: ExecutionId,
    /// The task's number; 0 for the execution itself.
    pub task: u32,
    /// Place in the stream, from 1.
    pub n: u32,
    /// What happened.
    pub kind: EventType,
    /// When. Never before the stream's previous event.
    pub at: Timestamp,
    /// The worker that caused it or held the task.
    pub worker: Option<WorkerId>,
    /// The attempt, for task events.
    pub attempt: Option<u32>,
    /// The fencing number, for task events.
    pub epoch: Option<u32>,
    /// The actor, if not a worker: `user:..`, `engine`, `deadline`, `timer`.
    pub actor: Option<Arc<str>>,
    /// The status before: a phase for tasks, a status for executions. None at creation.
    pub from: Option<&'static str>,
    /// The status after.
    pub to: &'static str,
    /// Other changes, as a JSON object.
    pub data: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_stable_and_read_back() {
        assert_eq!(EventType::ExecutionCreated.code(), 1);
        assert_eq!(EventType::TaskCreated.code(), 13);
        assert_eq!(EventType::TaskReset.code(), 30);
        assert_eq!(EventType::ExecutionPriorityChanged.code(), 31);
        for &kind in EventType::ALL {
            assert_eq!(EventType::from_code(kind.code()), Some(kind));
            assert_eq!(EventType::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(EventType::from_code(0), None);
        assert_eq!(EventType::from_code(32), None);
    }
}
