//! `defer_until`: a task waits for a condition without a slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use abide::{
    Clock, Deferred, RunError, SubStatus, TaskBuilder, TaskError, TaskHandle, TaskKey, VirtualClock,
};
use serde_json::json;

use crate::common::{
    Gate, Home, SetClock, begin, first, function, function_of, history, task_events, until_event,
};

const MOMENT: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn with_one_slot_another_task_runs_to_its_end_while_one_is_deferred() {
    let home = Home::new();
    let arrived = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&arrived);
    let waiter = function("waiter", move |handle: TaskHandle| {
        let seen = Arc::clone(&seen);
        async move {
            handle
                .defer_until(|| seen.load(Ordering::SeqCst), MOMENT)
                .await?;
            Ok::<_, TaskError>(handle.holds_slot())
        }
    });
    let other = function("other", move || {
        arrived.store(true, Ordering::SeqCst);
        async { Ok::<_, TaskError>(()) }
    });
    let engine = home
        .engine()
        .max_concurrent_tasks(1)
        .register_spec(waiter)
        .register_spec(other);
    let engine = engine.start().await.expect("starts");

    let waiting = begin(&engine, "waiter").await;
    let between = begin(&engine, "other").await;
    between.result().await.expect("runs while the other waits");
    assert_eq!(waiting.result().await.expect("sees the flag"), json!(true));

    let position = |events: &[abide::EventView], kind| {
        events
            .iter()
            .find(|event| event.kind == kind)
            .map(|event| event.position)
    };
    let waited = history(&engine, waiting.id()).await;
    let ran = history(&engine, between.id()).await;
    assert!(position(&waited, "task.deferred") < position(&ran, "task.started"));
    assert!(position(&ran, "task.completed") < position(&waited, "task.resumed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_deferrals_over_two_slots_never_have_more_than_two_active() {
    const TASKS: usize = 50;
    let home = Home::new();
    let waiter = function("waiter", move |handle: TaskHandle| async move {
        for _ in 0..2 {
            let looks = AtomicU32::new(0);
            let third_look = || looks.fetch_add(1, Ordering::SeqCst) == 2;
            handle.defer_until(third_look, MOMENT).await?;
        }
        Ok::<_, TaskError>(())
    });
    let engine = home.engine().max_concurrent_tasks(2).register_spec(waiter);
    let engine = engine.start().await.expect("starts");
    let mut runs = Vec::new();
    for number in 0..TASKS {
        let run = engine
            .start_named("waiter", &format!("waiter-{number}"), &())
            .await;
        runs.push(run.expect("a durable start"));
    }
    let mut events = Vec::new();
    for run in &runs {
        run.result().await.expect("completes");
        events.extend(history(&engine, run.id()).await);
    }
    events.sort_by_key(|event| event.position);
    let (mut active, mut most, mut deferrals) = (0, 0, 0);
    for event in events {
        match event.kind {
            "task.started" | "task.resumed" => active += 1,
            "task.deferred" => (active, deferrals) = (active - 1, deferrals + 1),
            "task.completed" => active -= 1,
            _ => {}
        }
        most = most.max(active);
    }
    assert_eq!((active, most, deferrals), (0, 2, 2 * TASKS));
}

#[tokio::test]
async fn a_condition_that_is_true_already_costs_no_interval_and_no_write() {
    let home = Home::new();
    let looks = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&looks);
    let waiter = function("waiter", move |handle: TaskHandle| {
        let counted = Arc::clone(&counted);
        async move {
            let look = || counted.fetch_add(1, Ordering::SeqCst) == 0;
            handle.defer_until(look, HOUR).await
        }
    });
    // Nobody moves the clock, so a single interval would last for ever.
    let engine = home
        .engine()
        .clock(VirtualClock::new())
        .register_spec(waiter);
    let engine = engine.start().await.expect("starts");
    let run = begin(&engine, "waiter").await;
    run.result().await.expect("completes at once");
    assert_eq!(looks.load(Ordering::SeqCst), 1);
    assert_eq!(
        task_events(&engine, run.id(), 1).await[2..],
        ["task.claimed", "task.started", "task.completed"]
    );
}

