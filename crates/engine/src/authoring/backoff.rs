//! The wait before a retry, as durations.

use std::time::Duration;

use abide_core::retry;

use crate::clock::us_of;

/// How the wait before a retry grows from attempt to attempt.
///
/// ```
/// use abide::Backoff;
/// use std::time::Duration;
///
/// // 100 ms, 300 ms, 900 ms, then always a second.
/// let backoff = Backoff::exponential(Duration::from_millis(100)).factor(3.0).max(Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "a backoff does nothing until a task has it"]
pub struct Backoff {
    growth: retry::Backoff,
    max_us: Option<i64>,
}

impl Backoff {
    /// Always the same wait.
    pub fn fixed(delay: Duration) -> Backoff {
        Backoff {
            growth: retry::Backoff::Fixed {
                delay_us: us_of(delay),
            },
            max_us: None,
        }
    }

    /// `delay` before the second attempt, twice as much before the third, and so on.
    pub fn linear(delay: Duration) -> Backoff {
        Backoff {
            growth: retry::Backoff::Linear {
                delay_us: us_of(delay),
            },
            max_us: None,
        }
    }

    /// `delay` before the second attempt, then each wait twice the one before.
    pub fn exponential(delay: Duration) -> Backoff {
        let growth = retry::Backoff::Exponential {
            delay_us: us_of(delay),
            factor: 2.0,
        };
        Backoff {
            growth,
            max_us: None,
        }
    }

    /// The factor by which an exponential backoff multiplies each wait, at least 1. Has no effect
    /// on the other kinds. Default 2.
    pub fn factor(mut self, by: f64) -> Backoff {
        if let retry::Backoff::Exponential { factor, .. } = &mut self.growth {
            *factor = by;
        }
        self
    }

    /// The longest wait. Default: no limit.
    pub fn max(mut self, delay: Duration) -> Backoff {
        self.max_us = Some(us_of(delay));
        self
    }

    pub(super) fn into_parts(self) -> (retry::Backoff, Option<i64>) {
        (self.growth, self.max_us)
    }
}
