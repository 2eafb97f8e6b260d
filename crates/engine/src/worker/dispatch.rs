//! The loop that claims work: when there may be some and a slot is free, it claims a batch that is
//! never larger than the free slots. Without a hint it does not ask the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::Worker;
use super::persist::Backoff;

/// The most tasks claimed at once, however many slots are free.
const MAX_BATCH: usize = 256;

/// How long a claim waits for a slot before it only fetches the notices for running tasks.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// Runs until the worker stops.
pub(super) async fn run(worker: Arc<Worker>) {
    let hints = worker.store.hints();
    let mut backoff = Backoff::default();
    // The outbox may have rows from before the start.
    let mut backlog = true;
    loop {
        let first = tokio::select! {
            biased;
            () = worker.stopping() => return,
            permit = slot(&worker), if backlog => Some(permit),
            () = hints.work.notified() => slot_soon(&worker).await,
        };
        // The worker may have stopped during the wait for a slot.
        if worker.is_stopping() {
            return;
        }
        let mut permits: Vec<OwnedSemaphorePermit> = first.into_iter().collect();
        permits.extend(worker.free_slots(MAX_BATCH - permits.len()));
        match claim(&worker, permits).await {
            Ok(more) => {
                backlog = more;
                backoff.reset();
            }
            Err(()) => {
                backlog = true;
                tokio::select! {
                    () = worker.stopping() => return,
                    () = backoff.pause(&worker.random) => {}
                }
            }
        }
    }
}

/// Claims tasks into these slots and runs them. Returns whether the outbox may have more.
async fn claim(worker: &Arc<Worker>, permits: Vec<OwnedSemaphorePermit>) -> Result<bool, ()> {
    let max = u32::try_from(permits.len()).expect("at most a batch");
    let queues = Arc::clone(&worker.queues);
    let _claims = worker.claims.read().await;
    let claims = worker.store.claim(worker.id(), queues, max).await;
    let claims = claims.map_err(|error| {
        if !error.is_definite() {
            worker.reconcile.notify_one();
        }
        tracing::warn!(%error, "no work could be claimed; trying again");
    })?;
    for notice in claims.notices {
        worker.notice(notice).await;
    }
    // A full batch does not tell whether more is left.
    let more = claims.more || claims.claimed.len() == permits.len();
    worker.has_backlog.store(more, Ordering::Relaxed);
    worker.launch(claims.claimed, permits);
    Ok(more)
}

async fn slot(worker: &Worker) -> OwnedSemaphorePermit {
    let permit = Arc::clone(&worker.slots).acquire_owned().await;
    permit.expect("the worker's slots are never closed")
}

/// A slot if one is free, or becomes free in a moment. A claim without a slot still fetches the
/// notices for running tasks.
async fn slot_soon(worker: &Worker) -> Option<OwnedSemaphorePermit> {
    match Arc::clone(&worker.slots).try_acquire_owned() {
        Ok(permit) => Some(permit),
        Err(_) => tokio::time::timeout(BUSY_PAUSE, slot(worker)).await.ok(),
    }
}
