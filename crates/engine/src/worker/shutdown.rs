//! Stopping a worker: running tasks may finish until the deadline, the others are given back. A worker that can write
//! nothing more gives nothing back: its functions are dropped, and other workers recover its tasks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use abide_store::StoreError;
use tokio::task::AbortHandle;

use super::Worker;
use crate::handle::operations::Sign;

/// How long tasks that were cut off may take to be given back, before they are left to recovery:
/// one that never yields can't be dropped.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Stops the worker and these loops of it once its process can write nothing more to the store, as after a newer
/// program has opened the store.
pub(super) async fn when_lost(worker: Arc<Worker>, writing: [AbortHandle; 3]) {
    let hints = worker.store.hints();
    let error = hints.lost().await;
    tracing::error!(%error, "this worker stops, and its tasks are left to other processes");
    writing.iter().for_each(AbortHandle::abort);
    worker.stop_claiming();
    for attempt in worker.attempts.all() {
        attempt.stop(Sign::Lost);
    }
    // The lock of a worker keeps other processes from a file that took the place of its own: it stays then. Otherwise
    // others may run the tasks once no function of them runs here.
    if matches!(error, StoreError::TooNew { .. }) {
        worker.emptied().await;
        worker.store.leave_worker(worker.id());
    }
}

impl Worker {
    /// Claims no more, and waits until no attempt is in memory, cutting off those that are not
    /// done at the deadline.
    pub(super) async fn drain(&self) {
        let deadline = self.clock.sleep(self.options.shutdown_deadline);
        self.stop_claiming();
        self.tell_all(Sign::Leave);
        tokio::select! {
            () = self.emptied() => return,
            () = deadline => {}
        }
        self.tell_all(Sign::Kill);
        let emptied = tokio::time::timeout(LAST_WAIT, self.emptied());
        if emptied.await.is_err() {
            for attempt in self.attempts.all() {
                tracing::warn!(
                    instance = %attempt.instance,
                    task = %attempt.node(),
                    "a task does not yield and could not be given back: another worker recovers it",
                );
            }
        }
    }

    /// Waits until no attempt is in memory and none is on its way: slots that were offered with a
    /// request come back with its answer.
    async fn emptied(&self) {
        let all = u32::try_from(self.options.max_concurrent_tasks).expect("the builder checked it");
        loop {
            self.attempts.emptied().await;
            // An error would mean that the semaphore was closed, which it never is.
            let slots = self.slots.acquire_many(all).await;
            if slots.is_err() || self.attempts.is_empty() {
                return;
            }
        }
    }

    /// Ends the worker. Other workers recover the tasks that it could not give back.
    pub(super) async fn retire(&self) {
        // The worker needs no hints any more, but callers may still wait for the end of an
        // execution.
        if let Err(error) = self.store.watch_others(true) {
            tracing::warn!(%error, "ends of executions that others run may go unnoticed");
        }
        if self.attempts.is_empty()
            && let Err(error) = self.store.end_worker(self.id()).await
        {
            tracing::warn!(%error, "the worker's end was not recorded: other workers find out by its lease");
        }
        self.store.leave_worker(self.id());
        if let Err(error) = self.store.checkpoint().await {
            tracing::warn!(%error, "the log stays beside the database");
        }
    }

    /// Stops at once, without waiting: attempts give back their tasks as long as the runtime lives.
    pub(super) fn abandon_all(&self) {
        self.stop_claiming();
        self.tell_all(Sign::Kill);
    }

    fn stop_claiming(&self) {
        self.stopping.store(true, Ordering::Release);
        self.stop.notify_waiters();
    }

    fn tell_all(&self, sign: Sign) {
        for attempt in self.attempts.all() {
            attempt.tell(sign);
        }
    }
}
