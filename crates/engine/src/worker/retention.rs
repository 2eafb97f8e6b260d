//! The loop that removes old histories, now and then, if the engine was told for how long to keep
//! them.

use std::sync::Arc;
use std::time::Duration;

use super::Worker;

/// The pause between two looks, plus or minus a half, so that processes that share a store take
/// turns.
const EVERY: Duration = Duration::from_secs(3600);

/// Runs until it is aborted.
pub(super) async fn run(worker: Arc<Worker>) {
    let Some(keep) = worker.options.history_retention else {
        return;
    };
    loop {
        match worker.store.prune_history(keep).await {
            Ok(0) => {}
            Ok(executions) => tracing::debug!(executions, "removed old histories"),
            Err(error) => tracing::warn!(%error, "old histories could not be removed"),
        }
        tokio::time::sleep(EVERY.mul_f64(0.5 + worker.random.unit())).await;
    }
}
