//! After the answer to a request or a connection was lost, the store and this worker may disagree about
//! which tasks the worker holds. This module compares both lists. Tasks that the worker does not know, or has
//! ended already, are given back. Runs whose task no longer belongs to the worker are stopped. Tasks whose
//! wake-up was lost are woken again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use abide_core::ids::TaskKey;
use abide_core::kernel::{Finish, Held, Notice, Outcome};
use abide_store::StoreError;

use super::Worker;
use super::persist::Backoff;
use crate::attempt::Attempt;

/// The pauses between comparisons: a transaction whose answer was lost may still be under way, for as
/// long as a server lets a commit take that waits for its disk or a standby.
const PAUSES: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(32),
];

/// Runs until it is aborted. Compares only when the worker asks for it.
pub(super) async fn run(worker: Arc<Worker>) {
    let hints = worker.store.hints();
    loop {
        tokio::select! {
            () = worker.reconcile.notified() => {}
            () = hints.reconnected.notified() => {}
        }
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            compare(&worker).await;
        }
    }
}

/// Compares once, as soon as the store answers.
async fn compare(worker: &Worker) {
    // Read before the store is: a run that begins meanwhile must not be taken for one without a
    // task.
    let runs = worker.attempts.all();
    let (held, notices) = patiently(worker).await;
    stop_lost(worker, runs, &held).await;
    for held in unknown(worker, held).await {
        give_back(worker, held).await;
    }
    for notice in notices {
        worker.notice(notice).await;
    }
}

/// The tasks that the store counts as this worker's, and the notices for them, once it answers.
async fn patiently(worker: &Worker) -> (Vec<Held>, Vec<Notice>) {
    let mut backoff = Backoff::default();
    loop {
        match ask(worker).await {
            Ok(found) => return found,
            Err(error) => tracing::warn!(%error, "can't tell which tasks this worker holds"),
        }
        backoff.pause(&worker.random).await;
    }
}

async fn ask(worker: &Worker) -> Result<(Vec<Held>, Vec<Notice>), StoreError> {
    let id = worker.id();
    let held = worker.store.held_by(id).await?;
    Ok((held, worker.store.notices_for(id).await?))
}

/// Stops the runs whose task is not this worker's any more: their claim was lost with a server whose
/// last transactions its successor doesn't have, or the task was taken away.
async fn stop_lost(worker: &Worker, runs: Vec<Arc<Attempt>>, held: &[Held]) {
    let epochs: HashMap<TaskKey, u32> = held.iter().map(|held| (held.key, held.epoch)).collect();
    let own = worker.id();
    let is_missing = |run: &Arc<Attempt>| {
        run.held.worker == own && epochs.get(&run.key()) != Some(&run.held.epoch)
    };
    for run in runs.into_iter().filter(is_missing) {
        // A run that has recorded its end is about to leave memory by itself.
        if worker.attempts.get(run.key()).is_some() {
            worker.notice(Notice::Lost(run.key())).await;
        }
    }
}

/// The tasks of `held` that are not in memory, even after every claim under way has been answered.
async fn unknown(worker: &Worker, held: Vec<Held>) -> Vec<Held> {
    let is_unknown = |held: &Held| {
        let attempt = worker.attempts.get(held.key);
        attempt.is_none_or(|attempt| attempt.held.epoch != held.epoch)
    };
    let mut unknown: Vec<Held> = held.into_iter().filter(is_unknown).collect();
    if !unknown.is_empty() {
        // Every claim that was under way has been answered, or never will be.
        drop(worker.claims.write().await);
        unknown.retain(is_unknown);
    }
    unknown
}

async fn give_back(worker: &Worker, held: Held) {
    tracing::warn!(key = %held.key, "giving back a task that this worker holds and does not run");
    let outcome = Outcome::Released {
        reason: "the answer to its claim or the record of its end was lost".to_owned(),
    };
    let finish = Finish {
        held,
        given_back: Vec::new(),
        outcome,
        offer: None,
    };
    if let Err(error) = worker.store.apply(finish).await {
        tracing::warn!(key = %held.key, %error, "a task could not be given back; trying again");
        worker.reconcile.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use abide_core::kernel::Signal;
    use abide_core::payload::Payload;
    use abide_core::status::Phase;
    use serde_json::json;

    use crate::{Engine, Run, TaskBuilder, TaskHandle, WorkflowBuilder};

    #[tokio::test]
    async fn a_parked_task_whose_wake_up_was_lost_is_woken_when_the_store_is_back() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let url = format!("sqlite:{}", directory.path().join("app.db").display());
        let reader = TaskBuilder::new("reader", |handle: TaskHandle| async move {
            handle.signal::<u32>("number").await
        });
        let reader = WorkflowBuilder::function(reader).build().expect("sound");
        let engine = Engine::builder(url).register_spec(reader).start().await;
        let engine = engine.expect("starts");
        let run: Run<serde_json::Value> = engine
            .start_named("reader", "r", &())
            .await
            .expect("durable");
        while engine.store().tasks(run.id(), 0, 1).await.expect("reads")[0]
            .task
            .phase
            != Phase::Deferred
        {
            tokio::task::yield_now().await;
        }
        let worker = engine.worker().expect("it runs tasks");
        // The worker can't claim meanwhile, so that what comes to its inbox is lost to this claim.
        let claims = worker.claims.write().await;
        let signal = Signal {
            instance: "r".into(),
            name: "number".into(),
            payload: Payload::from_json("7".to_owned()),
            actor: None,
        };
        let sent = engine.store().apply(signal).await;
        sent.expect("it is live");
        let lost = engine.store().claim(worker.id(), [].into(), 0).await;
        assert_eq!(lost.expect("is written").notices.len(), 1);
        drop(claims);
        engine.store().hints().reconnected.notify_one();
        assert_eq!(run.result().await.expect("completes"), json!(7));
        engine.shutdown().await;
    }
}
