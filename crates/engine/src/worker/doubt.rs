//! After an answer was lost, the store may count tasks as this worker's that it has never heard of.
//! They are found by comparison and given back.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use abide_core::kernel::{Finish, Held, Outcome, Request};

use super::Worker;
use super::persist::Backoff;

/// How long a transaction whose answer was lost may still be under way, and an answer that was sent
/// may take to be heard. What is unknown before and after is not coming.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs until it is aborted; does something only when there is doubt.
pub(super) async fn run(worker: Arc<Worker>) {
    loop {
        worker.doubt.notified().await;
        let mut before: HashSet<_> = unknown(&worker).await.into_iter().map(identity).collect();
        loop {
            tokio::time::sleep(PATIENCE).await;
            let unknown = unknown(&worker).await;
            let (lost, new): (Vec<_>, Vec<_>) = unknown
                .into_iter()
                .partition(|held| before.contains(&identity(*held)));
            for held in lost {
                give_back(&worker, held).await;
            }
            if new.is_empty() {
                break;
            }
            before = new.into_iter().map(identity).collect();
        }
    }
}

fn identity(held: Held) -> (abide_core::ids::TaskKey, u32) {
    (held.key, held.epoch)
}

/// The tasks that the store counts as this worker's and that are not in memory.
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
    held.into_iter().filter(is_unknown).collect()
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
