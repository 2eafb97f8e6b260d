//! Recording how a task ended. The slot it leaves is offered with the record, so that what this
//! makes ready is claimed in the same transaction.

use std::sync::Arc;

use abide_core::failure::Failure;
use abide_core::kernel::{Finish, Finished, Offer, Outcome, Reply, Request};
use abide_store::{ApplyError, StoreError};
use tokio::sync::{OwnedRwLockReadGuard, OwnedSemaphorePermit};

use super::drive::failed;
use super::persist::{Backoff, is_about_the_request};
use super::{MAX_EXTRA_SLOTS, Work, Worker};
use crate::attempt::Attempt;

/// The kind of failure of a task whose outcome the store refuses.
const UNRECORDABLE: &str = "unrecordable";

/// Records the outcome, for as long as that takes. Returns the work that goes on in this slot.
pub(super) async fn finish(worker: &Arc<Worker>, mut work: Work, outcome: Outcome) -> Option<Work> {
    let attempt = Arc::clone(&work.registered.attempt);
    let (offer, extra) = offer(worker, &work, &outcome);
    let mut finish = Finish {
        held: attempt.held,
        outcome,
        offer,
    };
    // Before the task is no longer held.
    if let Some(progress) = attempt.take_progress()
        && let Err(error) = worker.store.apply(progress).await
    {
        tracing::debug!(task = %attempt.key(), %error, "the last progress was not written");
    }
    let mut claims = worker.may_claim();
    if claims.is_none() {
        finish.offer = None;
    }
    let finished = record(worker, &attempt, finish, &mut claims).await;
    // Whoever claims it again may begin.
    drop(work.registered);
    let mut claimed = finished?.claimed.into_iter();
    let first = claimed.next()?;
    worker.launch(claimed, extra);
    Some(worker.work(first, work.slot.take()))
}

/// The slot that the task leaves, and as many other free ones as it has dependents, within reason.
fn offer(
    worker: &Worker,
    work: &Work,
    outcome: &Outcome,
) -> (Option<Offer>, Vec<OwnedSemaphorePermit>) {
    let ends = matches!(outcome, Outcome::Completed { .. } | Outcome::Failed { .. });
    let key = work.claimed.task.key;
    let dependents = work.claimed.graph.dependents(key.number).len();
    if !ends || dependents == 0 || worker.is_stopping() || !work.slot.is_held() {
        return (None, Vec::new());
    }
    let extra = worker.free_slots((dependents - 1).min(MAX_EXTRA_SLOTS));
    let offer = Offer {
        worker: worker.id(),
        slots: 1 + u32::try_from(extra.len()).expect("a few slots"),
        hop: work.claimed.hop,
        queues: Arc::clone(&worker.queues),
    };
    (Some(offer), extra)
}

/// What it offers may be claimed as long as `claims` says so, which is for one try.
async fn record(
    worker: &Worker,
    attempt: &Attempt,
    mut finish: Finish,
    claims: &mut Option<OwnedRwLockReadGuard<()>>,
) -> Option<Finished> {
    let mut backoff = Backoff::default();
    let mut replaced = false;
    loop {
        let request = Request::Finish(Box::new(finish.clone()));
        let error = match worker.store.apply(request).await {
            Ok(Reply::Finished(finished)) => return told(attempt, finished),
            Ok(reply) => {
                tracing::error!(task = %attempt.key(), ?reply, "the store's answer makes no sense");
                return None;
            }
            Err(error) => error,
        };
        *claims = None;
        finish.offer = None;
        tracing::warn!(task = %attempt.key(), %error, "how a task ended could not be recorded");
        match error {
            ApplyError::Store(StoreError::Closed) => return None,
            ApplyError::Store(error) if !error.is_definite() => {
                worker.doubt.notify_one();
                // If that can't be told either, asking again does no harm.
                if !worker.is_held(attempt).await.unwrap_or(true) {
                    return None;
                }
            }
            ApplyError::Store(error) if !is_about_the_request(&error) => {}
            _ if replaced => return None,
            error => {
                replaced = true;
                let failure = Failure::fatal(UNRECORDABLE, error.to_string());
                finish.outcome = failed(failure, worker);
                continue;
            }
        }
        if attempt.operations().is_over() {
            tracing::error!(task = %attempt.key(), "how a task ended was not recorded; it will run again");
            return None;
        }
        backoff.pause(&worker.random).await;
    }
}

fn told(attempt: &Attempt, finished: Finished) -> Option<Finished> {
    if !finished.recorded {
        tracing::warn!(task = %attempt.key(), "a result came too late and was discarded");
        return None;
    }
    Some(finished)
}
