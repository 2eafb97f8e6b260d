//! Tests of an attempt that comes late: its claim was committed, and before it is in memory, the worker learns
//! that its process can write nothing more.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use abide_core::kernel::Claimed;
use abide_store::StoreError;
use serde_json::{Value, json};

use crate::{Engine, Run, TaskBuilder, TaskError, WorkflowBuilder};

async fn engine(path: &Path, calls: &Arc<AtomicU32>) -> Engine {
    let calls = Arc::clone(calls);
    let counted = TaskBuilder::new("counted", move || {
        calls.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, TaskError>("done") }
    });
    let spec = WorkflowBuilder::function(counted).build().expect("sound");
    let url = format!("sqlite:{}", path.display());
    let engine = Engine::builder(url).register_spec(spec).start().await;
    engine.expect("starts")
}

/// The store is of that version of the schema, as after a program of it has opened the store.
fn set_version(path: &Path, version: u32) {
    let connection = rusqlite::Connection::open(path).expect("opens");
    let patience = std::time::Duration::from_secs(60);
    connection.busy_timeout(patience).expect("set");
    let set = connection.execute_batch(&format!("PRAGMA user_version = {version}"));
    set.expect("sound");
}

#[tokio::test]
async fn an_attempt_that_comes_after_its_worker_was_lost_leaves_at_once_and_runs_elsewhere() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("app.db");
    let calls = Arc::new(AtomicU32::new(0));
    let old = engine(&path, &calls).await;
    let worker = old.worker().expect("it runs tasks");
    // The worker itself claims nothing meanwhile: the claim below is its own, whose answer is on the way.
    let claims = worker.claims.write().await;
    let permits = worker.free_slots(1);
    let run: Run<Value> = old.start_named("counted", "c", &()).await.expect("durable");
    let answer = old
        .store()
        .claim(worker.id(), worker.queues.clone(), 1)
        .await;
    let [claimed]: [Claimed; 1] = answer.expect("claims").claimed.try_into().expect("one");
    let key = claimed.task.key;

    set_version(&path, 2);
    let refused = old
        .store()
        .heartbeat(worker.id(), worker.options.lease)
        .await;
    assert!(
        matches!(refused, Err(StoreError::TooNew { .. })),
        "{refused:?}"
    );
    // All attempts that are in memory by then have been told.
    worker.stopping().await;

    worker.launch([claimed], permits);
    let late = worker.attempts.get(key).expect("it is in memory");
    assert!(late.operations().is_over(), "it has been told, too");
    drop(claims);
    worker.attempts.emptied().await;

    set_version(&path, 1);
    let new = engine(&path, &calls).await;
    let again: Run<Value> = new.start_named("counted", "c", &()).await.expect("durable");
    assert_eq!(again.id(), run.id());
    assert_eq!(again.result().await.expect("completes"), json!("done"));
    assert_eq!(calls.load(Ordering::SeqCst), 1, "not by the late attempt");
    new.shutdown().await;
    old.shutdown().await;
}
