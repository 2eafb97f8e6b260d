//! Whether a failed attempt is followed by another, and when. Pure: the caller brings the random number.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::failure::{Failure, RetryHint};
use crate::text::{NameError, check_name, is_default};

/// Longest wait before a retry: a hundred years, so that adding it to a time never overflows.
pub const MAX_DELAY_US: i64 = 100 * 365 * 86_400 * 1_000_000;

/// How often, when and for which errors a task is tried again. The default is never.
///
/// Stored as JSON with defaults left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryPolicy {
    /// Attempts after the first. Default 0.
    #[serde(skip_serializing_if = "is_default")]
    pub retries: u32,
    /// How the wait grows. Default [`Backoff::default`].
    #[serde(skip_serializing_if = "is_default")]
    pub backoff: Backoff,
    /// Longest wait the backoff may reach, in microseconds. Default none (but [`MAX_DELAY_US`]).
    #[serde(skip_serializing_if = "is_default")]
    pub max_delay_us: Option<i64>,
    /// Share of the wait that is random, 0 to 1: a wait `d` becomes one between `d * (1 - jitter)` and
    /// `d`, so jitter never passes the cap. Default 0.
    #[serde(skip_serializing_if = "is_default")]
    pub jitter: f64,
    /// Kinds of error that are retried; empty means all. The engine's own kinds (`panic`, `timeout`)
    /// are retried only if named too.
    #[serde(skip_serializing_if = "is_default")]
    pub retry_if: Vec<String>,
}

/// How the wait before a retry grows with the number of the attempt that failed (1, 2, 3 ...).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// Always the same wait.
    Fixed {
        /// The wait in microseconds.
        delay_us: i64,
    },
    /// `delay_us * attempt`.
    Linear {
        /// The first wait, and by how much each one grows.
        delay_us: i64,
    },
    /// `delay_us * factor ^ (attempt - 1)`.
    Exponential {
        /// The first wait in microseconds.
        delay_us: i64,
        /// What each wait is multiplied by, at least 1. Default 2.
        #[serde(default = "doubling", skip_serializing_if = "is_doubling")]
        factor: f64,
    },
}

/// Exponential from 100 ms, doubling.
impl Default for Backoff {
    fn default() -> Self {
        Self::Exponential {
            delay_us: 100_000,
            factor: doubling(),
        }
    }
}

fn doubling() -> f64 {
    2.0
}

fn is_doubling(factor: &f64) -> bool {
    *factor == doubling()
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// Another attempt, this many microseconds from now: 0 to [`MAX_DELAY_US`].
    Retry {
        /// The wait.
        delay_us: i64,
    },
    /// None: the task has failed.
    GiveUp,
}

/// What is wrong with a policy's numbers.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum RetryError {
    /// A wait is negative.
    #[error("{field} is {value_us} microseconds; it can't be negative")]
    Negative {
        /// `delay` or `max_delay`.
        field: &'static str,
        /// Its value.
        value_us: i64,
    },
    /// The factor would make waits shrink, or isn't a number.
    #[error("the backoff's factor is {factor}; it must be a number of at least 1")]
    Factor {
        /// The factor.
        factor: f64,
    },
    /// The jitter isn't a share.
    #[error("jitter is {jitter}; it must be between 0 and 1")]
    Jitter {
        /// The jitter.
        jitter: f64,
    },
    /// An error kind isn't a valid name.
    #[error(transparent)]
    Kind(#[from] NameError),
}

impl RetryPolicy {
    /// Decides what follows a failure.
    ///
    /// `attempt` is the number of the attempt that failed, from 1; attempts lost to a crash have a number
    /// too and so count. `random`, in `[0, 1)`, places the wait within the jitter.
    ///
    /// A fatal failure and a kind that `retry_if` leaves out are never retried. A failure that names its
    /// own wait ([`RetryHint::After`]) gets exactly that, neither capped nor jittered (a server's
    /// "retry after" would otherwise be broken), but no more attempts than the policy has.
    ///
    /// ```
    /// use abide_core::failure::Failure;
    /// use abide_core::retry::{Backoff, RetryDecision, RetryPolicy};
    ///
    /// let policy = RetryPolicy {
    ///     retries: 3,
    ///     backoff: Backoff::Exponential { delay_us: 100, factor: 2.0 },
    ///     ..RetryPolicy::default()
    /// };
    /// let failure = Failure::new("io", "disk full");
    /// assert_eq!(policy.decide(3, &failure, 0.0), RetryDecision::Retry { delay_us: 400 });
    /// assert_eq!(policy.decide(4, &failure, 0.0), RetryDecision::GiveUp);
    /// ```
    pub fn decide(&self, attempt: u32, failure: &Failure, random: f64) -> RetryDecision {
        let wanted = self.retry_if.is_empty() || self.retry_if.contains(&failure.kind);
        if attempt > self.retries || !wanted {
            return RetryDecision::GiveUp;
        }
        let delay_us = match failure.retry {
            RetryHint::Fatal => return RetryDecision::GiveUp,
            RetryHint::After(delay_us) => delay_us,
            RetryHint::Default => {
                self.jittered(self.capped(self.backoff.delay_us(attempt)), random)
            }
        };
        RetryDecision::Retry {
            delay_us: delay_us.clamp(0, MAX_DELAY_US),
        }
    }

    /// Checks the numbers, as registering a task does. An unchecked policy is still decided safely.
    pub fn check(&self) -> Result<(), RetryError> {
        let (Backoff::Fixed { delay_us }
        | Backoff::Linear { delay_us }
        | Backoff::Exponential { delay_us, .. }) = self.backoff;
        let waits = [
            ("delay", delay_us),
            ("max_delay", self.max_delay_us.unwrap_or(0)),
        ];
        for (field, value_us) in waits {
            if value_us < 0 {
                return Err(RetryError::Negative { field, value_us });
            }
        }
        if let Backoff::Exponential { factor, .. } = self.backoff
            && !(factor.is_finite() && factor >= 1.0)
        {
            return Err(RetryError::Factor { factor });
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(RetryError::Jitter {
                jitter: self.jitter,
            });
        }
        for kind in &self.retry_if {
            check_name("error kind", kind)?;
        }
        Ok(())
    }

    fn capped(&self, delay_us: i64) -> i64 {
        let cap = self.max_delay_us.unwrap_or(MAX_DELAY_US);
        delay_us.min(cap).clamp(0, MAX_DELAY_US)
    }

    /// Takes the random share off the top, so that the result never passes `delay_us`.
    fn jittered(&self, delay_us: i64, random: f64) -> i64 {
        let share = self.jitter.clamp(0.0, 1.0) * (1.0 - random.clamp(0.0, 1.0));
        // `as` makes 0 of NaN.
        let off = (delay_us as f64 * share) as i64;
        delay_us.saturating_sub(off)
    }
}

impl Backoff {
    /// The wait after this attempt, uncapped and without jitter; saturating.
    fn delay_us(&self, attempt: u32) -> i64 {
        match *self {
            Self::Fixed { delay_us } => delay_us,
            Self::Linear { delay_us } => delay_us.saturating_mul(i64::from(attempt)),
            Self::Exponential { delay_us, factor } => {
                let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
                // `as` saturates, and makes 0 of 0 * infinity.
                (delay_us as f64 * factor.powi(exponent)) as i64
            }
        }
    }
}
