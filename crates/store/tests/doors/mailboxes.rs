//! Whose a signal is: the execution's that was live when it was sent, until an attempt that counts has read
//! it.

use std::sync::Arc;

use abide_core::failure::Failure;
use abide_core::graph::{Graph, TaskSpec};
use abide_core::kernel::{IfExists, Outcome, Record, Reply, Request, Signal, Supersede};
use abide_core::payload::Payload;
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::step::{StepEnd, StepKind, StepRecord};

use crate::home::{Home, await_operations, completed, graph, held, signal, single, step_id};

async fn send(home: &Home, instance: &Arc<str>, json: &str) {
    let sent = home.store.signal(Signal {
        instance: instance.clone(),
        name: "go".into(),
        payload: Payload::from_json(json),
        actor: None,
    });
    sent.await.expect("sent");
}

fn payloads(reply: Reply) -> Vec<String> {
    let Reply::Answered(answered) = reply else {
        panic!("not answered: {reply:?}");
    };
    let results = answered.results.into_iter();
    results
        .map(|result| result.payload.as_str().to_owned())
        .collect()
}

#[tokio::test]
async fn a_new_generation_does_not_read_what_was_sent_to_the_last() {
    let home = Home::new().await;
    let mut start = home.request(&single()).await;
    start.if_exists = IfExists::StartAnew;
    home.store.start(start.clone()).await.expect("starts");
    let first = held(&home.claim().await);
    send(&home, &start.instance, "1").await;
    home.finish(first, completed()).await;

    start.id = abide_core::ids::ExecutionId(home.next_id());
    let started = home.store.start(start.clone()).await.expect("starts");
    assert_eq!(started.generation, 2);
    let second = held(&home.claim().await);
    let wait = await_operations(second, vec![signal(1, "go")], false);
    assert_eq!(payloads(home.apply(wait.clone()).await), [""; 0]);
    send(&home, &start.instance, "2").await;
    assert_eq!(payloads(home.apply(wait).await), ["2"]);
}

/// A task that is tried again at once.
fn stubborn() -> Arc<Graph> {
    let task = TaskSpec {
        retry: RetryPolicy {
            retries: 9,
            backoff: Backoff::Fixed { delay_us: 0 },
            ..RetryPolicy::default()
        },
        ..TaskSpec::new("stubborn")
    };
    graph(vec![task], &[])
}

fn failed_step(number: u32, failure: &Failure) -> StepRecord {
    StepRecord {
        id: step_id(number, StepKind::Step, "work"),
        end: StepEnd::Failed(failure.clone()),
        order: 1,
    }
}

#[tokio::test]
async fn a_signal_whose_reading_no_longer_counts_is_read_again() {
    let home = Home::new().await;
    let start = home.request(&stubborn()).await;
    home.store.start(start.clone()).await.expect("starts");
    let first = held(&home.claim().await);
    let failure = Failure::new("flaky", "on purpose");
    let steps = vec![failed_step(1, &failure)];
    home.apply(Request::Record(Record { held: first, steps }))
        .await;
    send(&home, &start.instance, "1").await;
    send(&home, &start.instance, "2").await;
    let mut wait = await_operations(first, vec![signal(2, "go")], false);
    if let Request::Await(request) = &mut wait {
        request.next_order = 2;
    }
    assert_eq!(payloads(home.apply(wait).await), ["1"]);
    // The attempt ends with the error of step 1: that and what came after it is run again.
    let supersede = Some(Supersede { failed: 1, from: 2 });
    let outcome = Outcome::Failed {
        failure,
        random: 0.0,
        supersede,
    };
    home.finish(first, outcome).await;
    assert_eq!(home.store.steps(first.key).await.expect("reads"), []);
    let second = held(&home.claim().await);
    let wait = await_operations(second, vec![signal(1, "go")], false);
    assert_eq!(payloads(home.apply(wait).await), ["1"]);
}

#[tokio::test]
async fn a_full_mailbox_is_read_in_order_however_many_read_at_once() {
    const MANY: u32 = 200;
    let home = Home::new().await;
    let start = home.request(&single()).await;
    home.store.start(start.clone()).await.expect("starts");
    let held = held(&home.claim().await);
    for number in 1..=MANY {
        send(&home, &start.instance, &number.to_string()).await;
    }
    let waits = (1..=MANY).map(|number| signal(number, "go")).collect();
    let read = payloads(home.apply(await_operations(held, waits, false)).await);
    let sent: Vec<String> = (1..=MANY).map(|number| number.to_string()).collect();
    assert_eq!(read, sent);
}
