//! The id under which a worker claims tasks, and the row that tells other workers of it. A worker that
//! was declared dead goes on under a new id.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError, Weak};

use abide_core::ids::{IdGenerator, WorkerId};
use abide_store::NewWorker;

use super::Worker;
use super::persist::Backoff;
use crate::clock::Clock;
use crate::handle::operations::Sign;

pub(super) fn next_worker_id(ids: &Mutex<IdGenerator>, clock: &dyn Clock) -> WorkerId {
    let mut ids = ids.lock().unwrap_or_else(PoisonError::into_inner);
    WorkerId(ids.next(clock.now()))
}

/// This process as a worker of that id.
pub(super) fn this_process(id: WorkerId) -> NewWorker {
    NewWorker {
        id,
        host: host(),
        pid: std::process::id(),
    }
}

/// The host's name, for people: nothing depends on it.
fn host() -> String {
    let named = std::env::var("HOSTNAME").ok();
    let named = named.or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    let named = named.map(|name| name.trim().to_owned());
    named
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// Gives a worker that was declared dead a new id. The tasks that it ran belong to other workers
/// now.
pub(super) async fn begin_anew(worker: Weak<Worker>, lost: WorkerId) {
    let Some(worker) = worker.upgrade() else {
        return;
    };
    let Ok(alone) = worker.beginning_anew.try_lock() else {
        return;
    };
    let lease = worker.options.lease;
    // The caller may have looked at an id that was not recorded yet, or is no longer used.
    let is_dead = async || {
        let store = &worker.store;
        store.is_lost(lost) || matches!(store.heartbeat(lost, lease).await, Ok(false))
    };
    if worker.id() != lost || !is_dead().await {
        return;
    }
    let mut id = next_worker_id(&worker.ids, &*worker.clock);
    worker.id.store(id.0, Ordering::Release);
    tracing::error!(%lost, "this worker was declared dead; it goes on under a new id");
    worker.store.leave_worker(lost);
    let of_lost = worker.attempts.all().into_iter();
    let of_lost: Vec<_> = of_lost
        .filter(|attempt| attempt.held.worker == lost)
        .collect();
    for attempt in &of_lost {
        attempt.stop(Sign::Lost);
    }
    let mut backoff = Backoff::default();
    while let Err(error) = worker.store.register_worker(this_process(id), lease).await {
        if worker.store.hints().is_lost() {
            return;
        }
        tracing::warn!(%error, "the worker could not be registered again; trying again");
        backoff.pause(&worker.random).await;
        // The id may have been recorded all the same.
        id = next_worker_id(&worker.ids, &*worker.clock);
        worker.id.store(id.0, Ordering::Release);
    }
    if let Err(error) = worker.store.record_queues(id, &worker.queues).await {
        // Only verification reads it.
        tracing::warn!(%error, "what the worker knows was not recorded");
    }
    drop(alone);
    // No claim succeeded before the id was registered.
    worker.store.hints().work.notify_one();
    // Other workers may take the tasks back before this, but only now can this process run them
    // again.
    for attempt in of_lost {
        attempt.left().await;
    }
    worker.death.notify_one();
}
