//! What the next attempt of a task runs again although it is recorded.

use serde::Serialize;

use crate::step::StepKind;

/// What of a failed attempt's record the next attempt runs again, and what history keeps of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Rerun {
    /// Which records.
    pub supersede: Supersede,
    /// Those of them that had ended, for the event of the retry.
    pub operations: Vec<Superseded>,
}

/// A record that no longer counts, as the event of the retry tells it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Superseded {
    /// The operation's number.
    pub number: u32,
    /// Its kind.
    pub kind: StepKind,
    /// Its name.
    pub name: String,
    /// Its error, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Which records of a failed attempt do not count for the next: the operation whose error ended
/// it, and whatever was begun after that error was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supersede {
    /// The failed operation.
    pub failed: u32,
    /// Operations numbered from here on.
    pub from: u32,
}
