//! Recording how a task ended. The slot it leaves is offered with the record, so that what this
//! makes ready, or else what waits in the outbox, is claimed in the same transaction.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use abide_core::failure::Failure;
use abide_core::kernel::{Finish, Finished, Offer, Outcome};
use abide_store::{ApplyError, StoreError};
use tokio::sync::{OwnedRwLockReadGuard, OwnedSemaphorePermit};

use super::exit::failed;
use super::persist::{Backoff, Blame};
use super::{MAX_EXTRA_SLOTS, Work, Worker, report};
use crate::attempt::Attempt;

/// The kind of failure of a task whose outcome the store refuses.
const UNRECORDABLE: &str = "unrecordable";

/// Records the outcome, for as long as that takes. Returns the work that was claimed with it: the
/// first goes on in this slot, the others in slots that were free.
pub(super) async fn finish(worker: &Worker, mut work: Work, outcome: Outcome) -> Vec<Work> {
    let attempt = Arc::clone(&work.registered.attempt);
    let (offer, extra) = offer(worker, &work, &outcome);
    let mut finish = Finish {
        held: attempt.held,
        given_back: attempt.operations().take_given_back(),
        outcome,
        offer,
    };
    // Written while the worker still holds the task.
    if let Some(progress) = attempt.take_progress()
        && let Err(error) = worker.store.apply(progress).await
    {
        tracing::debug!(%error, "the last progress of a task was not written");
    }
    let mut claims = worker.may_claim();
    if claims.is_none() {
        finish.offer = None;
    }
    let filled = finish.offer.as_ref().filter(|offer| offer.fills);
    let to_fill = filled.map_or(0, |offer| offer.slots as usize);
    let finished = record(worker, &attempt, finish, &mut claims).await;
    // Another claim of the task may begin.
    drop(work.registered);
    let Some(Finished { claimed, .. }) = finished else {
        return Vec::new();
    };
    if claimed.len() < to_fill {
        worker.has_backlog.store(false, Ordering::Relaxed);
    }
    if claimed.is_empty() {
        return Vec::new();
    }
    let permits = work.slot.take().into_iter().chain(extra);
    worker.works(claimed, permits)
}

/// The offer of the slot that the task leaves, and of a few free slots for further dependents. Without dependents,
/// the slot is offered to the outbox.
fn offer(
    worker: &Worker,
    work: &Work,
    outcome: &Outcome,
) -> (Option<Offer>, Vec<OwnedSemaphorePermit>) {
    let ends = matches!(outcome, Outcome::Completed { .. } | Outcome::Failed { .. });
    let key = work.claimed.task.key;
    let dependents = work.claimed.graph.dependents(key.number).len();
    let fills = worker.fills_slots();
    if !ends || dependents == 0 && !fills || worker.is_stopping() || !work.slot.is_held() {
        return (None, Vec::new());
    }
    let extra = worker.free_slots(dependents.saturating_sub(1).min(MAX_EXTRA_SLOTS));
    let offer = Offer {
        worker: worker.id(),
        slots: 1 + u32::try_from(extra.len()).expect("a few slots"),
        hop: work.claimed.hop,
        queues: Arc::clone(&worker.queues),
        fills,
    };
    (Some(offer), extra)
}

/// Writes the end until the store answers. Only the first try makes an offer and holds `claims`.
async fn record(
    worker: &Worker,
    attempt: &Attempt,
    mut finish: Finish,
    claims: &mut Option<OwnedRwLockReadGuard<()>>,
) -> Option<Finished> {
    let mut backoff = Backoff::default();
    let mut blame = Blame::default();
    let mut replaced = false;
    loop {
        let error = match worker.store.apply(finish.clone()).await {
            Ok(finished) => {
                report::recorded(attempt, &finish.outcome, &finished);
                return finished.recorded.then_some(finished);
            }
            Err(error) => error,
        };
        *claims = None;
        finish.offer = None;
        tracing::warn!(%error, "the end of a task could not be written");
        match error {
            ApplyError::Store(StoreError::Closed) => return None,
            ApplyError::Store(error) if !error.is_definite() => {
                worker.reconcile.notify_one();
                // If the store can't tell, writing again does no harm.
                if !worker.is_held(attempt).await.unwrap_or(true) {
                    return None;
                }
            }
            ApplyError::Store(error) if !blame.falls_on_request(worker, &error) => {}
            _ if replaced => return None,
            error => {
                replaced = true;
                let failure = Failure::fatal(UNRECORDABLE, error.to_string());
                finish.outcome = failed(failure, worker);
                continue;
            }
        }
        if attempt.operations().is_over() {
            tracing::error!("the end of a task was not recorded: the task will run again");
            return None;
        }
        backoff.pause(&worker.random).await;
    }
}
