//! Options at the ends of their ranges: an engine with them works, or they are refused by name.

use std::time::Duration;

use abide::{EngineBuilder, EngineError, TaskError, TaskHandle};
use serde_json::json;

use crate::common::{Home, function};

const SHORTEST: Duration = Duration::from_nanos(1);

/// Waits for a signal and for a while, and does a step.
fn visit() -> abide::authoring::WorkflowSpec {
    function("visit", |handle: TaskHandle| async move {
        let word: u32 = handle.signal("word").await?;
        handle.sleep(Duration::from_millis(1)).await?;
        handle
            .step("answer", async || Ok::<_, TaskError>(word))
            .await
    })
}

/// Whether an engine starts with an option, which the error has to name otherwise.
async fn works(home: &Home, instance: &str, name: &str, set: EngineBuilder) -> bool {
    let engine = match set.register_spec(visit()).start().await {
        Ok(engine) => engine,
        Err(EngineError::Option(refused)) => {
            let named = name.replace('_', " ");
            assert!(
                refused.contains(name) || refused.contains(&named),
                "{refused}"
            );
            return false;
        }
        Err(error) => panic!("{name}: {error}"),
    };
    let run = engine.start_named("visit", instance, &()).await;
    let run = run.expect("durable");
    let told = home.engine().connect().await.expect("opens");
    let sent = told.signal(instance, "word", &7).await;
    sent.expect("it is live");
    assert_eq!(run.result().await.expect("completes"), json!(7), "{name}");
    engine
        .store()
        .prune_history(Duration::MAX)
        .await
        .expect("nothing is that old");
    engine.shutdown().await;
    true
}

#[tokio::test]
async fn durations_of_nothing_of_little_and_without_an_end_work_or_are_refused_by_name() {
    type Set = fn(EngineBuilder, Duration) -> EngineBuilder;
    let options: [(&str, Set, [bool; 3]); 7] = [
        ("lease", EngineBuilder::lease, [false, false, true]),
        ("blocked_limit", EngineBuilder::blocked_limit, [true; 3]),
        (
            "poll_interval",
            EngineBuilder::poll_interval,
            [false, false, true],
        ),
        ("busy_timeout", EngineBuilder::busy_timeout, [true; 3]),
        (
            "shutdown_deadline",
            EngineBuilder::shutdown_deadline,
            [true; 3],
        ),
        ("cancel_grace", EngineBuilder::cancel_grace, [true; 3]),
        (
            "history_retention",
            EngineBuilder::history_retention,
            [true; 3],
        ),
    ];
    let home = Home::new();
    for (name, set, expected) in options {
        for (value, expected) in [Duration::ZERO, SHORTEST, Duration::MAX]
            .into_iter()
            .zip(expected)
        {
            let engine = set(home.engine(), value);
            let works = works(&home, &format!("{name} {value:?}"), name, engine).await;
            assert_eq!(works, expected, "{name} {value:?}");
        }
    }
}

#[tokio::test]
async fn numbers_of_nothing_and_without_an_end_work_or_are_refused_by_name() {
    type Set = fn(EngineBuilder, usize) -> EngineBuilder;
    let options: [(&str, Set, [bool; 3]); 4] = [
        (
            "max_concurrent_tasks",
            EngineBuilder::max_concurrent_tasks,
            [false, true, false],
        ),
        (
            "max_parked_tasks",
            EngineBuilder::max_parked_tasks,
            [true; 3],
        ),
        (
            "max_crashes",
            |it, value| it.max_crashes(u32::try_from(value).unwrap_or(u32::MAX)),
            [true; 3],
        ),
        ("payload_limit", EngineBuilder::payload_limit, [false; 3]),
    ];
    let home = Home::new();
    for (name, set, expected) in options {
        for (value, expected) in [0, 1, usize::MAX].into_iter().zip(expected) {
            let engine = set(home.engine(), value);
            let works = works(&home, &format!("{name} {value}"), name, engine).await;
            assert_eq!(works, expected, "{name} {value}");
        }
    }
}

#[tokio::test]
async fn starts_and_waits_without_an_end_wait() {
    let home = Home::new();
    let endless = function("endless", |handle: TaskHandle| async move {
        handle.sleep(Duration::MAX).await?;
        Ok::<_, TaskError>(())
    });
    let impatient = function("impatient", |handle: TaskHandle| async move {
        handle.defer_until(|| true, Duration::MAX).await?;
        let mut looks = 0;
        let second = move || {
            looks += 1;
            looks > 1
        };
        handle.defer_until(second, Duration::ZERO).await?;
        Ok::<_, TaskError>(true)
    });
    let builder = home
        .engine()
        .register_spec(endless)
        .register_spec(impatient);
    let engine = builder.start().await.expect("starts");
    for (instance, delay, deadline) in [
        ("now", Duration::ZERO, Duration::MAX),
        ("soon", SHORTEST, Duration::MAX),
        ("never", Duration::MAX, Duration::MAX),
    ] {
        let start = engine.start_named("impatient", instance, &());
        let run = start
            .delay(delay)
            .deadline(deadline)
            .await
            .expect("durable");
        if delay < Duration::MAX {
            assert_eq!(
                run.result().await.expect("completes"),
                json!(true),
                "{instance}"
            );
        } else {
            run.cancel("it would never begin").await.expect("it waits");
        }
    }
    let run = engine.start_named("endless", "endless", &()).await;
    let run = run.expect("durable");
    crate::common::until_event(&engine, crate::common::first(&run), "task.deferred").await;
    run.cancel("it would never end").await.expect("it waits");
    run.result().await.expect_err("cancelled");
    engine.shutdown().await;
}
