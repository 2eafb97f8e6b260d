//! Starting: once per instance, now or later, until a deadline.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use abide::{
    Clock, Engine, EngineError, ExecutionStatus, IfExists, Refusal, RunError, TaskError,
    VirtualClock, workflow,
};

use crate::common::{Home, begin, first, function, history, until_event};

#[workflow]
async fn double(number: u32) -> Result<u32, TaskError> {
    Ok(2 * number)
}

const HOUR: Duration = Duration::from_secs(3600);

async fn doubling(home: &Home) -> Engine {
    let engine = home.engine().register::<double>().start().await;
    engine.expect("starts")
}

#[tokio::test]
async fn the_same_start_again_is_the_same_execution() {
    let home = Home::new();
    let engine = doubling(&home).await;
    let run = engine
        .start::<double>("a", &4)
        .await
        .expect("a durable start");
    assert_eq!(run.result().await.expect("completes"), 8);
    let again = engine.start::<double>("a", &4).await.expect("finds it");
    assert_eq!((again.id(), again.is_new()), (run.id(), false));
    assert_eq!(again.result().await.expect("has completed"), 8);
    let found = engine.run::<double>("a").await.expect("is there");
    assert_eq!(found.id(), run.id());
}

#[tokio::test]
async fn a_start_that_is_polled_once_and_forgotten_keeps_no_slot() {
    let home = Home::new();
    let engine = home.engine().max_concurrent_tasks(1);
    let engine = engine.register::<double>().start().await.expect("starts");
    // So that the version is known, and the slot stays free.
    let later = engine.start::<double>("later", &1).delay(HOUR).await;
    later.expect("a durable start");
    let mut forgotten = std::pin::pin!(engine.start::<double>("forgotten", &2).into_future());
    let polled = std::future::poll_fn(|context| {
        std::task::Poll::Ready(forgotten.as_mut().poll(context).is_ready())
    });
    assert!(!polled.await, "it is sent, and waits for the store");
    let other = engine.start::<double>("other", &3).await.expect("a start");
    assert_eq!(other.result().await.expect("has the slot"), 6);
    let run = forgotten.await.expect("was started");
    assert_eq!(run.result().await.expect("has run meanwhile"), 4);
    engine.shutdown().await;
}

