//! The loop that fires timers when they are due, in bounded batches, and otherwise sleeps until
//! the next one or until an earlier one is set.

use std::sync::Arc;

use super::Worker;
use super::persist::Backoff;

/// The most timers fired in one transaction.
const BATCH: u32 = 500;

/// Runs until the worker stops.
pub(super) async fn run(worker: Arc<Worker>) {
    let hints = worker.store.hints();
    let mut backoff = Backoff::default();
    // Timers may be due from before the start; and firing reads when the next one is due.
    let mut due = true;
    while !worker.is_stopping() {
        if due {
            match worker.store.fire_timers(BATCH).await {
                Ok(fired) => {
                    backoff.reset();
                    due = fired.fired >= BATCH;
                }
                Err(error) => {
                    tracing::warn!(%error, "no timers could be fired; trying again");
                    tokio::select! {
                        () = worker.stopping() => return,
                        () = backoff.pause(&worker.random) => {}
                    }
                }
            }
            continue;
        }
        let next = hints.next_due();
        let next_due = async {
            match next {
                Some(at) => worker.clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = worker.stopping() => return,
            // An earlier timer was set: look when it is due.
            () = hints.timers.notified() => {}
            () = next_due => due = true,
        }
    }
}
