//! Durable wake-ups: rows that say "at this time, do this".

use crate::ids::{ExecutionId, TaskKey, Timestamp};
use crate::texts;

texts! {
    /// What happens when a timer falls due.
    TimerKind {
        /// Make the roots of an execution ready, from number `from` on.
        Start = "start",
        /// Stop the execution.
        Deadline = "deadline",
        /// Put a task's next attempt into the outbox.
        Retry = "retry",
        /// Wake an evicted task.
        Wait = "wait",
        /// Continue to tell the dependents of an ended task, from number `from` on.
        Propagate = "propagate",
        /// Continue to stop an execution. After the grace period, stop its running tasks by force.
        Cancel = "cancel",
        /// Not a time but a deploy: the task waits for code that matches its record.
        Code = "code",
    }
}

impl TimerKind {
    /// The number stored in `timers.kind`. Never renumbered.
    pub const fn code(self) -> i64 {
        self as i64 + 1
    }

    /// The kind with a stored number.
    pub fn from_code(code: i64) -> Option<TimerKind> {
        usize::try_from(code)
            .ok()?
            .checked_sub(1)
            .and_then(|i| Self::ALL.get(i))
            .copied()
    }
}

/// The due time of a timer that no clock reaches. Only a deploy ends it.
pub const NEVER: Timestamp = Timestamp(i64::MAX);

/// The latest time at which a sleep may end, even if it was meant to last for ever.
pub const LATEST: Timestamp = Timestamp(i64::MAX - 1);

/// A row of `timers`. All its columns are the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timer {
    /// The due time.
    pub due_at: Timestamp,
    /// What happens then.
    pub kind: TimerKind,
    /// The execution.
    pub execution: ExecutionId,
    /// The task; 0 for the execution itself.
    pub task: u32,
    /// Where a piece of work continues.
    pub from: u32,
}

impl Timer {
    /// A timer of an execution.
    pub fn of_execution(
        due_at: Timestamp,
        kind: TimerKind,
        execution: ExecutionId,
        from: u32,
    ) -> Timer {
        Timer {
            due_at,
            kind,
            execution,
            task: 0,
            from,
        }
    }

    /// A timer of a task.
    pub fn of_task(due_at: Timestamp, kind: TimerKind, key: TaskKey, from: u32) -> Timer {
        Timer {
            due_at,
            kind,
            execution: key.execution,
            task: key.number,
            from,
        }
    }

    /// The task that the timer belongs to.
    pub fn key(&self) -> TaskKey {
        TaskKey::new(self.execution, self.task)
    }
}
