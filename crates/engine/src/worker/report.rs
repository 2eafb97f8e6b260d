//! What the log says of an attempt that has ended. The attempt's span says which one it was; the
//! messages name the task too, for logs without spans. A reader learns here, without asking the
//! store, what failed and what to do.

use std::fmt;

use abide_core::failure::Failure;
use abide_core::kernel::{Finished, Outcome};
use abide_core::retry::RetryDecision;
use abide_core::status::Phase;

use crate::attempt::Attempt;
use crate::clock::duration_of_us;

/// Reports an end that the store has answered.
pub(super) fn recorded(attempt: &Attempt, outcome: &Outcome, finished: &Finished) {
    let task = Named(attempt);
    if !finished.recorded {
        tracing::warn!(
            outcome = outcome.name(),
            "{task} ended too late, when it was no longer this worker's: its result is discarded",
        );
        return;
    }
    match outcome {
        Outcome::Failed {
            failure, random, ..
        } => failed(attempt, failure, *random, finished.phase),
        Outcome::Nondeterministic { difference } if finished.phase == Phase::Evicted => {
            tracing::warn!(
                %difference,
                "the code of {task} does not match what it recorded: it waits for a program whose \
                 code does; start one with the earlier code, or cancel the execution",
            );
        }
        Outcome::Cancelled if finished.phase == Phase::Failed => {
            tracing::warn!("{task} stopped although nobody asked it to: it failed for good");
        }
        Outcome::Released { reason } => tracing::debug!(%reason, "{task} was given back"),
        outcome => tracing::debug!(outcome = outcome.name(), "{task} ended"),
    }
}

fn failed(attempt: &Attempt, failure: &Failure, random: f64, phase: Phase) {
    let task = Named(attempt);
    let retry = &attempt.task().retry;
    match (phase, retry.decide(attempt.number, failure, random)) {
        (Phase::Failed, _) => tracing::warn!(
            error = %failure,
            attempts = attempt.number,
            "{task} failed for good",
        ),
        (Phase::Cancelled, _) => {
            tracing::debug!(error = %failure, "{task} failed while its execution was stopped");
        }
        (_, RetryDecision::Retry { delay_us }) => {
            let delay = duration_of_us(delay_us);
            tracing::info!(error = %failure, "{task} failed and is tried again in {delay:?}");
        }
        // The store decided by the same rule.
        (_, RetryDecision::GiveUp) => tracing::info!(error = %failure, "{task} failed"),
    }
}

/// A task in a message.
struct Named<'a>(&'a Attempt);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "task `{}` of instance `{}`",
            self.0.node(),
            self.0.instance
        )
    }
}
