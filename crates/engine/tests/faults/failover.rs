//! A standby takes over that lacks the last transactions of the server before: what was lost is done again, and
//! nobody waits for what is not there any more.

use std::sync::Arc;
use std::time::Duration;

use abide::authoring::WorkflowSpec;
use abide::{Run, RunError, TaskBuilder, TaskError, TaskHandle, WorkflowBuilder};
use abide_test_postgres::{Durability, Server};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::child::Home;
use crate::sight::verify;

const HOUR: Duration = Duration::from_secs(3600);

/// What a run of the function tells the test: its instance, and that it begins or was told to stop.
type Told = (String, &'static str);

/// A function that ends once it gets a permit, or is told to stop.
fn errand(tell: UnboundedSender<Told>, gate: Arc<Semaphore>) -> WorkflowSpec {
    let body = move |handle: TaskHandle| {
        let (tell, gate) = (tell.clone(), gate.clone());
        async move {
            let say = |what| tell.send((handle.instance().to_owned(), what));
            say("begun").expect("the test goes on");
            tokio::select! {
                permit = gate.acquire() => permit.expect("it is never closed").forget(),
                () = handle.cancelled() => drop(say("stopped")),
            }
            Ok::<_, TaskError>("done")
        }
    };
    let spec = WorkflowBuilder::function(TaskBuilder::new("errand", body)).build();
    spec.expect("a workflow without mistakes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_standby_never_had_is_done_again_or_said_to_be_gone() {
    let mut server = Server::start(Durability::Full);
    let home = Home::of(&server.url());
    let (tell, mut told) = unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    // Neither its heartbeat nor its polls look for it in time.
    let engine = home.engine().lease(HOUR).poll_interval(HOUR);
    let engine = engine
        .register_spec(errand(tell, gate.clone()))
        .start()
        .await
        .expect("starts");
    let start = async |instance: &str| -> Run<Value> {
        let run = engine.start_named("errand", instance, &()).await;
        run.expect("durable")
    };
    let mut hear = async || told.recv().await.expect("the engine runs");
    let kept = start("kept").await;
    assert_eq!(hear().await, ("kept".to_owned(), "begun"));
    tokio::task::block_in_place(|| {
        server.stop();
        server.keep_copy();
        server.restart();
    });

    // The standby never hears of this.
    let lost = start("lost").await;
    assert_eq!(hear().await, ("lost".to_owned(), "begun"));
    let waiting = tokio::spawn(async move { lost.result().await });
    gate.add_permits(1);
    assert_eq!(kept.result().await.expect("completes"), json!("done"));
    tokio::task::block_in_place(|| {
        server.kill();
        server.go_back();
        server.restart();
    });

    let result = waiting.await.expect("no panic");
    assert!(matches!(result, Err(RunError::Unknown(_))), "{result:?}");
    // The run of what vanished is stopped, and what had ended runs again.
    let mut heard = [hear().await, hear().await];
    heard.sort();
    let expected = [("kept", "begun"), ("lost", "stopped")];
    assert_eq!(heard, expected.map(|(of, what)| (of.to_owned(), what)));
    gate.add_permits(1);
    assert_eq!(kept.result().await.expect("completes"), json!("done"));
    engine.shutdown().await;
    engine.store().close().await;
    verify(&server.url()).await;
}
