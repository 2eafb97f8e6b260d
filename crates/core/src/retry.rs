//! Whether and when another attempt follows a failed one. Pure: the caller passes the random
//! number.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::failure::{Failure, RetryHint};
use crate::text::{NameError, check_name, is_default};

/// Longest wait before a retry: a hundred years, so that adding it to a time never overflows.
pub const MAX_DELAY_US: i64 = 100 * 365 * 86_400 * 1_000_000;

/// How often, when, and for which errors a task is tried again. Default: never.
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

/// How the wait before a retry grows with the number of the failed attempt (1, 2, 3 ...).
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
        /// The first wait, which is also the amount by which each wait grows.
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

/// The decision after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// Another attempt, this many microseconds from now: 0 to [`MAX_DELAY_US`].
    Retry {
        /// The wait.
        delay_us: i64,
    },
    /// No other attempt: the task has failed.
    GiveUp,
}

/// A number in a policy that is out of range.
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
    /// The factor would make waits shrink, or is not a number.
    #[error("the backoff's factor is {factor}; it must be a number of at least 1")]
    Factor {
        /// The factor.
        factor: f64,
    },
    /// The jitter is not between 0 and 1.
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
    /// `attempt` is the number of the failed attempt, from 1. Attempts that were lost to a crash
    /// have a number too, so they count. `random`, in `[0, 1)`, places the wait within the jitter.
    ///
    /// A fatal failure is never retried, nor is a kind that `retry_if` leaves out. A failure that
    /// sets its own wait ([`RetryHint::After`]) gets exactly that wait, without cap or jitter,
    /// because otherwise a server's "retry after" would be violated. It gets no more attempts than
    /// the policy has.
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

    /// Checks the numbers, as registering a task does. Deciding with an unchecked policy is still
    /// safe.
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

    /// Subtracts the random share, so that the result never exceeds `delay_us`.
    fn jittered(&self, delay_us: i64, random: f64) -> i64 {
        let share = self.jitter.clamp(0.0, 1.0) * (1.0 - random.clamp(0.0, 1.0));
        // `as` turns NaN into 0.
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
                // `as` saturates, and turns 0 * infinity into 0.
                (delay_us as f64 * factor.powi(exponent)) as i64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn policy(retries: u32, backoff: Backoff) -> RetryPolicy {
        RetryPolicy {
            retries,
            backoff,
            ..RetryPolicy::default()
        }
    }

    fn exponential(delay_us: i64, factor: f64) -> Backoff {
        Backoff::Exponential { delay_us, factor }
    }

    fn error() -> Failure {
        Failure::new("io", "disk full")
    }

    /// The waits after attempts 1, 2, 3 ...
    fn delays(policy: &RetryPolicy) -> Vec<i64> {
        let decisions = (1..).map(|attempt| policy.decide(attempt, &error(), 0.5));
        decisions
            .map_while(|decision| match decision {
                RetryDecision::Retry { delay_us } => Some(delay_us),
                RetryDecision::GiveUp => None,
            })
            .collect()
    }

    #[test]
    fn nothing_is_retried_by_default() {
        let decision = RetryPolicy::default().decide(1, &error(), 0.0);
        assert_eq!(decision, RetryDecision::GiveUp);
    }

    #[test]
    fn waits_grow_as_the_backoff_says() {
        let check = |backoff: Backoff, expected: &[i64]| {
            assert_eq!(delays(&policy(4, backoff)), expected, "{backoff:?}");
        };
        check(Backoff::Fixed { delay_us: 7 }, &[7, 7, 7, 7]);
        check(Backoff::Linear { delay_us: 7 }, &[7, 14, 21, 28]);
        check(exponential(100, 2.0), &[100, 200, 400, 800]);
        check(exponential(100, 1.5), &[100, 150, 225, 337]);
        check(Backoff::default(), &[100_000, 200_000, 400_000, 800_000]);
        check(Backoff::Fixed { delay_us: 0 }, &[0; 4]);
    }

    #[test]
    fn cap_bounds_the_backoff() {
        let capped = RetryPolicy {
            max_delay_us: Some(300),
            ..policy(4, exponential(100, 2.0))
        };
        assert_eq!(delays(&capped), [100, 200, 300, 300]);
    }

    #[test]
    fn jitter_takes_its_share_off_the_capped_wait() {
        let jittered = RetryPolicy {
            max_delay_us: Some(1000),
            jitter: 0.25,
            ..policy(1, Backoff::Fixed { delay_us: 5000 })
        };
        let check = |random: f64, delay_us: i64| {
            let decision = jittered.decide(1, &error(), random);
            assert_eq!(
                decision,
                RetryDecision::Retry { delay_us },
                "random {random}"
            );
        };
        check(0.0, 750);
        check(0.5, 875);
        check(1.0, 1000);
    }

    #[test]
    fn huge_numbers_saturate_at_the_longest_wait() {
        for backoff in [
            Backoff::Fixed { delay_us: i64::MAX },
            Backoff::Linear { delay_us: i64::MAX },
            exponential(i64::MAX, 2.0),
            exponential(1, f64::MAX),
        ] {
            let decision = policy(u32::MAX, backoff).decide(u32::MAX, &error(), 0.0);
            let delay_us = MAX_DELAY_US;
            assert_eq!(decision, RetryDecision::Retry { delay_us }, "{backoff:?}");
        }
        // Nothing times infinity is nothing.
        let decision = policy(u32::MAX, exponential(0, 2.0)).decide(u32::MAX, &error(), 0.0);
        assert_eq!(decision, RetryDecision::Retry { delay_us: 0 });
    }

    #[test]
    fn fatal_failures_are_never_retried() {
        let failure = error().with_retry(RetryHint::Fatal);
        let decision = policy(5, Backoff::default()).decide(1, &failure, 0.0);
        assert_eq!(decision, RetryDecision::GiveUp);
    }

    #[test]
    fn failure_may_name_its_wait_but_gets_no_more_attempts() {
        let policy = RetryPolicy {
            max_delay_us: Some(10),
            jitter: 1.0,
            ..policy(1, Backoff::Fixed { delay_us: 5 })
        };
        let check = |attempt: u32, after: i64, expected: RetryDecision| {
            let failure = error().with_retry(RetryHint::After(after));
            assert_eq!(policy.decide(attempt, &failure, 0.0), expected);
        };
        check(
            1,
            60_000_000,
            RetryDecision::Retry {
                delay_us: 60_000_000,
            },
        );
        check(1, -1, RetryDecision::Retry { delay_us: 0 });
        check(
            1,
            i64::MAX,
            RetryDecision::Retry {
                delay_us: MAX_DELAY_US,
            },
        );
        check(2, 60_000_000, RetryDecision::GiveUp);
    }

    #[test]
    fn only_the_kinds_named_are_retried() {
        let policy = RetryPolicy {
            retry_if: vec!["io".into(), "timeout".into()],
            ..policy(1, Backoff::Fixed { delay_us: 5 })
        };
        let retried = |kind: &str| {
            let failure = Failure::new(kind, "").with_retry(RetryHint::After(1));
            policy.decide(1, &failure, 0.0) != RetryDecision::GiveUp
        };
        assert!(retried("io"));
        assert!(retried("timeout"));
        assert!(!retried("parse"));
        assert!(!retried("panic"));
    }

    #[test]
    fn defaults_are_not_stored() {
        let check = |policy: RetryPolicy, expected: Value| {
            assert_eq!(serde_json::to_value(&policy).unwrap(), expected);
            assert_eq!(
                serde_json::from_value::<RetryPolicy>(expected).unwrap(),
                policy
            );
        };
        check(RetryPolicy::default(), json!({}));
        check(
            policy(3, exponential(5, 2.0)),
            json!({"retries": 3, "backoff": {"exponential": {"delay_us": 5}}}),
        );
        check(
            RetryPolicy {
                max_delay_us: Some(9),
                jitter: 0.1,
                retry_if: vec!["io".into()],
                ..policy(1, exponential(5, 1.5))
            },
            json!({
                "retries": 1,
                "backoff": {"exponential": {"delay_us": 5, "factor": 1.5}},
                "max_delay_us": 9,
                "jitter": 0.1,
                "retry_if": ["io"],
            }),
        );
        check(
            policy(1, Backoff::Linear { delay_us: 5 }),
            json!({"retries": 1, "backoff": {"linear": {"delay_us": 5}}}),
        );
        check(
            policy(1, Backoff::Fixed { delay_us: 5 }),
            json!({"retries": 1, "backoff": {"fixed": {"delay_us": 5}}}),
        );
    }

    #[test]
    fn numbers_that_mean_nothing_are_refused() {
        let check = |policy: RetryPolicy, message: &str| {
            assert_eq!(policy.check().unwrap_err().to_string(), message);
        };
        let plain = RetryPolicy::default;
        check(
            policy(1, Backoff::Fixed { delay_us: -5 }),
            "delay is -5 microseconds; it can't be negative",
        );
        check(
            RetryPolicy {
                max_delay_us: Some(-1),
                ..plain()
            },
            "max_delay is -1 microseconds; it can't be negative",
        );
        for factor in [0.99, f64::NAN, f64::INFINITY, -2.0] {
            check(
                policy(1, exponential(1, factor)),
                &format!("the backoff's factor is {factor}; it must be a number of at least 1"),
            );
        }
        for jitter in [-0.1, 1.1, f64::NAN] {
            check(
                RetryPolicy { jitter, ..plain() },
                &format!("jitter is {jitter}; it must be between 0 and 1"),
            );
        }
        check(
            RetryPolicy {
                retry_if: vec![String::new()],
                ..plain()
            },
            "error kind is empty",
        );
        assert_eq!(plain().check(), Ok(()));
    }

    fn backoffs(
        delay: impl Strategy<Value = i64>,
        factor: BoxedStrategy<f64>,
    ) -> impl Strategy<Value = Backoff> {
        (delay, factor, 0..3).prop_map(|(delay_us, factor, kind)| match kind {
            0 => Backoff::Fixed { delay_us },
            1 => Backoff::Linear { delay_us },
            _ => Backoff::Exponential { delay_us, factor },
        })
    }

    proptest! {
        #[test]
        fn no_numbers_make_a_wait_negative_or_endless(
            backoff in backoffs(any::<i64>(), any::<f64>().boxed()),
            retries in any::<u32>(),
            max_delay_us in any::<Option<i64>>(),
            jitter in any::<f64>(),
            attempt in any::<u32>(),
            random in any::<f64>(),
        ) {
            let policy = RetryPolicy { max_delay_us, jitter, ..policy(retries, backoff) };
            match policy.decide(attempt, &error(), random) {
                RetryDecision::GiveUp => prop_assert!(attempt > retries),
                RetryDecision::Retry { delay_us } => {
                    prop_assert!(attempt <= retries);
                    prop_assert!((0..=MAX_DELAY_US).contains(&delay_us));
                    prop_assert!(max_delay_us.is_none_or(|cap| delay_us <= cap.max(0)));
                }
            }
        }

        #[test]
        fn waits_never_shrink_and_jitter_stays_in_its_share(
            backoff in backoffs(0..1_000_000_000_i64, (1.0..4.0_f64).boxed()),
            max_delay_us in prop::option::of(0..10_000_000_000_i64),
            jitter in 0.0..=1.0_f64,
            random in 0.0..1.0_f64,
        ) {
            let steady = RetryPolicy { max_delay_us, ..policy(20, backoff) };
            prop_assert_eq!(steady.check(), Ok(()));
            let waits = delays(&steady);
            prop_assert!(waits.is_sorted());
            let jittered = RetryPolicy { jitter, ..steady };
            for (wait, attempt) in waits.into_iter().zip(1..) {
                let RetryDecision::Retry { delay_us } = jittered.decide(attempt, &error(), random)
                else {
                    return Err(TestCaseError::fail("an attempt was left"));
                };
                let least = (wait as f64 * (1.0 - jitter)).floor() as i64 - 1;
                prop_assert!((least..=wait).contains(&delay_us), "{} of {}", delay_us, wait);
            }
        }

        #[test]
        fn stored_policies_come_back_exactly(
            backoff in backoffs(0..i64::MAX, (1.0..1e9_f64).boxed()),
            jitter in 0.0..=1.0_f64,
            retry_if in prop::collection::vec("[a-z]{1,5}", 0..3),
        ) {
            let written = RetryPolicy { jitter, retry_if, ..policy(3, backoff) };
            let json = serde_json::to_string(&written).unwrap();
            prop_assert_eq!(serde_json::from_str::<RetryPolicy>(&json).unwrap(), written);
        }
    }
}
