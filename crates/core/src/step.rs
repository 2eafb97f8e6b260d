//! Recorded operations of a task: what it did or waits for, by number. Numbers are given when an
//! operation is built, so that concurrent branches replay alike.

use std::fmt;

use serde::Serialize;

use crate::failure::Failure;
use crate::ids::Timestamp;
use crate::payload::Payload;
use crate::texts;

texts! {
    /// What kind of operation a record is of.
    StepKind {
        /// Code that ran once.
        Step = "step",
        /// A durable sleep.
        Sleep = "sleep",
        /// A message that was waited for.
        Signal = "signal",
    }
}

texts! {
    /// How far a recorded operation got.
    StepState {
        /// It is waited for.
        Waiting = "waiting",
        /// It has a result.
        Done = "done",
        /// It ended with an error.
        Failed = "failed",
    }
}

/// Identifies an operation in replay: what the code asks for must be what the record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepId {
    /// Place in the order in which operations were built, from 1.
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
    /// Which one.
    pub id: StepId,
    /// When a sleep is over; none for a signal without an end.
    pub due_at: Option<Timestamp>,
}

/// One recorded operation.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    /// Which one.
    pub id: StepId,
    /// Its end, if it has ended.
    pub end: StepEnd,
    /// Place in the order in which the task's operations ended, from 1; 0 while it waits. Replay
    /// delivers results in this order. Given by the lease holder, who alone writes.
    pub order: u32,
}

/// How a recorded operation stands.
#[derive(Clone, Debug, PartialEq)]
pub enum StepEnd {
    /// It is waited for, until a time if it is a sleep.
    Waiting {
        /// When a sleep is over.
        due_at: Option<Timestamp>,
    },
    /// Its result.
    Done(Payload),
    /// Its error.
    Failed(Failure),
}

impl StepEnd {
    /// The state that is stored.
    pub fn state(&self) -> StepState {
        match self {
            StepEnd::Waiting { .. } => StepState::Waiting,
            StepEnd::Done(_) => StepState::Done,
            StepEnd::Failed(_) => StepState::Failed,
        }
    }
}

/// The result of an operation that a task waited for.
#[derive(Clone, Debug, PartialEq)]
pub struct OperationResult {
    /// Its number.
    pub number: u32,
    /// What it gave: the signal's payload, or `null` for a sleep.
    pub payload: Payload,
}

impl StepId {
    /// How the code's request differs from what is recorded at its number, if it does, in words a
    /// reader can act on.
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

/// The difference when code ended with recorded operations it never asked for.
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