#[tokio::test]
async fn cancelling_ends_a_deferral_without_waiting_for_interval_or_slot() {
    let home = Home::new();
    let gate = Gate::shut();
    let waiter = function("waiter", |handle: TaskHandle| async move {
        let error = handle
            .defer_until(|| false, HOUR)
            .await
            .expect_err("never true");
        assert_eq!((error.kind(), handle.is_cancelled()), ("cancelled", true));
        Err::<(), _>(error)
    });
    let pass = gate.clone();
    let blocker = function("blocker", move || {
        let pass = pass.clone();
        async move {
            pass.pass().await;
            Ok::<_, TaskError>(())
        }
    });
    let engine = home
        .engine()
        .clock(VirtualClock::new())
        .max_concurrent_tasks(1);
    let engine = engine
        .register_spec(waiter)
        .register_spec(blocker)
        .start()
        .await;
    let engine = engine.expect("starts");
    let waiting = begin(&engine, "waiter").await;
    until_event(&engine, first(&waiting), "task.deferred").await;
    let blocking = begin(&engine, "blocker").await;
    until_event(&engine, first(&blocking), "task.started").await;

    waiting.cancel("changed my mind").await.expect("it runs");
    let error = waiting.result().await.expect_err("cancelled");
    assert!(matches!(error, RunError::Cancelled { reason } if reason == "changed my mind"));
    assert_eq!(
        task_events(&engine, waiting.id(), 1).await[4..],
        ["task.deferred", "task.cancelled"]
    );
    gate.open(1);
    blocking.result().await.expect("has not noticed");
}

#[tokio::test]
async fn a_deferral_outlasts_the_attempts_timeout() {
    let home = Home::new();
    let clock = VirtualClock::new();
    let end = clock.now().plus_us(3 * 3_600_000_000);
    let read = clock.clone();
    let waiter = TaskBuilder::new("waiter", move |handle: TaskHandle| {
        let clock = read.clone();
        async move { handle.defer_until(move || clock.now() >= end, HOUR).await }
    });
    let waiter = function_of(waiter.timeout(Duration::from_secs(1)));
    let engine = home.engine().clock(clock.clone()).register_spec(waiter);
    let engine = engine.start().await.expect("starts");
    let run = begin(&engine, "waiter").await;
    until_event(&engine, first(&run), "task.deferred").await;
    while clock.now() < end {
        clock.skip().await;
    }
    run.result()
        .await
        .expect("has been active for no time at all");
    let task = engine
        .store()
        .tasks(run.id(), 0, 1)
        .await
        .expect("one task")
        .remove(0)
        .task;
    assert_eq!((task.active_us, task.deferred_us), (0, 3 * 3_600_000_000));
}

#[tokio::test]
async fn active_time_before_and_after_a_deferral_adds_up() {
    let home = Home::new();
    let clock = VirtualClock::new();
    let start = clock.now();
    let times = clock.clone();
    let waiter = TaskBuilder::new("waiter", move |handle: TaskHandle| {
        let clock = times.clone();
        async move {
            clock.sleep_until(start.plus_us(6_000_000)).await;
            let looks = AtomicU32::new(0);
            handle
                .defer_until(|| looks.fetch_add(1, Ordering::SeqCst) > 0, HOUR)
                .await?;
            clock.sleep_until(clock.now().plus_us(6_000_000)).await;
            Ok::<_, TaskError>(())
        }
    });
    let waiter = function_of(waiter.timeout(Duration::from_secs(10)));
    let engine = home.engine().clock(clock.clone()).register_spec(waiter);
    let engine = engine.start().await.expect("starts");
    let run = begin(&engine, "waiter").await;
    let _player = crate::common::Player::of(&clock);
    let RunError::Failed { error, .. } = run.result().await.expect_err("too long") else {
        panic!("a task failed");
    };
    assert_eq!(error.kind(), "timeout");
    assert_eq!(clock.now().since_us(start), 3_600_000_000 + 10_000_000);
}

#[tokio::test]
async fn a_deadline_ends_a_deferral_with_an_answer() {
    let home = Home::new();
    let clock = VirtualClock::new();
    let waiter = function("waiter", |handle: TaskHandle| async move {
        let limit = Duration::from_secs(90);
        let first = handle.defer_until_or(|| false, HOUR, limit).await?;
        let second = handle.defer_until_or(|| true, HOUR, limit).await?;
        Ok::<_, TaskError>([first, second].map(|end| end == Deferred::Expired))
    });
    let engine = home.engine().clock(clock.clone()).register_spec(waiter);
    let engine = engine.start().await.expect("starts");
    let start = clock.now();
    let run = begin(&engine, "waiter").await;
    assert_eq!(clock.skip().await.since_us(start), 90_000_000);
    assert_eq!(run.result().await.expect("completes"), json!([true, false]));
}

