//! Actions: what people and programs do to an execution, all in one envelope. Which action is allowed
//! in which status follows from the table of the executions' moves.

use std::sync::Arc;

use crate::execution::Execution;
use crate::ids::ExecutionId;
use crate::status::ExecutionStatus;
use crate::table::{Built, By, EXECUTIONS, ExecutionMove};

use super::subject::Subject;

/// An action, and who asks for it, on what, and why.
#[derive(Clone, Debug)]
pub struct Act {
    /// What it is done to. An instance is its latest execution.
    pub subject: Subject,
    /// What is done.
    pub action: Action,
    /// Why, as recorded.
    pub reason: String,
    /// Who asks, as recorded.
    pub actor: Option<Arc<str>>,
    /// The version of the execution that the caller saw, if the action depends on it. If the execution has
    /// changed since, the action is refused, unless its result already holds: then the answer is `Unchanged`.
    pub expected_version: Option<u32>,
}

impl Act {
    /// An action on an execution, without a named actor, at any version.
    pub fn on(execution: ExecutionId, action: Action, reason: impl Into<String>) -> Act {
        Act {
            subject: Subject::Execution(execution),
            action,
            reason: reason.into(),
            actor: None,
            expected_version: None,
        }
    }
}

/// What can be done to an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is asked to stop.
    Cancel {
        /// How long running tasks may take to stop before they are cut off, in microseconds.
        grace_us: i64,
    },
    /// Its tasks go before those of executions with a lower priority.
    SetPriority {
        /// See [`Execution::priority`].
        priority: i16,
    },
}

/// All actions, as far as the table knows them: a name, the moves by which it is done, and what was
/// done to its subject.
const ACTIONS: &[(&str, &[ExecutionMove], &str)] = &[
    (
        "cancel",
        &[ExecutionMove::CancelPending, ExecutionMove::RequestCancel],
        "cancelled",
    ),
    (
        "set priority",
        &[ExecutionMove::SetPriority],
        "given another priority",
    ),
];

impl Action {
    /// Its name, in the imperative.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Cancel { .. } => "cancel",
            Action::SetPriority { .. } => "set priority",
        }
    }

    /// The names of the actions that people may do to an execution in this status.
    pub fn allowed_in(status: ExecutionStatus) -> Vec<&'static str> {
        let is_allowed = |name: &ExecutionMove| {
            let mut rows = EXECUTIONS.iter().filter(|row| row.name == *name);
            rows.any(|row| {
                row.built == Built::Now
                    && row.from.contains(&Some(status))
                    && row.by.contains(&By::User)
            })
        };
        let allowed = ACTIONS
            .iter()
            .filter(|(_, moves, _)| moves.iter().any(is_allowed));
        allowed.map(|(name, _, _)| *name).collect()
    }

    /// Whether the execution is as the action would leave it.
    pub(super) fn is_satisfied_by(&self, execution: &Execution) -> bool {
        match self {
            Action::Cancel { .. } => matches!(
                execution.status,
                ExecutionStatus::Cancelling | ExecutionStatus::Cancelled
            ),
            // To one that has ended, its priority means nothing.
            Action::SetPriority { priority } => {
                execution.priority == *priority
                    && Action::allowed_in(execution.status).contains(&self.name())
            }
        }
    }

    /// What it would have done to its subject, in words.
    pub(super) fn done(&self) -> &'static str {
        let mut found = ACTIONS.iter().filter(|(name, _, _)| *name == self.name());
        found.next().map_or("", |(_, _, done)| done)
    }
}

/// Where an execution stands after an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The execution.
    pub execution: ExecutionId,
    /// Its status.
    pub status: ExecutionStatus,
    /// Its version.
    pub version: u32,
}

/// What came of an action that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acted {
    /// It was done.
    Changed(Standing),
    /// Everything was as asked already: nothing was written.
    Unchanged(Standing),
}

impl Acted {
    /// Where the execution stands now.
    pub fn standing(&self) -> Standing {
        match self {
            Acted::Changed(standing) | Acted::Unchanged(standing) => *standing,
        }
    }

    /// The execution's status now.
    pub fn status(&self) -> ExecutionStatus {
        self.standing().status
    }

    /// Whether anything was written.
    pub fn is_changed(&self) -> bool {
        matches!(self, Acted::Changed(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_follows_from_the_table() {
        for &status in ExecutionStatus::ALL {
            let allowed = Action::allowed_in(status);
            let may_be_cancelled = matches!(
                status,
                ExecutionStatus::Pending | ExecutionStatus::Running | ExecutionStatus::Paused
            );
            assert_eq!(allowed.contains(&"cancel"), may_be_cancelled, "{status}");
            assert_eq!(
                allowed.contains(&"set priority"),
                may_be_cancelled,
                "{status}"
            );
        }
    }

    #[test]
    fn every_action_has_its_moves_and_its_words() {
        for (action, done) in [
            (Action::Cancel { grace_us: 0 }, "cancelled"),
            (
                Action::SetPriority { priority: 0 },
                "given another priority",
            ),
        ] {
            assert!(ACTIONS.iter().any(|(name, _, _)| *name == action.name()));
            assert_eq!(action.done(), done);
        }
    }
}
