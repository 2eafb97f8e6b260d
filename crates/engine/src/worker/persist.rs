//! Writing what a held task has to say, for as long as it takes: a store that is busy, full or
//! away is asked again until it answers or the task is no longer this worker's.

use std::time::Duration;

use abide_core::failure::Failure;
use abide_core::kernel::{Outcome, Refusal, Reply, Request};
use abide_store::{ApplyError, StoreError};

use super::Worker;
use super::drive::Ending;
use crate::attempt::Attempt;
use crate::random::Random;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Growing pauses with jitter, between two attempts to reach the store.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }

    /// Waits. This is about a disk or another process, so it goes by real time, whatever the
    /// engine's clock.
    pub(super) async fn pause(&mut self, random: &Random) {
        let whole = FIRST_PAUSE * 2_u32.pow(self.tries.min(8));
        self.tries += 1;
        let pause = whole.min(LONGEST_PAUSE).mul_f64(0.5 + random.unit() / 2.0);
        tokio::time::sleep(pause).await;
    }
}

/// The kind of failure of a task whose writes the store refuses for good.
const UNWRITABLE: &str = "unwritable";

impl Worker {
    /// Applies a request of a running attempt; says how the attempt ends if it can't be.
    pub(super) async fn apply_held(
        &self,
        attempt: &Attempt,
        request: &Request,
    ) -> Result<Reply, Ending> {
        let mut backoff = Backoff::default();
        loop {
            let error = match self.store.apply(request.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(ApplyError::Refused(refusal)) => return Err(refused(attempt, refusal)),
                Err(ApplyError::Store(error)) => error,
            };
            tracing::warn!(task = %attempt.key(), %error, "what a task did could not be written");
            match error {
                StoreError::Closed => return Err(Ending::Lost),
                // Whether it was written or not: the record tells the next run.
                error if !error.is_definite() => {
                    return Err(Ending::released("the answer to a write was lost"));
                }
                error if is_about_the_request(&error) => {
                    let failure = Failure::fatal(UNWRITABLE, error.to_string());
                    return Err(Ending::failed(failure, self));
                }
                _ => {}
            }
            if attempt.operations().is_over() {
                return Err(Ending::Lost);
            }
            backoff.pause(&self.random).await;
        }
    }
}

fn refused(attempt: &Attempt, refusal: Refusal) -> Ending {
    tracing::warn!(task = %attempt.key(), %refusal, "a task can't go on");
    match refusal {
        Refusal::LeaseLost { .. } => Ending::Lost,
        // Somebody wrote what this run doesn't know: the next one reads it.
        Refusal::StepTaken { .. } => Ending::released("another record was found"),
        refusal => {
            let failure = Failure::fatal(UNWRITABLE, refusal.to_string());
            Ending::Outcome(Outcome::Failed {
                failure,
                random: 0.0,
                supersede: None,
            })
        }
    }
}

/// Whether another request could go through where this one can't.
pub(super) fn is_about_the_request(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Invalid(_) | StoreError::Undecodable { .. } | StoreError::Internal(_)
    )
}
