//! Recorded operations of a task, by number: the steps that it ran and the waits that it began. An
//! operation gets its number when it is built, so that concurrent branches replay the same way.

use std::fmt;

use serde::Serialize;

use crate::failure::Failure;
use crate::ids::Timestamp;
use crate::payload::Payload;
use crate::texts;

texts! {
    /// The kind of an operation.
    StepKind {
        /// Code that ran once.
        Step = "step",
        /// A durable sleep.
        Sleep = "sleep",
        /// A wait for a signal.
        Signal = "signal",
    }
}

texts! {
    /// The state of a recorded operation.
    StepState {
        /// The task waits for it.
        Waiting = "waiting",
        /// It has a result.
        Done = "done",
        /// It ended with an error.
        Failed = "failed",
        /// It received a signal that the code did not take. The signal went back to its mailbox.
        GivenBack = "given_back",
    }
}

/// Identifies an operation in replay: the code's operation must equal the recorded one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepId {
    /// Its position in the order in which operations were built, from 1.
    pub number: u32,
    /// Its kind.
    pub kind: StepKind,
    /// Its name.
    pub name: String,
    /// Digest of its input, where it has one.
    pub fingerprint: Option<String>,
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind, self.name)
    }
}

/// A durable wait.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Its identity.
    pub id: StepId,
    /// When a sleep ends; none for a signal without an end.
    pub due_at: Option<Timestamp>,
}

impl Operation {
    /// What it waits for; none if it is a step, which runs instead.
    pub fn wait(&self) -> Option<Wait<'_>> {
        match self.id.kind {
            StepKind::Step => None,
            StepKind::Sleep => self.due_at.map(Wait::Until),
            StepKind::Signal => Some(Wait::Message(&self.id.name)),
        }
    }
}

/// What a durable wait waits for. A new kind of wait is a variant here, and a rule where waits are
/// looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait<'a> {
    /// A time.
    Until(Timestamp),
    /// The next message of a mailbox.
    Message(&'a str),
}

/// One recorded operation.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    /// Its identity.
    pub id: StepId,
    /// Its result or error, if it has ended.
    pub end: StepEnd,
    /// Its position in the order in which the task's operations ended, from 1; 0 while the task
    /// waits for it. Replay delivers results in this order. The lease holder sets it, because only
    /// the lease holder writes.
    pub order: u32,
}

/// The end of a recorded operation, or its wait.
#[derive(Clone, Debug, PartialEq)]
pub enum StepEnd {
    /// The task waits for it; for a sleep, until a time.
    Waiting {
        /// When a sleep ends.
        due_at: Option<Timestamp>,
    },
    /// Its result.
    Done(Payload),
    /// Its error.
    Failed(Failure),
    /// The signal that it received went back to its mailbox. The record keeps its position in the
    /// order of results. It has no other effect, and the operation may wait again.
    GivenBack,
}

impl StepEnd {
    /// The state that is stored.
    pub fn state(&self) -> StepState {
        match self {
            StepEnd::Waiting { .. } => StepState::Waiting,
            StepEnd::Done(_) => StepState::Done,
            StepEnd::Failed(_) => StepState::Failed,
            StepEnd::GivenBack => StepState::GivenBack,
        }
    }
}

/// The result of an operation that a task waited for.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationResult {
    /// Its number.
    pub number: u32,
    /// Its result: the signal's payload, or `null` for a sleep; or its failure.
    pub result: Result<Payload, Failure>,
}

impl StepId {
    /// The difference between the code's operation and the recorded operation with the same number,
    /// if there is one, in words that tell a reader what to change.
    pub fn difference(&self, recorded: &StepId) -> Option<String> {
        if self == recorded {
            return None;
        }
        Some(
            if (self.kind, &self.name) == (recorded.kind, &recorded.name) {
                format!(
                    "operation {}: {} `{}` was recorded with another input",
                    self.number, self.kind, self.name
                )
            } else {
                format!(
                    "operation {}: recorded {} `{}`, but the code asks for {} `{}`",
                    self.number, recorded.kind, recorded.name, self.kind, self.name
                )
            },
        )
    }
}

/// The difference if the code ended and recorded operations are left that it never called.
pub fn unread_difference(unread: &[StepId]) -> Option<String> {
    let first = unread.first()?;
    Some(format!(
        "operation {}: recorded {} `{}`, but the code ended without asking for it ({} recorded operations unread)",
        first.number,
        first.kind,
        first.name,
        unread.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32, kind: StepKind, name: &str, fingerprint: Option<&str>) -> StepId {
        StepId {
            number,
            kind,
            name: name.to_owned(),
            fingerprint: fingerprint.map(str::to_owned),
        }
    }

    #[test]
    fn equal_operations_do_not_differ() {
        let charge = id(1, StepKind::Step, "charge", Some("ab"));
        assert_eq!(charge.difference(&charge.clone()), None);
    }

    #[test]
    fn a_difference_names_both_sides() {
        let asked = id(2, StepKind::Sleep, "pause", None);
        let recorded = id(2, StepKind::Step, "charge", None);
        assert_eq!(
            asked.difference(&recorded).as_deref(),
            Some("operation 2: recorded step `charge`, but the code asks for sleep `pause`")
        );
        let other_input = id(2, StepKind::Step, "charge", Some("cd"));
        assert_eq!(
            other_input.difference(&recorded).as_deref(),
            Some("operation 2: step `charge` was recorded with another input")
        );
    }

    #[test]
    fn unread_records_are_a_difference() {
        assert_eq!(unread_difference(&[]), None);
        let left = [
            id(3, StepKind::Signal, "approval", None),
            id(4, StepKind::Step, "ship", None),
        ];
        let text = unread_difference(&left).expect("two are unread");
        assert!(
            text.contains("operation 3: recorded signal `approval`"),
            "{text}"
        );
        assert!(text.contains("2 recorded operations unread"), "{text}");
    }
}
