//! The states of executions and tasks, and the texts that are stored for them. The allowed
//! transitions are in [`crate::table`].

/// Declares an enum whose values are stored and shown as fixed texts.
#[doc(hidden)]
#[macro_export]
macro_rules! texts {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every value, in declared order.
            pub const ALL: &[$name] = &[$($name::$variant),+];

            /// The text that is stored and shown.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text),+ }
            }

            /// The value of a stored text.
            pub fn parse(text: &str) -> Option<$name> {
                match text { $($text => Some($name::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

texts! {
    /// The status of an execution.
    ExecutionStatus {
        /// Recorded; no task is claimed yet. It waits for its start time or for a worker.
        Pending = "Pending",
        /// A worker has claimed a task.
        Running = "Running",
        /// No new task is claimed until it is resumed.
        Paused = "Paused",
        /// A cancellation was requested. The execution ends when no task holds a live lease.
        Cancelling = "Cancelling",
        /// Ended, and every failure was caught.
        Completed = "Completed",
        /// A task failed and no other task caught the failure.
        Failed = "Failed",
        /// The deadline passed before it ended.
        TimedOut = "TimedOut",
        /// Stopped on request.
        Cancelled = "Cancelled",
        /// Ended by starting its next generation.
        ContinuedAsNew = "ContinuedAsNew",
    }
}

impl ExecutionStatus {
    /// Whether only an explicit action of a user can change it again.
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed
                | Self::Failed
                | Self::TimedOut
                | Self::Cancelled
                | Self::ContinuedAsNew
        )
    }
}

texts! {
    /// The status of a task, as stored in its `status` column.
    TaskStatus {
        /// Waits for its dependencies.
        Pending = "Pending",
        /// Can be claimed, now or when its retry falls due.
        Ready = "Ready",
        /// Claimed: see [`SubStatus`].
        Running = "Running",
        /// Ended with a result.
        Completed = "Completed",
        /// Ended with an error and will not be tried again.
        Failed = "Failed",
        /// Its trigger rule did not hold.
        Skipped = "Skipped",
        /// Its process died too often while it ran.
        Abandoned = "Abandoned",
        /// Its execution was stopped before it ended.
        Cancelled = "Cancelled",
    }
}

impl TaskStatus {
    /// Whether only an explicit action of a user can change it again.
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Pending | Self::Ready | Self::Running)
    }
}

texts! {
    /// What a Running task does. Tasks in any other status have no sub-status.
    SubStatus {
        /// Holds a slot.
        Active = "Active",
        /// Waits, and has released its slot.
        Deferred = "Deferred",
    }
}

texts! {
    /// A task's place in its state machine: its status, its sub-status and, for a waiting task,
    /// whether a worker keeps its future in memory. Transitions use this form.
    Phase {
        /// Waits for its dependencies.
        Pending = "Pending",
        /// Can be claimed.
        Ready = "Ready",
        /// Runs in a slot.
        Active = "Running::Active",
        /// Waits, parked in its worker's memory.
        Deferred = "Running::Deferred",
        /// Waits in the store only; no worker holds it.
        Evicted = "Running::Evicted",
        /// See [`TaskStatus::Completed`].
        Completed = "Completed",
        /// See [`TaskStatus::Failed`].
        Failed = "Failed",
        /// See [`TaskStatus::Skipped`].
        Skipped = "Skipped",
        /// See [`TaskStatus::Abandoned`].
        Abandoned = "Abandoned",
        /// See [`TaskStatus::Cancelled`].
        Cancelled = "Cancelled",
    }
}

impl Phase {
    /// The status and sub-status that are stored for this phase.
    pub const fn status(self) -> (TaskStatus, Option<SubStatus>) {
        match self {
            Self::Pending => (TaskStatus::Pending, None),
            Self::Ready => (TaskStatus::Ready, None),
            Self::Active => (TaskStatus::Running, Some(SubStatus::Active)),
            Self::Deferred | Self::Evicted => (TaskStatus::Running, Some(SubStatus::Deferred)),
            Self::Completed => (TaskStatus::Completed, None),
            Self::Failed => (TaskStatus::Failed, None),
            Self::Skipped => (TaskStatus::Skipped, None),
            Self::Abandoned => (TaskStatus::Abandoned, None),
            Self::Cancelled => (TaskStatus::Cancelled, None),
        }
    }

    /// The phase of a stored row, or none if the row contradicts itself: a sub-status without
    /// Running, Running without a sub-status, Active without a worker.
    pub const fn of(status: TaskStatus, sub: Option<SubStatus>, has_worker: bool) -> Option<Phase> {
        Some(match (status, sub, has_worker) {
            (TaskStatus::Running, Some(SubStatus::Active), true) => Self::Active,
            (TaskStatus::Running, Some(SubStatus::Deferred), true) => Self::Deferred,
            (TaskStatus::Running, Some(SubStatus::Deferred), false) => Self::Evicted,
            (TaskStatus::Pending, None, false) => Self::Pending,
            (TaskStatus::Ready, None, false) => Self::Ready,
            (TaskStatus::Completed, None, false) => Self::Completed,
            (TaskStatus::Failed, None, false) => Self::Failed,
            (TaskStatus::Skipped, None, false) => Self::Skipped,
            (TaskStatus::Abandoned, None, false) => Self::Abandoned,
            (TaskStatus::Cancelled, None, false) => Self::Cancelled,
            _ => return None,
        })
    }

    /// Whether only an explicit action of a user can change it again.
    pub const fn is_terminal(self) -> bool {
        self.status().0.is_terminal()
    }

    /// Whether a worker holds the task.
    pub const fn is_held(self) -> bool {
        matches!(self, Self::Active | Self::Deferred)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_reads_back() {
        for &status in ExecutionStatus::ALL {
            assert_eq!(ExecutionStatus::parse(status.as_str()), Some(status));
        }
        for &status in TaskStatus::ALL {
            assert_eq!(TaskStatus::parse(status.as_str()), Some(status));
        }
        assert_eq!(TaskStatus::parse("running"), None);
    }

    #[test]
    fn a_phase_is_what_its_stored_columns_say() {
        for &phase in Phase::ALL {
            let (status, sub) = phase.status();
            assert_eq!(Phase::of(status, sub, phase.is_held()), Some(phase));
        }
        assert_eq!(
            Phase::of(TaskStatus::Completed, Some(SubStatus::Active), false),
            None
        );
        assert_eq!(Phase::of(TaskStatus::Running, None, true), None);
        assert_eq!(
            Phase::of(TaskStatus::Running, Some(SubStatus::Active), false),
            None
        );
    }
}