#[tokio::test]
async fn another_input_for_the_same_instance_is_refused() {
    let home = Home::new();
    let engine = doubling(&home).await;
    let run = engine
        .start::<double>("a", &4)
        .await
        .expect("a durable start");
    let error = engine
        .start::<double>("a", &5)
        .await
        .expect_err("another input");
    let EngineError::Refused(Refusal::DifferentInput { execution, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(execution, run.id());
    let error = engine
        .start::<double>("a", &4)
        .if_exists(IfExists::Reject)
        .await;
    let error = error.expect_err("exists");
    assert!(
        matches!(error, EngineError::Refused(Refusal::InstanceExists { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn an_ended_instance_may_start_its_next_generation() {
    let home = Home::new();
    let engine = doubling(&home).await;
    let first = engine
        .start::<double>("a", &4)
        .await
        .expect("a durable start");
    first.result().await.expect("completes");
    let second = engine
        .start::<double>("a", &5)
        .if_exists(IfExists::StartAnew)
        .await;
    let second = second.expect("a durable start");
    assert_eq!(second.result().await.expect("completes"), 10);
    let generation = second
        .status()
        .await
        .expect("is there")
        .execution
        .generation;
    assert_eq!(generation, Some(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_starts_at_once_of_one_instance_are_one_start() {
    let home = Home::new();
    let engine = doubling(&home).await;
    let starts: Vec<_> = (0..100)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move {
                engine
                    .start::<double>("a", &4)
                    .await
                    .expect("starts or finds it")
            })
        })
        .collect();
    let mut runs = Vec::new();
    for start in starts {
        runs.push(start.await.expect("it doesn't panic"));
    }
    assert_eq!(runs.iter().filter(|run| run.is_new()).count(), 1);
    assert!(runs.iter().all(|run| run.id() == runs[0].id()));
    assert_eq!(runs[0].result().await.expect("completes"), 8);
}

#[tokio::test]
async fn a_delayed_start_begins_when_its_time_has_come() {
    let home = Home::new();
    let clock = VirtualClock::new();
    let engine = home
        .engine()
        .clock(clock.clone())
        .register::<double>()
        .start()
        .await;
    let engine = engine.expect("starts");
    let begun = clock.now();
    let at = UNIX_EPOCH + Duration::from_micros(begun.0 as u64) + HOUR;
    let early = engine
        .start::<double>("early", &2)
        .at(at)
        .await
        .expect("a durable start");
    let late = engine
        .start::<double>("late", &1)
        .delay(2 * HOUR)
        .await
        .expect("a durable start");
    assert_eq!(
        late.status().await.expect("is there").execution.status,
        ExecutionStatus::Pending
    );
    assert_eq!(clock.skip().await.since_us(begun), 3_600_000_000);
    assert_eq!(early.result().await.expect("completes"), 4);
    assert_eq!(
        late.status().await.expect("is there").execution.status,
        ExecutionStatus::Pending
    );
    assert_eq!(clock.skip().await.since_us(begun), 7_200_000_000);
    assert_eq!(late.result().await.expect("completes"), 2);
    let past = engine
        .start::<double>("past", &3)
        .at(SystemTime::UNIX_EPOCH)
        .await;
    assert_eq!(
        past.expect("a durable start")
            .result()
            .await
            .expect("begins at once"),
        6
    );
}

#[tokio::test]
async fn a_deadline_ends_an_execution_that_waits() {
    let home = Home::new();
    let clock = VirtualClock::new();
    let waiter = function("waiter", |handle: abide::TaskHandle| async move {
        handle.signal::<()>("never").await
    });
    let engine = home
        .engine()
        .clock(clock.clone())
        .register_spec(waiter)
        .start()
        .await;
    let engine = engine.expect("starts");
    let run = engine
        .start_named("waiter", "waiter", &())
        .deadline(HOUR)
        .await;
    let run = run.expect("a durable start");
    until_event(&engine, first(&run), "task.deferred").await;
    clock.advance(HOUR);
    let error = run.result().await.expect_err("too late");
    assert!(matches!(error, RunError::TimedOut), "{error}");
    let last = history(&engine, run.id()).await.pop().expect("events");
    assert_eq!(last.kind, "execution.timed_out");
}

#[tokio::test]
async fn a_deadline_that_passes_before_the_start_ends_it_too() {
    let home = Home::new();
    let clock = VirtualClock::new();
    let client = home
        .engine()
        .clock(clock.clone())
        .register::<double>()
        .connect()
        .await;
    let client = client.expect("opens");
    let run = client
        .start::<double>("a", &1)
        .deadline(HOUR)
        .await
        .expect("a durable start");
    clock.advance(HOUR);
    let engine = home
        .engine()
        .clock(clock)
        .register::<double>()
        .start()
        .await
        .expect("starts");
    // Whoever is first, claim or deadline: the execution ends, and in one way.
    let run = engine
        .start::<double>(run.instance(), &1)
        .await
        .expect("finds it");
    match run.result().await {
        Ok(number) => assert_eq!(number, 2),
        Err(error) => assert!(matches!(error, RunError::TimedOut), "{error}"),
    }
}

#[tokio::test]
async fn what_cannot_be_stored_is_refused_by_name() {
    let home = Home::new();
    let engine = home
        .engine()
        .payload_limit(1000)
        .register_spec(function("any", || async { Ok::<_, TaskError>(()) }));
    let engine = engine.start().await.expect("starts");
    let too_long = "x".repeat(2000);
    for (instance, input) in [
        ("", "fine"),
        ("a\0b", "fine"),
        ("nul", "\0"),
        ("long", &too_long),
    ] {
        let error = engine
            .start_named("any", instance, &input)
            .await
            .expect_err("refused");
        assert!(matches!(error, EngineError::Store(_)), "{error}");
    }
    let error = engine
        .start_named("anny", "a", &())
        .await
        .expect_err("unknown");
    assert_eq!(
        error.to_string(),
        "no workflow `anny` is registered; did you mean `any`?"
    );
    let error = engine
        .start::<double>("a", &1)
        .await
        .expect_err("not registered");
    assert!(matches!(error, EngineError::NotRegistered(_)), "{error}");
    begin(&engine, "any")
        .await
        .result()
        .await
        .expect("the engine goes on");
}
