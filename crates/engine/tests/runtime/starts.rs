//! Starting: once per instance, now or later, until a deadline.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use abide::{
    Clock, Engine, EngineBuilder, EngineError, ExecutionStatus, IfExists, Refusal, RunError,
    TaskError, VirtualClock, workflow,
};

use crate::common::{Home, begin, first, function, history, until_event};

#[workflow]
async fn double(number: u32) -> Result<u32, TaskError> {
    Ok(2 * number)
}

#[workflow]
async fn triple(number: u32) -> Result<u32, TaskError> {
    Ok(3 * number)
}

/// Gives its input.
#[workflow]
async fn large(number: u128) -> Result<u128, TaskError> {
    Ok(number)
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
    let found = engine.find::<double>("a").await.expect("is there");
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
async fn inputs_that_differ_only_beyond_64_bits_are_different() {
    let home = Home::new();
    let engine = home.engine().register::<large>().start().await;
    let engine = engine.expect("starts");
    let input = (1_u128 << 64) + 1;
    let run = engine.start::<large>("a", &input).await.expect("a start");
    assert_eq!(run.result().await.expect("completes"), input);
    for other in [input + 1, input - 1, u128::MAX] {
        let refused = engine.start::<large>("a", &other).await;
        let refused = refused.expect_err("another input");
        let different = matches!(
            refused,
            EngineError::Refused(Refusal::DifferentInput { .. })
        );
        assert!(different, "{refused}");
    }
    let again = engine.start::<large>("a", &input).await.expect("finds it");
    assert_eq!(again.id(), run.id());
    let graph = |number| abide::GraphOf::<large>::new().add("n", "large", &number);
    let run = engine
        .start_graph("b", graph(input))
        .await
        .expect("a start");
    let again = engine.start_graph("b", graph(input)).await;
    assert_eq!(again.expect("finds it").id(), run.id());
    engine
        .start_graph("b", graph(input + 1))
        .await
        .expect_err("another input of a node");
}

/// Refused, since the instance is one of `double` and not of `triple`.
#[track_caller]
fn is_of_double<T>(answer: Result<T, EngineError>, instance: &str) {
    let error = answer.map(drop).expect_err("another workflow");
    let text = format!(
        "instance `{instance}` is one of workflow `double`, not of `triple`: all workflows of a \
         store share its instance ids, so instances of `triple` need ids of their own, such as \
         `triple-{instance}`"
    );
    assert!(
        matches!(error, EngineError::OtherWorkflow { .. }),
        "{error:?}"
    );
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn an_instance_of_another_workflow_is_refused_by_its_name() {
    let home = Home::new();
    let engine = home.engine().register::<double>().register::<triple>();
    let engine = engine.start().await.expect("starts");
    let ended = engine.start::<double>("ended", &4).await.expect("a start");
    ended.result().await.expect("completes");
    let open = engine.start::<double>("open", &4).delay(HOUR).await;
    open.expect("a start");
    for instance in ["ended", "open"] {
        for input in [4, 5] {
            is_of_double(engine.start::<triple>(instance, &input).await, instance);
        }
        let anew = engine.start::<triple>(instance, &4);
        is_of_double(anew.if_exists(IfExists::StartAnew).await, instance);
        is_of_double(engine.start_named("triple", instance, &4).await, instance);
        let graph = abide::GraphOf::<triple>::new().add(instance, "triple", &4);
        is_of_double(engine.start_graph(instance, graph).await, instance);
        is_of_double(engine.find::<triple>(instance).await, instance);
        // Whoever wants none that exists is told so, whatever it is of.
        let rejected = engine.start::<triple>(instance, &4);
        let rejected = rejected.if_exists(IfExists::Reject).await;
        let rejected = rejected.expect_err("exists");
        let exists = Refusal::InstanceExists {
            instance: instance.to_owned(),
            execution: engine.find::<double>(instance).await.expect("there").id(),
            status: match instance {
                "ended" => ExecutionStatus::Completed,
                _ => ExecutionStatus::Pending,
            },
        };
        assert_eq!(rejected.to_string(), exists.to_string());
    }
    let again = engine.start::<double>("ended", &4).await.expect("finds it");
    assert_eq!(again.id(), ended.id());
}

#[tokio::test]
async fn a_start_that_is_repeated_with_another_version_finds_what_it_started() {
    let home = Home::new();
    let of_version = |version: &str| {
        let mut spec = function("flow", async || Ok::<_, TaskError>(()));
        spec.version = version.to_owned();
        home.engine().register_spec(spec)
    };
    let before = of_version("1").connect().await.expect("opens");
    let run = begin(&before, "flow").await;
    let after = of_version("2").connect().await.expect("opens");
    let again = begin(&after, "flow").await;
    assert_eq!((again.id(), again.is_new()), (run.id(), false));
    let other = after.start_named("flow", "flow", &1).await;
    let other = other.expect_err("another input");
    assert!(other.to_string().contains("with another input"), "{other}");
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

#[tokio::test]
async fn an_option_beyond_its_bounds_is_refused_by_name() {
    const MIB: usize = 1024 * 1024;
    let home = Home::new();
    let refused = async |builder: EngineBuilder, words: &str| {
        let error = builder.start().await.expect_err("makes no sense");
        assert!(matches!(error, EngineError::Option(_)), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    };
    for limit in [0, 1, 255, 256 * MIB + 1, usize::MAX] {
        let words = format!("payload_limit is {limit}; it must be from 256 to 268435456");
        refused(home.engine().payload_limit(limit), &words).await;
    }
    let tasks = home.engine().max_concurrent_tasks(0);
    refused(tasks, "max_concurrent_tasks is 0").await;
    let tasks = home.engine().max_concurrent_tasks(usize::MAX);
    refused(tasks, "the most is 1000000").await;

    // The bounds themselves work.
    for (limit, tasks, parked) in [(256, 1, 0), (256 * MIB, 1_000_000, usize::MAX)] {
        let engine = home.engine().payload_limit(limit);
        let engine = engine.max_concurrent_tasks(tasks).max_parked_tasks(parked);
        let engine = engine.register::<double>().start().await.expect("starts");
        let run = engine.start::<double>(&format!("at-{limit}"), &2).await;
        let run = run.expect("starts");
        assert_eq!(run.result().await.expect("completes"), 4);
        engine.shutdown().await;
    }
}

#[tokio::test]
async fn a_tag_or_actor_that_is_no_name_is_refused() {
    let home = Home::new();
    let engine = home.engine().register::<double>().start().await;
    let engine = engine.expect("starts");
    for (tag, words) in [
        ("", "tag is empty"),
        ("a\nb", "control character"),
        (&"x".repeat(256), "256 bytes long"),
    ] {
        let start = engine.start::<double>("tagged", &1).tag("fine").tag(tag);
        let error = start.await.expect_err("refused").to_string();
        assert!(error.contains(words), "{error}");
    }
    let start = engine.start::<double>("tagged", &1).actor("");
    let error = start.await.expect_err("refused").to_string();
    assert!(error.contains("actor is empty"), "{error}");
    assert!(engine.find::<double>("tagged").await.is_err(), "none began");
    let longest = "x".repeat(255);
    let start = engine
        .start::<double>("tagged", &1)
        .tag(&longest)
        .tag(longest.as_str());
    assert_eq!(
        start
            .await
            .expect("starts")
            .result()
            .await
            .expect("completes"),
        2
    );
}