#[tokio::test]
async fn conditions_answer_at_once_or_as_futures_and_may_fail() {
    async fn exists(path: &str) -> bool {
        std::path::Path::new(path).exists()
    }
    let home = Home::new();
    let waiter = function("waiter", |handle: TaskHandle| async move {
        handle.defer_until(|| true, MOMENT).await?;
        handle.defer_until(|| exists("/"), MOMENT).await?;
        handle
            .defer_until(async || Ok::<_, std::io::Error>(true), MOMENT)
            .await?;
        let looks = AtomicU32::new(0);
        let fails = || match looks.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(false),
            _ => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
        };
        let error = handle
            .defer_until(fails, MOMENT)
            .await
            .expect_err("the second look fails");
        Ok::<_, TaskError>((error.kind().to_owned(), handle.holds_slot()))
    });
    let engine = home
        .engine()
        .register_spec(waiter)
        .start()
        .await
        .expect("starts");
    let run = begin(&engine, "waiter").await;
    assert_eq!(
        run.result().await.expect("completes"),
        json!(["io::NotFound", true])
    );
}

#[tokio::test]
async fn a_deferred_task_says_so_and_an_ended_one_has_no_sub_status() {
    let home = Home::new();
    let clock = VirtualClock::new();
    let waiter = function("waiter", |handle: TaskHandle| async move {
        let looks = AtomicU32::new(0);
        handle
            .defer_until(|| looks.fetch_add(1, Ordering::SeqCst) > 0, HOUR)
            .await
    });
    let engine = home.engine().clock(clock.clone()).register_spec(waiter);
    let engine = engine.start().await.expect("starts");
    let run = begin(&engine, "waiter").await;
    let sub_status = async |key: TaskKey| {
        let task = engine
            .store()
            .tasks(key.execution, 0, 1)
            .await
            .expect("one task")
            .remove(0)
            .task;
        task.phase.status().1
    };
    until_event(&engine, first(&run), "task.deferred").await;
    assert_eq!(sub_status(first(&run)).await, Some(SubStatus::Deferred));
    clock.skip().await;
    run.result().await.expect("completes");
    assert_eq!(sub_status(first(&run)).await, None);
}

#[tokio::test]
async fn looks_at_a_condition_go_on_however_the_clock_is_set() {
    for set_by_us in [-3_600_000_000, 3_600_000_000] {
        let home = Home::new();
        let time = VirtualClock::new();
        let (clock, start) = (SetClock::new(&time), time.now());
        let (sets, passing) = (clock.clone(), time.clone());
        let waiter = function("waiter", move |handle: TaskHandle| {
            let (sets, passing) = (sets.clone(), passing.clone());
            async move {
                // While the task sleeps between two looks: it computed before when to wake up.
                let set_between_looks = || {
                    let set_at = passing.sleep(Duration::from_secs(30));
                    let sets = sets.clone();
                    tokio::spawn(async move {
                        set_at.await;
                        sets.set_by(set_by_us);
                    });
                };
                let looks = AtomicU32::new(0);
                let fifth_look = || {
                    let look = looks.fetch_add(1, Ordering::SeqCst);
                    if look == 2 {
                        set_between_looks();
                    }
                    look == 4
                };
                let (interval, limit) = (Duration::from_secs(60), Duration::from_secs(600));
                let first = handle.defer_until_or(fifth_look, interval, limit).await?;
                set_between_looks();
                let second = handle.defer_until_or(|| false, interval, limit).await?;
                Ok::<_, TaskError>([first, second].map(|end| end == Deferred::Met))
            }
        });
        let engine = home.engine().clock(clock).register_spec(waiter);
        let engine = engine.start().await.expect("starts");
        let run = begin(&engine, "waiter").await;
        let _player = crate::common::Player::of(&time);
        assert_eq!(run.result().await.expect("completes"), json!([true, false]));
        let waited_us = time.now().since_us(start);
        assert!(
            (840_000_000..900_000_000).contains(&waited_us),
            "{waited_us}"
        );
    }
}
