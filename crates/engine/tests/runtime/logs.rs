//! What the log says: which attempt a line is from, and what the engine reports by itself.

use std::time::Duration;

use abide::{Backoff, Engine, IfExists, TaskBuilder, TaskError, TaskHandle, VirtualClock};
use tracing::Level;

use crate::captured::{Line, captured};
use crate::common::{Gate, Home, Player, begin, function, function_of};
use crate::workers::claim_and_die;

/// The only line of an instance with this text in its message.
fn only(instance: &str, text: &str) -> Line {
    let mut lines = captured().of(instance);
    lines.retain(|line| line.message().contains(text));
    assert_eq!(lines.len(), 1, "lines with `{text}`: {lines:#?}");
    lines.remove(0)
}

async fn with(home: &Home, clock: &VirtualClock, task: TaskBuilder) -> Engine {
    let engine = home.engine().clock(clock.clone());
    let engine = engine.register_spec(function_of(task)).start().await;
    engine.expect("starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_users_log_lines_say_which_attempt_they_are_from() {
    captured();
    let home = Home::new();
    let clock = VirtualClock::new();
    let wordy = TaskBuilder::new("wordy", async |handle: &TaskHandle| {
        tracing::info!("wordy begins");
        handle
            .step("look", async || {
                tokio::task::yield_now().await;
                tracing::info!("wordy looks");
                Ok::<_, TaskError>(())
            })
            .await?;
        handle.sleep(Duration::from_secs(3600)).await?;
        tracing::info!("wordy goes on");
        match handle.attempt() {
            1 => Err(TaskError::new("early", "too early")),
            _ => Ok(()),
        }
    });
    let engine = with(&home, &clock, wordy.retries(1)).await;
    let _player = Player::of(&clock);
    let run = begin(&engine, "wordy").await;
    run.result().await.expect("the second attempt succeeds");
    engine.shutdown().await;

    let own = |line: &Line| line.message().starts_with("wordy");
    let lines: Vec<Line> = captured().of("wordy").into_iter().filter(own).collect();
    let said: Vec<&str> = lines.iter().map(Line::message).collect();
    // The first attempt's step is recorded; the second replays it, and its sleep.
    let first = ["wordy begins", "wordy looks", "wordy goes on"];
    let second = ["wordy begins", "wordy goes on"];
    assert_eq!(said, [&first[..], &second].concat());
    for (at, line) in lines.iter().enumerate() {
        let attempt = if at < first.len() { "1" } else { "2" };
        let execution = run.id().to_string();
        let expected = [
            ("instance", "wordy"),
            ("workflow", "wordy"),
            ("execution", execution.as_str()),
            ("task", "wordy"),
            ("node", "wordy"),
            ("attempt", attempt),
        ];
        for (field, value) in expected {
            assert_eq!(line.span(field), Some(value), "{field} of {line:?}");
        }
        assert_eq!(line.spans.len(), 1, "{line:?}");
    }
}

#[tokio::test]
async fn an_attempt_that_another_task_starts_is_in_no_span_of_that_task() {
    captured();
    let home = Home::new();
    let (begun, gate) = (Gate::shut(), Gate::shut());
    let (outer_engine, given) = tokio::sync::watch::channel(None::<Engine>);
    let gates = (begun.clone(), gate.clone());
    let outer = function("outer-span", move || {
        let mut given = given.clone();
        async move {
            let engine = given.wait_for(Option::is_some).await.expect("kept").clone();
            begin(&engine.expect("some"), "inner-span").await;
            Ok::<_, TaskError>(())
        }
    });
    let inner = function("inner-span", move || {
        let (begun, gate) = gates.clone();
        async move {
            tracing::info!("inside");
            begun.open(1);
            gate.pass().await;
            Ok::<_, TaskError>(())
        }
    });
    let engine = home.engine().register_spec(outer).register_spec(inner);
    let engine = engine.start().await.expect("starts");
    begin(&engine, "outer-span").await;
    outer_engine.send(Some(engine.clone())).expect("it waits");
    begun.pass().await;
    gate.open(1);
    outer_engine.send(None).ok();
    engine.shutdown().await;
    assert_eq!(only("inner-span", "inside").spans.len(), 1);
}

#[tokio::test]
async fn a_failure_is_told_when_it_is_retried_and_when_it_is_for_good() {
    captured();
    let home = Home::new();
    let clock = VirtualClock::new();
    let task = TaskBuilder::new("hopeless", async || {
        Err::<(), _>(TaskError::new("no_card", "there is no card"))
    });
    let retried = task
        .retries(1)
        .backoff(Backoff::fixed(Duration::from_secs(60)));
    let engine = with(&home, &clock, retried).await;
    let _player = Player::of(&clock);
    let run = begin(&engine, "hopeless").await;
    run.result().await.expect_err("both attempts fail");
    engine.shutdown().await;

    let retry = only("hopeless", "is tried again in 60s");
    assert_eq!(retry.level, Level::INFO);
    assert_eq!(retry.field("error"), Some("no_card: there is no card"));
    assert_eq!(retry.span("attempt"), Some("1"));
    let end = only("hopeless", "failed for good");
    assert_eq!(end.level, Level::WARN);
    assert_eq!(
        end.message(),
        "task `hopeless` of instance `hopeless` failed for good"
    );
    assert_eq!(end.field("error"), Some("no_card: there is no card"));
    assert_eq!(end.field("attempts"), Some("2"));
}

#[tokio::test]
async fn code_that_does_not_match_its_record_is_told_with_what_to_do() {
    captured();
    let home = Home::new();
    let clock = VirtualClock::new();
    let before = TaskBuilder::new("changed", async |handle: &TaskHandle| {
        handle.sleep(Duration::from_secs(3600)).await
    });
    let engine = with(&home, &clock, before).await;
    let run = begin(&engine, "changed").await;
    while !is_waiting(&engine, run.id()).await {
        tokio::task::yield_now().await;
    }
    engine.shutdown().await;
    drop((run, engine));

    let after = TaskBuilder::new("changed", async |handle: &TaskHandle| {
        handle.signal::<()>("approval").await
    });
    let engine = with(&home, &clock, after).await;
    let _player = Player::of(&clock);
    let again = engine.start_named("changed", "changed", &());
    let run = again.if_exists(IfExists::UseExisting).await.expect("there");
    let line = captured()
        .until(|line| line.is_about("changed") && line.message().contains("does not match"));
    let line = line.await;
    assert_eq!(line.level, Level::WARN);
    assert!(line.message().contains("earlier code"), "{line:?}");
    let difference = line.field("difference").expect("it says what differs");
    assert!(difference.contains("approval"), "{difference}");
    assert_eq!(line.span("execution"), Some(run.id().to_string().as_str()));
    engine.shutdown().await;
}

#[tokio::test]
async fn an_abandoned_task_is_told_with_what_to_do() {
    captured();
    let home = Home::new();
    let quick = || function("deadly", async || Ok::<_, TaskError>(()));
    let client = home.engine().register_spec(quick()).connect().await;
    let run = begin(&client.expect("opens"), "deadly").await;
    claim_and_die(&home, false).await;
    let engine = home.engine().max_crashes(0).start().await.expect("starts");
    run.result().await.expect_err("abandoned");
    let key = format!("{}/1", run.id());
    let line = captured()
        .until(|line| line.field("key") == Some(&key))
        .await;
    assert_eq!(line.level, Level::WARN);
    for part in [
        "is abandoned",
        "more than 0 times",
        "start its instance anew",
    ] {
        assert!(line.message().contains(part), "{part}: {line:?}");
    }
    engine.shutdown().await;
}

#[tokio::test]
async fn open_executions_that_nobody_here_can_run_are_told_with_what_to_do() {
    captured();
    let home = Home::new();
    let unknown = function("unregistered", async || Ok::<_, TaskError>(()));
    let client = home.engine().register_spec(unknown).connect().await;
    begin(&client.expect("opens"), "unregistered").await;
    let engine = home.engine().start().await.expect("starts");
    let line = captured().until(|line| line.field("workflow") == Some("unregistered"));
    let line = line.await;
    assert_eq!(line.level, Level::WARN);
    assert_eq!(line.field("version"), Some("1"));
    assert_eq!(line.field("executions"), Some("1"));
    assert!(line.message().contains("register it here too"), "{line:?}");
    engine.shutdown().await;
}

async fn is_waiting(engine: &Engine, id: abide::ExecutionId) -> bool {
    let tasks = engine.store().tasks(id, 0, 1).await.expect("one task");
    tasks[0].task.wait.is_some()
}
