//! The file of an engine: after a clean end it is the whole database, and without it nothing ends.

use std::fs;
use std::time::Duration;

use abide::{Engine, EngineError, Run, RunError, StoreError, TaskError, TaskHandle};
use serde_json::{Value, json};

use crate::captured::{Line, captured};
use crate::common::{Barrier, Gate, Home, begin, blocker, function, runtime, task_events};

fn seven() -> abide::authoring::WorkflowSpec {
    function("seven", || async { Ok::<_, TaskError>(7) })
}

#[tokio::test]
async fn after_a_shutdown_a_copy_of_the_one_file_has_everything() {
    let home = Home::new();
    let engine = home.engine().register_spec(seven()).start().await;
    let engine = engine.expect("starts");
    let run = begin(&engine, "seven").await;
    run.result().await.expect("completes");
    engine.shutdown().await;
    // The program may end here without dropping anything.
    let elsewhere = Home::new();
    fs::copy(home.path(), elsewhere.path()).expect("copied");
    let copy = Engine::connect(elsewhere.url()).await.expect("opens");
    let end = copy.store().end(run.id()).await.expect("reads");
    let output = end.expect("exists").output.expect("completed");
    assert_eq!(output.as_str(), json!(7).to_string());
}

#[test]
fn when_a_program_has_dropped_its_engine_the_file_is_alone() {
    let home = Home::new();
    for shuts_down in [true, false] {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let engine = home.engine().register_spec(seven()).start().await;
            let engine = engine.expect("starts");
            let run = begin(&engine, "seven").await;
            run.result().await.expect("completes");
            if shuts_down {
                engine.shutdown().await;
            }
        });
        drop(runtime);
        let entries = fs::read_dir(home.path().parent().expect("in a directory"));
        let names = entries
            .expect("reads")
            .flatten()
            .map(|entry| entry.file_name());
        let mut names: Vec<_> = names
            .map(|name| name.into_string().expect("utf-8"))
            .collect();
        names.sort();
        let locks = ["app.db", "app.db-turn", "app.db-workers", "app.db-write"];
        assert_eq!(names, locks);
    }
}

#[tokio::test]
async fn a_wait_for_a_result_ends_when_the_file_is_gone() {
    let home = Home::new();
    let reader = function("reader", |handle: TaskHandle| async move {
        handle.signal::<u32>("number").await
    });
    let engine = home.engine().lease(Duration::from_secs(3600));
    let engine = engine.register_spec(reader).register_spec(seven());
    let engine = engine.start().await.expect("starts");
    let run = begin(&engine, "reader").await;
    let waits = run.clone();
    let waits = tokio::spawn(async move { waits.result().await });
    fs::remove_file(home.path()).expect("deleted");
    let refused = engine.start_named("seven", "seven", &()).await;
    let refused = refused.map(|run: Run<Value>| run.id());
    let gone = |error: &StoreError| matches!(error, StoreError::FileGone { .. });
    assert!(
        matches!(&refused, Err(EngineError::Store(error)) if gone(error)),
        "{refused:?}"
    );
    for told in [waits.await.expect("no panic"), run.result().await] {
        assert!(
            matches!(&told, Err(RunError::Store(error)) if gone(error)),
            "{told:?}"
        );
    }
}

#[test]
fn a_task_that_blocks_its_thread_runs_nowhere_else_although_its_worker_has_stopped() {
    let captured = captured();
    let home = Home::new();
    let (begun, barrier) = (Gate::shut(), Barrier::default());
    let engine = || {
        home.engine()
            .register_spec(blocker(&begun, &barrier))
            .start()
    };
    let (blocked, free) = (runtime(2), runtime(2));
    let old = blocked.block_on(engine()).expect("starts");
    free.block_on(async {
        let run = begin(&old, "blocker").await;
        begun.pass().await;
        home.is_newer(true).await;
        let refused = old.start_named("blocker", "another", &()).await;
        refused.map(drop).expect_err("the store is newer");
        let stops = |line: &Line| line.message().contains("this worker stops");
        captured.until(stops).await;
        home.is_newer(false).await;
        let new = engine().await.expect("starts");
        let events = task_events(&new, run.id(), 1).await;
        barrier.open();
        assert!(!events.contains(&"task.recovered"), "{events:?}");
        let again = begin(&new, "blocker").await;
        assert_eq!(again.result().await.expect("completes"), json!("done"));
        new.shutdown().await;
    });
    blocked.block_on(old.shutdown());
}
