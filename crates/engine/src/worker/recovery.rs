//! Taking back the tasks of workers that have died, and waking tasks that waited for other code.

use std::sync::Arc;

use abide_core::ids::WorkerId;
use abide_store::{Liveness, Store};

use super::Worker;
use super::persist::Backoff;
use crate::options::Options;

/// The parts of taking over that failed when the worker started. They are tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Undone {
    recovery: bool,
    waking_for_code: bool,
}

/// Takes over what earlier processes left. Returns the parts that failed.
pub(super) async fn take_over(store: &Store, options: &Options, id: WorkerId) -> Undone {
    // If other workers can't be judged yet, the lookout judges them a lease's time from now.
    let recovered = match store.is_settled(options.lease).await {
        Ok(true) => recover(store, options, id).await,
        Ok(false) => true,
        Err(error) => {
            tracing::warn!(%error, "can't tell yet who of the others is alive");
            false
        }
    };
    Undone {
        recovery: !recovered && store.liveness() == Liveness::Locks,
        waking_for_code: !wake_for_code(store).await,
    }
}

/// Recovers the tasks of dead workers. Returns whether that succeeded.
async fn recover(store: &Store, options: &Options, own: WorkerId) -> bool {
    match store.recover(options.max_crashes, own).await {
        Ok(recovered) => {
            if recovered.took_over() {
                tracing::info!(?recovered, "took over what earlier processes left");
            }
            true
        }
        Err(error) => {
            tracing::warn!(%error, "what earlier processes left was not recovered; trying again");
            false
        }
    }
}

/// Wakes tasks that wait for other code. Returns whether that succeeded.
async fn wake_for_code(store: &Store) -> bool {
    match store.wake_for_code().await {
        Ok(0) => true,
        Ok(woken) => {
            tracing::info!(woken, "tasks that waited for other code try this one");
            true
        }
        Err(error) => {
            tracing::warn!(%error, "not all that waits for other code was woken; trying again");
            false
        }
    }
}

/// Does what the start left undone, then recovers tasks whenever a worker may have died. Runs until it is aborted;
/// what fails is tried again.
pub(super) async fn run(worker: Arc<Worker>, mut undone: Undone) {
    let (store, options) = (&worker.store, &worker.options);
    let mut backoff = Backoff::default();
    loop {
        if undone == Undone::default() {
            backoff.reset();
            worker.death.notified().await;
            undone.recovery = true;
        } else if undone.recovery {
            backoff.pause(&worker.random).await;
        } else {
            tokio::select! {
                () = worker.death.notified() => undone.recovery = true,
                () = backoff.pause(&worker.random) => {}
            }
        }
        if undone.recovery {
            let recovered = recover(store, options, worker.id()).await;
            // The lookout says when leases may be judged again.
            undone.recovery = !recovered && store.liveness() == Liveness::Locks;
        }
        if undone.waking_for_code {
            undone.waking_for_code = !wake_for_code(store).await;
        }
    }
}
