//! `approval`: a durable function that is killed between its steps.

use std::ffi::OsStr;

use crate::common::{Process, assert_sound, look_into, run};
use crate::place::Place;
use abide::{Engine, ExecutionId, TaskKey};
use serde_json::json;
use tempfile::tempdir;

async fn latest(engine: &Engine) -> ExecutionId {
    let latest = engine.store().latest("order-42").await.expect("readable");
    latest.expect("it was started").execution.id
}

/// The operations of the function, waits that go on included.
async fn recorded(engine: &Engine, id: ExecutionId) -> Vec<String> {
    let steps = engine
        .store()
        .steps(TaskKey::new(id, 1))
        .await
        .expect("readable");
    let names = steps
        .into_iter()
        .map(|step| format!("{} {}", step.id.kind, step.id.name));
    names.collect()
}

#[tokio::test]
async fn killed_between_its_steps_it_goes_on_and_runs_none_twice() {
    let (home, place) = (tempdir().expect("a directory"), Place::new());
    let args = place.arguments();
    let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
    let mut first = Process::start("approval", home.path(), &args);
    let ran = first.prints("reserve");
    assert!(ran.contains(&first.id().to_string()), "{ran}");

    let engine = look_into(place.url(home.path(), "approval")).await;
    let id = latest(&engine).await;
    while recorded(&engine, id).await.is_empty() {
        tokio::task::yield_now().await;
    }
    first.kill();
    place.bury().await;

    let mut second = Process::start("approval", home.path(), &args);
    second.prints("resuming");
    assert!(second.prints("reserve").contains("done"));
    second.kill();
    place.bury().await;

    let approval = json!({ "by": "the test", "approved": true });
    let sent = engine.signal("order-42", "approval", &approval).await;
    sent.expect("it waits, and no process is needed to send it");
    let third = Process::start("approval", home.path(), &args);
    let told = third.ends();
    assert!(
        told.contains("charged 4200 cents, approved by the test"),
        "{told}"
    );
    assert!(!told.contains("put aside"), "reserved twice:\n{told}");

    let again = run("approval", home.path(), &args);
    let told = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(
        again.status.success() && told.contains("has ended before"),
        "{told}"
    );
    assert_eq!(
        recorded(&engine, id).await,
        [
            "step reserve",
            "sleep sleep",
            "signal approval",
            "step charge"
        ]
    );
    assert_sound(&engine).await;
}
