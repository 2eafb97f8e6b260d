//! Whose a signal is: the execution's that was live when it was sent, until an attempt that counts has read
//! it.

use std::sync::Arc;

use abide_core::failure::Failure;
use abide_core::graph::{Graph, TaskSpec};
use abide_core::ids::{ExecutionId, TaskKey};
use abide_core::kernel::{
    GivenBack, Held, IfExists, Outcome, Record, Refusal, Reply, Request, Signal,
};
use abide_core::payload::Payload;
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::status::Phase;
use abide_core::step::{StepEnd, StepKind, StepRecord};
use abide_store::ApplyError;

use crate::home::{
    Home, await_operations, completed, finish, graph, held, runs_again, signal, single, step_id,
};
use crate::value::{Value, column};

async fn send(home: &Home, instance: &Arc<str>, json: &str) {
    let sent = home.store.signal(go(instance, json)).await;
    sent.expect("sent");
}

fn go(instance: &Arc<str>, json: &str) -> Signal {
    Signal {
        instance: instance.clone(),
        name: "go".into(),
        payload: Payload::from_json(json),
        actor: None,
    }
}

fn payloads(reply: Reply) -> Vec<String> {
    let Reply::Answered(answered) = reply else {
        panic!("not answered: {reply:?}");
    };
    let results = answered.results.into_iter();
    results
        .map(|answer| answer.result.as_ref().expect("it came").as_str().to_owned())
        .collect()
}

/// What a task reads that waits for a signal.
async fn read(home: &Home, held: Held) -> Vec<String> {
    payloads(
        home.apply(await_operations(held, vec![signal(1, "go")], false))
            .await,
    )
}

#[tokio::test]
async fn a_new_generation_does_not_read_what_was_sent_to_the_last() {
    let mut home = Home::new().await;
    let mut start = home.request(&single()).await;
    start.if_exists = IfExists::StartAnew;
    home.store.start(start.clone()).await.expect("starts");
    let first = held(&home.claim().await);
    send(&home, &start.instance, "1").await;
    home.finish(first, completed()).await;
    let between = home.store.signal(go(&start.instance, "2")).await;
    let ended = matches!(
        between,
        Err(ApplyError::Refused(Refusal::InstanceEnded { .. }))
    );
    assert!(ended, "{between:?}");

    // Another process goes on with the instance.
    home.store = home.reopened().await;
    home.worker = home.new_worker().await;
    start.id = ExecutionId(home.next_id());
    let started = home.store.start(start.clone()).await.expect("starts");
    assert_eq!(started.generation, 2);
    let second = held(&home.claim().await);
    assert_eq!(read(&home, second).await, [""; 0]);
    let sent = home.store.signal(go(&start.instance, "3")).await;
    assert_eq!(sent.expect("sent").number, 2);
    assert_eq!(read(&home, second).await, ["3"]);
    // What nobody reads any more is as it was.
    let signals = &home.dump().await["signals"];
    let of_first = signals.iter().map(|row| column(row, "execution").integer());
    assert_eq!(
        of_first.collect::<Vec<_>>(),
        [first.key.execution.0, second.key.execution.0]
    );
    let readers = signals.iter().map(|row| column(row, "read_execution"));
    let expected = [&Value::Null, &Value::Integer(second.key.execution.0)];
    assert_eq!(readers.collect::<Vec<_>>(), expected);
}

/// A large start takes its id before another generation, and becomes the latest after that.
#[tokio::test]
async fn a_generation_with_a_lower_id_does_not_read_what_was_sent_to_the_last() {
    let home = Home::new().await;
    let mut late = home.request(&single()).await;
    late.if_exists = IfExists::StartAnew;
    let mut start = late.clone();
    start.id = ExecutionId(home.next_id());
    assert!(late.id < start.id);
    home.store.start(start.clone()).await.expect("starts");
    let first = held(&home.claim().await);
    send(&home, &start.instance, "1").await;
    home.finish(first, completed()).await;

    let started = home.store.start(late).await.expect("starts");
    assert_eq!(started.generation, 2);
    let second = held(&home.claim().await);
    assert_eq!(read(&home, second).await, [""; 0]);
    send(&home, &start.instance, "2").await;
    assert_eq!(read(&home, second).await, ["2"]);
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
    home.apply(Request::Record(Record {
        held: first,
        given_back: Vec::new(),
        steps,
    }))
    .await;
    send(&home, &start.instance, "1").await;
    send(&home, &start.instance, "2").await;
    let mut wait = await_operations(first, vec![signal(2, "go")], false);
    if let Request::Await(request) = &mut wait {
        request.next_order = 2;
    }
    assert_eq!(payloads(home.apply(wait).await), ["1"]);
    // The attempt ends with the error of step 1: that and what came after it is run again.
    let rerun = Some(runs_again(1, 2));
    let outcome = Outcome::Failed {
        failure,
        random: 0.0,
        rerun,
    };
    home.finish(first, outcome).await;
    assert_eq!(home.store.steps(first.key).await.expect("reads"), []);
    let second = held(&home.claim().await);
    let wait = await_operations(second, vec![signal(1, "go")], false);
    assert_eq!(payloads(home.apply(wait).await), ["1"]);
}

