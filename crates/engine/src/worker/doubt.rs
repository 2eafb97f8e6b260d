//! After an answer was lost, the store may count tasks as this worker's that it has never heard of.
//! They are found by comparison and given back.

use std::sync::Arc;
use std::time::Duration;

use abide_core::kernel::{Finish, Held, Outcome, Request};

use super::Worker;
use super::persist::Backoff;

/// The pauses between looks: a transaction whose answer was lost may still be under way, for as long
/// as a server lets a commit take that waits for its disk or a standby.
const PAUSES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(32),
];

/// Runs until it is aborted; does something only when there is doubt.
pub(super) async fn run(worker: Arc<Worker>) {
    loop {
        worker.doubt.notified().await;
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            for held in unknown(&worker).await {
                give_back(&worker, held).await;
            }
        }
    }
}

/// The tasks that the store counts as this worker's and that are not in memory, also once whatever
/// was being claimed is there.
async fn unknown(worker: &Worker) -> Vec<Held> {
    let mut backoff = Backoff::default();
    let held = loop {
        match worker.store.held_by(worker.id()).await {
            Ok(held) => break held,
            Err(error) => tracing::warn!(%error, "can't tell which tasks this worker holds"),
        }
        backoff.pause(&worker.random).await;
    };
    let is_unknown = |held: &Held| {
        let attempt = worker.attempts.get(held.key);
        attempt.is_none_or(|attempt| attempt.held.epoch != held.epoch)
    };
    let mut unknown: Vec<Held> = held.into_iter().filter(is_unknown).collect();
    if !unknown.is_empty() {
        // Everybody who was claiming has been answered, or never will be.
        drop(worker.claims.write().await);
        unknown.retain(is_unknown);
    }
    unknown
}

async fn give_back(worker: &Worker, held: Held) {
    tracing::warn!(task = %held.key, "giving back a task whose claim was never answered");
    let outcome = Outcome::Released {
        reason: "the answer to its claim was lost".to_owned(),
    };
    let finish = Finish {
        held,
        outcome,
        offer: None,
    };
    let request = Request::Finish(Box::new(finish));
    if let Err(error) = worker.store.apply(request).await {
        tracing::warn!(task = %held.key, %error, "it could not be given back");
        worker.doubt.notify_one();
    }
}
