//! Two engines on one store, as two processes would be: what one writes reaches the other without its asking. Leases
//! are an hour long, so that no heartbeat brings what a wake-up should: a lost one leaves a test hanging.

use std::time::Duration;

use abide::{Engine, EngineBuilder, ExecutionStatus, RunError, TaskError, TaskHandle};
use serde_json::json;

use crate::common::{Gate, Home, begin, first, function, gated, task_events, until_event};

const HOUR: Duration = Duration::from_secs(3600);

fn builder(home: &Home) -> EngineBuilder {
    home.engine().lease(HOUR).max_concurrent_tasks(1)
}

async fn start(builder: EngineBuilder) -> Engine {
    builder.start().await.expect("starts")
}

fn reader() -> abide::authoring::WorkflowSpec {
    function("reader", |handle: TaskHandle| async move {
        handle.signal::<u32>("number").await
    })
}

#[tokio::test]
async fn a_signal_wakes_a_task_that_another_process_holds() {
    // Parked in memory, and evicted.
    for most_parked in [10, 0] {
        let home = Home::new();
        let holder = builder(&home).max_parked_tasks(most_parked);
        let holder = start(holder.register_spec(reader())).await;
        let other = start(builder(&home)).await;
        for number in 0..20 {
            let run = holder.start_named("reader", &format!("r{number}"), &());
            let run = run.await.expect("a durable start");
            until_event(&holder, first(&run), "task.deferred").await;
            let sent = other.signal(run.instance(), "number", &number).await;
            sent.expect("it is live");
            assert_eq!(run.result().await.expect("completes"), json!(number));
        }
    }
}

#[tokio::test]
async fn what_one_has_no_slot_for_another_runs_and_the_first_hears_of_the_end() {
    let home = Home::new();
    let (begun, gate) = (Gate::shut(), Gate::shut());
    let gated = gated(&begun, &gate);
    let quick = || function("quick", || async { Ok::<_, TaskError>("done") });
    let busy = builder(&home).register_spec(gated).register_spec(quick());
    let busy = start(busy).await;
    let held = begin(&busy, "gated").await;
    begun.pass().await;
    let _idle = start(builder(&home).register_spec(quick())).await;
    for number in 0..20 {
        let run = busy.start_named("quick", &format!("q{number}"), &());
        let run = run.await.expect("a durable start");
        assert_eq!(run.result().await.expect("completes"), json!("done"));
    }
    gate.open(1);
    held.result().await.expect("completes");
}

#[tokio::test]
async fn a_cancellation_reaches_a_task_that_another_process_runs() {
    let home = Home::new();
    let patient = function("patient", |handle: TaskHandle| async move {
        handle.cancelled().await;
        Err::<(), _>(TaskError::fatal(std::io::Error::other("told to stop")))
    });
    let holder = start(builder(&home).register_spec(patient)).await;
    let other = start(builder(&home)).await;
    let run = begin(&holder, "patient").await;
    until_event(&holder, first(&run), "task.started").await;
    let reply = other.cancel(run.id(), "enough").await.expect("it runs");
    assert_eq!(reply.status(), ExecutionStatus::Cancelling);
    let error = run.result().await.expect_err("cancelled");
    assert!(matches!(error, RunError::Cancelled { .. }), "{error}");
}

#[tokio::test]
async fn a_delay_that_another_process_asked_for_is_kept_by_whoever_runs_tasks() {
    let home = Home::new();
    let quick = || function("quick", || async { Ok::<_, TaskError>("done") });
    let _runs = start(builder(&home).register_spec(quick())).await;
    let client = home.engine().register_spec(quick()).connect().await;
    let client = client.expect("opens");
    let start = client.start_named("quick", "later", &());
    let run = start.delay(Duration::from_millis(20)).await;
    let run = run.expect("a durable start");
    assert_eq!(run.result().await.expect("completes"), json!("done"));
}

#[tokio::test]
async fn whoever_stops_leaves_its_tasks_to_those_that_go_on() {
    let home = Home::new();
    let first_of_two = start(builder(&home).register_spec(reader())).await;
    let run = begin(&first_of_two, "reader").await;
    until_event(&first_of_two, first(&run), "task.deferred").await;
    let second = start(builder(&home).register_spec(reader())).await;
    first_of_two.shutdown().await;
    let sent = second.signal("reader", "number", &7).await;
    sent.expect("it is live");
    assert_eq!(run.result().await.expect("completes"), json!(7));
    let events = task_events(&second, run.id(), 1).await;
    assert!(!events.contains(&"task.recovered"), "{events:?}");
}
