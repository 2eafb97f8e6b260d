//! A store that can't be written for a while: nothing is lost, and the engine goes on by itself.

use std::time::Duration;

use abide::{EngineError, TaskError, TaskHandle};
use serde_json::json;

use crate::common::{Gate, Home, begin, first, function, task_events, until_event};

#[tokio::test]
async fn what_tasks_did_while_the_database_was_locked_is_written_when_it_is_free() {
    let home = Home::new();
    let (gate, done) = (Gate::shut(), Gate::shut());
    let gates = (gate.clone(), done.clone());
    let worker = function("worker", move |handle: TaskHandle| {
        let (gate, done) = gates.clone();
        async move {
            gate.pass().await;
            let step = async || {
                done.open(1);
                Ok::<_, TaskError>(7)
            };
            handle.step("while locked", step).await
        }
    });
    let engine = home
        .engine()
        .busy_timeout(Duration::from_millis(20))
        .register_spec(worker);
    let engine = engine.start().await.expect("starts");
    let run = begin(&engine, "worker").await;
    until_event(&engine, first(&run), "task.started").await;

    let other = rusqlite::Connection::open(home.path()).expect("opens");
    other
        .execute_batch("BEGIN IMMEDIATE")
        .expect("nobody else writes");
    gate.open(1);
    done.pass().await;
    let error = engine
        .signal("worker", "any", &())
        .await
        .expect_err("locked");
    let EngineError::Store(error) = error else {
        panic!("{error}")
    };
    assert!(error.is_transient() && error.is_definite(), "{error}");
    other.execute_batch("ROLLBACK").expect("frees the database");

    assert_eq!(run.result().await.expect("completes"), json!(7));
    let events = task_events(&engine, run.id(), 1).await;
    assert_eq!(
        events[2..],
        ["task.claimed", "task.started", "task.completed"]
    );
}