fn take_nothing(held: Held, operations: &[u32], heirs: &[u32]) -> Request {
    Request::Record(Record {
        held,
        given_back: vec![GivenBack {
            operations: operations.to_vec(),
            heirs: heirs.to_vec(),
        }],
        steps: Vec::new(),
    })
}

async fn ends(home: &Home, key: TaskKey) -> Vec<StepEnd> {
    let steps = home.store.steps(key).await.expect("reads");
    steps.into_iter().map(|step| step.end).collect()
}

#[tokio::test]
async fn a_signal_that_was_not_taken_goes_on_to_who_is_next() {
    let home = Home::new().await;
    let both = graph(vec![TaskSpec::new("a"), TaskSpec::new("b")], &[]);
    let start = home.request(&both).await;
    home.store.start(start.clone()).await.expect("starts");
    let claimed = home.claim_all().await;
    let (first, second) = (held(&claimed[0]), held(&claimed[1]));
    send(&home, &start.instance, "1").await;
    send(&home, &start.instance, "2").await;
    let waits = vec![signal(1, "go"), signal(2, "go")];
    let read = payloads(home.apply(await_operations(first, waits, false)).await);
    assert_eq!(read, ["1", "2"]);
    let wait = await_operations(second, vec![signal(1, "go")], true);
    assert_eq!(payloads(home.apply(wait).await), [""; 0]);
    let key = second.key;
    assert_eq!(home.phase(key.execution, key.number).await, Phase::Evicted);

    // Its own second wait moves up, so the younger signal is free.
    home.apply(take_nothing(first, &[1], &[2])).await;
    let one = StepEnd::Done(Payload::from_json("1"));
    let expected = [StepEnd::GivenBack, one];
    assert_eq!(ends(&home, first.key).await, expected);
    assert_eq!(home.phase(key.execution, key.number).await, Phase::Ready);
    // Told twice, it changes nothing.
    home.apply(take_nothing(first, &[1], &[2])).await;
    assert_eq!(ends(&home, first.key).await, expected);

    let second = held(&home.claim().await);
    let wait = await_operations(second, vec![signal(1, "go")], false);
    assert_eq!(payloads(home.apply(wait).await), ["2"]);
}

#[tokio::test]
async fn what_was_given_back_may_be_waited_for_again() {
    // Kept in its row, and apart from it.
    let long = format!("\"{}\"", "x".repeat(5_000));
    for payload in ["1", &long] {
        let home = Home::new().await;
        let start = home.request(&single()).await;
        home.store.start(start.clone()).await.expect("starts");
        let held = held(&home.claim().await);
        send(&home, &start.instance, payload).await;
        for order in 1..=3 {
            let mut wait = await_operations(held, vec![signal(1, "go")], false);
            if let Request::Await(request) = &mut wait {
                request.next_order = order;
            }
            assert_eq!(payloads(home.apply(wait).await), [payload]);
            home.apply(take_nothing(held, &[1], &[])).await;
            assert_eq!(ends(&home, held.key).await, [StepEnd::GivenBack]);
        }
        // In one transaction with the end.
        let wait = await_operations(held, vec![signal(2, "go")], false);
        assert_eq!(payloads(home.apply(wait).await), [payload]);
        let mut end = finish(held, completed());
        if let Request::Finish(finish) = &mut end {
            finish.given_back = vec![GivenBack {
                operations: vec![2],
                heirs: Vec::new(),
            }];
        }
        home.apply(end).await;
        let ends = ends(&home, held.key).await;
        assert_eq!(ends, [StepEnd::GivenBack, StepEnd::GivenBack]);
    }
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
