//! Rows that somebody edited by hand, and payloads of ten megabytes: only their own execution suffers.

use std::time::Duration;

use abide::{Engine, ExecutionId, RunError, TaskError, TaskHandle};
use rusqlite::Connection;
use serde_json::Value;

use crate::common::{Home, begin, function, until_event};

const TEN_MEGABYTES: usize = 10 * 1024 * 1024;

fn sleeper() -> abide::authoring::WorkflowSpec {
    function("sleeper", |handle: TaskHandle| async move {
        let word: String = handle.signal("word").await?;
        handle.sleep(Duration::from_millis(5)).await?;
        handle
            .step("answer", async || Ok::<_, TaskError>(word))
            .await
    })
}

async fn engine(home: &Home) -> Engine {
    let builder = home.engine().register_spec(sleeper());
    let engine = builder.start().await;
    engine.expect("starts")
}

#[tokio::test]
async fn executions_edited_by_hand_keep_no_other_from_ending() {
    const EXECUTIONS: usize = 20;
    let home = Home::new();
    let first = engine(&home).await;
    let mut ids = Vec::new();
    for number in 0..EXECUTIONS {
        let run = first.start_named("sleeper", &format!("s{number}"), &());
        ids.push(run.await.expect("a durable start").id());
    }
    for id in &ids {
        until_event(&first, abide::TaskKey::new(*id, 1), "task.deferred").await;
    }
    let url = home.url();
    let path = url.strip_prefix("sqlite:").expect("a file");
    let sqlite = Connection::open(path).expect("opens");
    let edits = [
        "UPDATE executions SET status = 'Odd' WHERE id = ?1",
        "UPDATE executions SET open = 'some' WHERE id = ?1",
        "UPDATE task_executions SET status = 'Odd' WHERE execution = ?1",
        "UPDATE task_executions SET sub_status = 'Odd' WHERE execution = ?1",
        "UPDATE task_executions SET attempt = 'first' WHERE execution = ?1",
        "UPDATE steps SET kind = 'dream' WHERE execution = ?1",
        "UPDATE steps SET state = 'lost' WHERE execution = ?1",
        "UPDATE executions SET input = '@99' WHERE id = ?1",
    ];
    for (edit, ExecutionId(id)) in edits.iter().zip(&ids) {
        assert_eq!(sqlite.execute(edit, [*id]).expect("sound"), 1, "{edit}");
    }
    // Those that can't be read don't answer, or refuse; it is all the same to the others.
    for number in 0..edits.len() {
        drop(first.signal(&format!("s{number}"), "word", &"awake").await);
    }
    // Some of the others go on in this process, some in the next.
    let (here, there) = ids[edits.len()..].split_at(6);
    ended(&first, here).await;
    drop(first);
    let second = engine(&home).await;
    ended(&second, there).await;
    // And it runs new ones.
    let run = begin(&second, "sleeper").await;
    ended(&second, &[run.id()]).await;
    second.shutdown().await;
}

async fn ended(engine: &Engine, ids: &[ExecutionId]) {
    for id in ids {
        let view = engine.execution(*id).await.expect("reads");
        let instance = view.execution.instance;
        let sent = engine.signal(&instance, "word", &"awake").await;
        sent.expect("it is live");
        let again = engine.start_named("sleeper", &instance, &());
        let run = again.await.expect("finds it");
        assert_eq!(run.id(), *id);
        let result = run.result().await;
        assert_eq!(result.expect("completes"), "awake");
    }
}

#[tokio::test]
async fn ten_megabytes_are_told_apart_by_the_limit_wherever_they_come_from() {
    let text = |bytes: usize| "x".repeat(bytes - 2);
    let echo = || {
        function("echo", |handle: TaskHandle| async move {
            let text: String = handle.signal("text").await?;
            Ok::<_, TaskError>(text)
        })
    };
    let large = || {
        function("large", move || async move {
            Ok::<_, TaskError>(text(TEN_MEGABYTES))
        })
    };

    let home = Home::new();
    let builder = home.engine().register_spec(echo()).register_spec(large());
    let engine = builder.start().await.expect("starts");
    let run = begin(&engine, "echo").await;
    let refused = engine.signal("echo", "text", &text(TEN_MEGABYTES)).await;
    let words = refused.expect_err("too large").to_string();
    assert!(
        words.contains("10485760 bytes, the limit is 4194304"),
        "{words}"
    );
    let refused = engine
        .start_named("echo", "other", &text(TEN_MEGABYTES))
        .await;
    let words = refused.expect_err("too large").to_string();
    assert!(
        words.contains("10485760 bytes, the limit is 4194304"),
        "{words}"
    );
    let failed = begin(&engine, "large").await.result().await;
    let Err(RunError::Failed { error, .. }) = failed else {
        panic!("{failed:?}")
    };
    assert_eq!(error.kind(), "payload_too_large");
    engine.signal("echo", "text", &"small").await.expect("sent");
    assert_eq!(run.result().await.expect("completes"), Value::from("small"));
    engine.shutdown().await;

    let home = Home::new();
    let builder = home.engine().register_spec(echo()).register_spec(large());
    let engine = builder.payload_limit(TEN_MEGABYTES).start().await;
    let engine = engine.expect("starts");
    let run = begin(&engine, "echo").await;
    let sent = engine.signal("echo", "text", &text(TEN_MEGABYTES)).await;
    sent.expect("sent");
    for run in [run, begin(&engine, "large").await] {
        let result = run.result().await.expect("completes");
        assert_eq!(result, Value::from(text(TEN_MEGABYTES)));
    }
    engine.shutdown().await;
}

#[tokio::test]
async fn a_held_task_of_a_version_that_its_worker_does_not_know_is_named() {
    let home = Home::new();
    let first = engine(&home).await;
    let run = begin(&first, "sleeper").await;
    until_event(&first, abide::TaskKey::new(run.id(), 1), "task.deferred").await;
    let url = home.url();
    let verify = || {
        let report = abide_store::verify_file(&url, &abide_store::VerifyOptions::default());
        report.expect("reads")
    };
    let report = verify();
    assert!(report.is_clean(), "{report}");
    let path = url.strip_prefix("sqlite:").expect("a file");
    let sqlite = Connection::open(path).expect("opens");
    // Another version with the same graph, which the worker has not registered.
    let other = "INSERT INTO workflow_versions (id, name, version, kind, fingerprint, graph, created_at) \
                 SELECT id + 1, name, 'other', kind, fingerprint, graph, created_at FROM workflow_versions";
    assert_eq!(sqlite.execute(other, []).expect("sound"), 1);
    let moved = "UPDATE executions SET workflow_version = workflow_version + 1";
    assert_eq!(sqlite.execute(moved, []).expect("sound"), 1);
    let report = verify();
    let [holder, history] = report.findings.as_slice() else {
        panic!("two findings were expected: {report}")
    };
    let says = "doesn't know its workflow version";
    assert!(holder.what.contains(says), "{report}");
    let says = "history says 1";
    assert!(history.what.contains(says), "{report}");
    first.shutdown().await;
}
