//! Writing the requests of a held task. A store that is busy, full or away is asked again until it
//! answers or the task is no longer this worker's.

use std::time::Duration;

use abide_core::failure::Failure;
use abide_core::kernel::{Ask, Outcome, Refusal};
use abide_store::{ApplyError, StoreError};

use super::Worker;
use super::exit::Exit;
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

    /// Waits by real time, not by the engine's clock, since the store waits for a disk or another
    /// process.
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
    /// Applies a request of a running attempt. The error is how the attempt ends.
    pub(super) async fn apply_held<R>(
        &self,
        attempt: &Attempt,
        request: &(impl Ask<Answer = R> + Clone),
    ) -> Result<R, Exit> {
        let mut backoff = Backoff::default();
        let mut blame = Blame::default();
        loop {
            let error = match self.store.apply(request.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(ApplyError::Refused(refusal)) => return Err(refused(refusal)),
                Err(ApplyError::Store(error)) => error,
            };
            tracing::warn!(%error, "what a task did could not be written");
            match error {
                StoreError::Closed => return Err(Exit::Lost),
                // The next run reads whether it was written.
                error if !error.is_definite() => {
                    return Err(Exit::released("the answer to a write was lost"));
                }
                error if blame.falls_on_request(self, &error) => {
                    let failure = Failure::fatal(UNWRITABLE, error.to_string());
                    return Err(Exit::failed(failure, self));
                }
                _ => {}
            }
            if attempt.operations().is_over() {
                return Err(Exit::Lost);
            }
            backoff.pause(&self.random).await;
        }
    }
}

fn refused(refusal: Refusal) -> Exit {
    tracing::warn!(%refusal, "the store refuses what a task did: this run of the task ends");
    match refusal {
        Refusal::LeaseLost { .. } => Exit::Lost,
        // Another run wrote a record that this one doesn't know: the next one reads it.
        Refusal::StepTaken { .. } => Exit::released("another record was found"),
        refusal => {
            let failure = Failure::fatal(UNWRITABLE, refusal.to_string());
            Exit::Outcome(Outcome::Failed {
                failure,
                random: 0.0,
                rerun: None,
            })
        }
    }
}

/// Tells whether a request that can't be written is itself the cause.
#[derive(Debug, Default)]
pub(super) struct Blame {
    /// How many transactions had been written when the request first failed for no known reason.
    written: Option<u64>,
}

impl Blame {
    /// Whether the request is the cause of its error. Of an unexpected error it is the cause only if other requests
    /// were written since: otherwise the store may refuse them all.
    pub(super) fn falls_on_request(&mut self, worker: &Worker, error: &StoreError) -> bool {
        if !matches!(error, StoreError::Unexpected { .. }) {
            return is_about_the_request(error);
        }
        let written = worker.store.stats().written;
        written > *self.written.get_or_insert(written)
    }
}

/// Whether another request could go through where this one can't.
pub(super) fn is_about_the_request(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Invalid(_) | StoreError::Undecodable { .. } | StoreError::Internal(_)
    )
}
