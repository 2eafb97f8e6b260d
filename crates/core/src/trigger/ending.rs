//! How dependencies end.

use std::fmt;

/// How a dependency ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ending {
    /// With a result.
    Completed,
    /// With an error, and no attempts left.
    Failed,
    /// Its process died too often while it ran.
    Abandoned,
    /// Its own trigger rule did not hold.
    Skipped,
    /// It was cancelled.
    Cancelled,
}

impl Ending {
    /// All values.
    pub const ALL: [Self; 5] = [
        Self::Completed,
        Self::Failed,
        Self::Abandoned,
        Self::Skipped,
        Self::Cancelled,
    ];

    /// Whether `failed(..)` holds for it.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Abandoned)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Abandoned => "Abandoned",
            Self::Skipped => "Skipped",
            Self::Cancelled => "Cancelled",
        })
    }
}
