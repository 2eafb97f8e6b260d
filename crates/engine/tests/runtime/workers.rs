//! The worker as a whole: stopping, recovery, what it leaves alone, and
//! that it does nothing when there is nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use abide::{
    Clock, Engine, EngineError, ExecutionStatus, RunError, Store, StoreError, TaskError,
    TaskHandle, TaskKey, VirtualClock,
};
use abide_core::ids::{ExecutionId, WorkerId};
use abide_core::kernel::{Claimed, Defer, Held, Request};
use abide_store::{NewWorker, StoreOptions};
use serde_json::json;
use tracing::Level;

use crate::captured::{Line, captured};
use crate::common::{
    Barrier, Gate, Home, begin, blocker, first, function, gated, history, runtime, task_events,
    until_event,
};

const HOUR: Duration = Duration::from_secs(3600);

fn quick(id: &str) -> abide::authoring::WorkflowSpec {
    function(id, || async { Ok::<_, TaskError>("done") })
}

#[tokio::test]
async fn work_that_nobody_registered_is_left_alone_until_somebody_does() {
    let home = Home::new();
    let client = home
        .engine()
        .register_spec(quick("later"))
        .connect()
        .await
        .expect("opens");
    let waiting = begin(&client, "later").await;
    let engine = home
        .engine()
        .register_spec(quick("now"))
        .start()
        .await
        .expect("starts");
    let run = begin(&engine, "now").await;
    assert_eq!(run.result().await.expect("completes"), json!("done"));
    let events = task_events(&engine, waiting.id(), 1).await;
    assert_eq!(events, ["task.created", "task.marked_ready"]);
    engine.shutdown().await;
    let engine = home
        .engine()
        .register_spec(quick("later"))
        .start()
        .await
        .expect("starts");
    let run = begin(&engine, "later").await;
    assert_eq!(run.id(), waiting.id());
    assert_eq!(run.result().await.expect("completes"), json!("done"));
}

#[tokio::test]
async fn shutting_down_lets_running_tasks_finish_and_begins_no_other() {
    let home = Home::new();
    let (begun, gate) = (Gate::shut(), Gate::shut());
    let gated = gated(&begun, &gate);
    let engine = home
        .engine()
        .max_concurrent_tasks(1)
        .register_spec(gated)
        .start()
        .await;
    let engine = engine.expect("starts");
    let running = begin(&engine, "gated").await;
    begun.pass().await;
    let waiting = engine
        .start_named("gated", "second", &())
        .await
        .expect("a durable start");
    let stopping = engine.clone();
    let shutdown = tokio::spawn(async move { stopping.shutdown().await });
    tokio::task::yield_now().await;
    gate.open(2);
    shutdown.await.expect("it doesn't panic");
    running.result().await.expect("it could finish");
    let status = waiting.status().await.expect("is there").execution.status;
    assert_eq!(status, ExecutionStatus::Pending);
}

#[tokio::test]
async fn what_is_not_done_at_the_deadline_is_given_back_at_no_attempts_cost() {
    let home = Home::new();
    let clock = VirtualClock::new();
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let stuck = function("stuck", move || {
        let call = count.fetch_add(1, Ordering::SeqCst);
        async move {
            if call == 0 {
                std::future::pending::<()>().await;
            }
            Ok::<_, TaskError>(call)
        }
    });
    let start = || {
        home.engine()
            .clock(clock.clone())
            .register_spec(stuck.clone())
            .start()
    };
    let engine = start().await.expect("starts");
    let run = begin(&engine, "stuck").await;
    while calls.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let stopping = engine.clone();
    let shutdown = tokio::spawn(async move { stopping.shutdown().await });
    clock.sleeper_until(clock.now().plus_us(30_000_000)).await;
    clock.advance(Duration::from_secs(30));
    shutdown.await.expect("it doesn't panic");
    let last = task_events(&engine, run.id(), 1).await.pop();
    assert_eq!(last, Some("task.released"));
    drop(engine);

    let engine = start().await.expect("starts again");
    let run = begin(&engine, "stuck").await;
    assert_eq!(run.result().await.expect("completes"), json!(1));
    let task = engine
        .store()
        .tasks(run.id(), 0, 1)
        .await
        .expect("one task")
        .remove(0)
        .task;
    assert_eq!((task.attempt, task.epoch), (1, 2));
}

#[tokio::test]
async fn tasks_that_wait_do_not_hold_a_shutdown_up() {
    let home = Home::new();
    let deferred = function("deferred", |handle: TaskHandle| async move {
        handle.defer_until(|| false, HOUR).await
    });
    let sleeping = function("sleeping", |handle: TaskHandle| async move {
        handle.sleep(HOUR).await
    });
    // Nobody moves the clock, so the deadline never comes.
    let engine = home.engine().clock(VirtualClock::new());
    let engine = engine
        .register_spec(deferred)
        .register_spec(sleeping)
        .start()
        .await;
    let engine = engine.expect("starts");
    let waits = [
        begin(&engine, "deferred").await,
        begin(&engine, "sleeping").await,
    ];
    for run in &waits {
        until_event(&engine, first(run), "task.deferred").await;
    }
    engine.shutdown().await;
    let last = async |run: &abide::Run<_>| task_events(&engine, run.id(), 1).await.pop();
    assert_eq!(last(&waits[0]).await, Some("task.released"));
    assert_eq!(last(&waits[1]).await, Some("task.evicted"));
}

#[tokio::test]
async fn dropping_the_engine_gives_back_what_it_runs() {
    let home = Home::new();
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let stuck = function("stuck", move || {
        let call = count.fetch_add(1, Ordering::SeqCst);
        async move {
            if call == 0 {
                std::future::pending::<()>().await;
            }
            Ok::<_, TaskError>(call)
        }
    });
    let engine = home
        .engine()
        .register_spec(stuck.clone())
        .start()
        .await
        .expect("starts");
    let run = begin(&engine, "stuck").await;
    while calls.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    drop((engine, run));
    let engine = home.engine().register_spec(stuck).start().await;
    let engine = engine.expect("starts beside it");
    let run = begin(&engine, "stuck").await;
    assert_eq!(run.result().await.expect("completes"), json!(1));
}

/// A process that claimed a task and died.
pub(crate) async fn claim_and_die(home: &Home, defer: bool) {
    let store = Store::open(&home.url(), StoreOptions::default())
        .await
        .expect("opens");
    let worker = WorkerId(store.now().0);
    let row = NewWorker {
        id: worker,
        host: "gone".to_owned(),
        pid: 1,
    };
    store
        .register_worker(row, Duration::from_secs(3600))
        .await
        .expect("is written");
    let queues: Vec<_> = store
        .versions()
        .await
        .expect("reads")
        .iter()
        .map(|version| version.id)
        .collect();
    let mut claims = store
        .claim(worker, queues.into(), 1)
        .await
        .expect("is written");
    let Claimed { task, .. } = claims.claimed.pop().expect("one is ready");
    if defer {
        let held = Held {
            key: task.key,
            epoch: task.epoch,
            worker,
        };
        let defer = Defer {
            held,
            given_back: Vec::new(),
            wait: "a file".to_owned(),
        };
        let deferred = store.apply(Request::Defer(defer)).await;
        deferred.expect("is written");
    }
    // Where no lock tells that a process is gone, its lease does.
    let ends = store.heartbeat(worker, Duration::ZERO).await;
    ends.expect("is written");
    store.close().await;
}

/// Until tasks of it were taken back from so many who died. On a server that has just been started
/// everybody gets a lease's time first.
async fn until_taken_back(engine: &Engine, id: ExecutionId, times: usize) {
    let is_end_of_one = |kind| ["task.recovered", "task.abandoned"].contains(&kind);
    loop {
        let events = history(engine, id).await;
        let ends = events.iter().filter(|event| is_end_of_one(event.kind));
        if ends.count() >= times {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_dead_process_tasks_are_recovered_at_once_and_a_crash_costs_an_attempt() {
    let home = Home::new();
    let client = home
        .engine()
        .register_spec(quick("a"))
        .connect()
        .await
        .expect("opens");
    let run = begin(&client, "a").await;
    claim_and_die(&home, false).await;
    let engine = home
        .engine()
        .register_spec(quick("a"))
        .start()
        .await
        .expect("starts");
    begin(&engine, "a").await.result().await.expect("completes");
    let events = history(&engine, run.id()).await;
    let recovered = events.iter().find(|event| event.kind == "task.recovered");
    let reason = recovered
        .and_then(|event| event.data.clone())
        .expect("it says why");
    assert!(
        reason.contains("the process that held it is gone"),
        "{reason}"
    );
    assert_eq!(
        events.iter().filter_map(|event| event.attempt).max(),
        Some(2)
    );
}

#[tokio::test]
async fn an_engine_starts_although_nothing_can_be_recovered_and_recovers_it_later() {
    let home = Home::new();
    let client = home
        .engine()
        .register_spec(quick("a"))
        .connect()
        .await
        .expect("opens");
    let run = begin(&client, "a").await;
    claim_and_die(&home, false).await;
    home.refuse_changes().await;
    let engine = home
        .engine()
        .register_spec(quick("a"))
        .lease(Duration::from_secs(1))
        .start()
        .await
        .expect("starts");
    let events = task_events(&engine, run.id(), 1).await;
    assert!(!events.contains(&"task.recovered"), "{events:?}");
    home.allow_changes().await;
    begin(&engine, "a").await.result().await.expect("completes");
    let events = task_events(&engine, run.id(), 1).await;
    assert!(events.contains(&"task.recovered"), "{events:?}");
}

#[tokio::test]
async fn a_crash_during_a_deferral_is_free() {
    let home = Home::new();
    let client = home
        .engine()
        .register_spec(quick("a"))
        .connect()
        .await
        .expect("opens");
    let run = begin(&client, "a").await;
    for died in 1..=5 {
        claim_and_die(&home, true).await;
        let engine = home
            .engine()
            .start()
            .await
            .expect("starts, and knows no workflow");
        until_taken_back(&engine, run.id(), died).await;
        engine.shutdown().await;
    }
    let engine = home
        .engine()
        .register_spec(quick("a"))
        .start()
        .await
        .expect("starts");
    begin(&engine, "a").await.result().await.expect("completes");
    let attempts = history(&engine, run.id())
        .await
        .into_iter()
        .filter_map(|event| event.attempt);
    assert_eq!(attempts.max(), Some(1));
}

#[tokio::test]
async fn a_task_that_takes_its_process_down_too_often_is_abandoned() {
    let home = Home::new();
    let client = home
        .engine()
        .register_spec(quick("a"))
        .connect()
        .await
        .expect("opens");
    let run = begin(&client, "a").await;
    for died in 1..=3 {
        claim_and_die(&home, false).await;
        let engine = home.engine().max_crashes(2).start().await.expect("starts");
        until_taken_back(&engine, run.id(), died).await;
        engine.shutdown().await;
    }
    let error = run.result().await.expect_err("abandoned");
    let RunError::Failed { node, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(node, "a");
    assert_eq!(
        *task_events(&client, run.id(), 1)
            .await
            .last()
            .expect("events"),
        "task.abandoned"
    );
}

#[tokio::test]
async fn another_process_sees_the_end_without_asking_for_it() {
    let home = Home::new();
    let engine = home
        .engine()
        .register_spec(quick("a"))
        .start()
        .await
        .expect("starts");
    let client = home
        .engine()
        .register_spec(quick("a"))
        .connect()
        .await
        .expect("opens");
    // Started there, run here, awaited there.
    let run = begin(&client, "a").await;
    assert_eq!(run.result().await.expect("completes"), json!("done"));
    engine.shutdown().await;
}

#[tokio::test]
async fn cancelling_works_while_nobody_runs_tasks() {
    let home = Home::new();
    let client = home
        .engine()
        .register_spec(quick("a"))
        .connect()
        .await
        .expect("opens");
    let run = begin(&client, "a").await;
    let reply = client
        .acting_as("user:eva")
        .cancel(run.id(), "not needed")
        .await
        .expect("is written");
    assert_eq!(
        (reply.status(), reply.is_changed()),
        (ExecutionStatus::Cancelled, true)
    );
    let again = client
        .cancel(run.id(), "not needed")
        .await
        .expect("is satisfied");
    assert_eq!(
        (again.status(), again.is_changed()),
        (ExecutionStatus::Cancelled, false)
    );
    let task = client
        .store()
        .tasks(run.id(), 0, 1)
        .await
        .expect("one task")
        .remove(0)
        .task;
    assert!(task.phase.is_terminal());
    let events = history(&client, run.id()).await;
    let cancelled = events
        .iter()
        .find(|event| event.kind == "execution.cancelled");
    let actor = cancelled.and_then(|event| event.actor.as_deref());
    assert_eq!(actor, Some("user:eva"));
}

#[tokio::test]
async fn a_running_task_has_the_grace_period_to_stop_and_not_more() {
    let home = Home::new();
    let clock = VirtualClock::new();
    let stubborn = function("stubborn", |handle: TaskHandle| async move {
        handle.cancelled().await;
        std::future::pending::<Result<(), TaskError>>().await
    });
    // The lease outlasts the jump of the clock, which its renewal doesn't follow at once.
    let engine = home.engine().clock(clock.clone()).lease(HOUR);
    let engine = engine
        .max_concurrent_tasks(1)
        .register_spec(stubborn)
        .register_spec(quick("next"))
        .start()
        .await;
    let engine: Engine = engine.expect("starts");
    let run = begin(&engine, "stubborn").await;
    until_event(&engine, first(&run), "task.started").await;
    run.cancel("stop it").await.expect("it runs");
    assert_eq!(
        run.status().await.expect("is there").execution.status,
        ExecutionStatus::Cancelling
    );
    let next = begin(&engine, "next").await;
    clock.sleeper_until(clock.now().plus_us(30_000_000)).await;
    clock.advance(Duration::from_secs(30));
    let error = run.result().await.expect_err("cancelled");
    assert!(matches!(error, RunError::Cancelled { .. }), "{error}");
    next.result().await.expect("the slot is free");
    let key = TaskKey::new(run.id(), 1);
    assert_eq!(
        *task_events(&engine, key.execution, 1)
            .await
            .last()
            .expect("events"),
        "task.cancelled"
    );
}

#[tokio::test]
async fn a_worker_that_was_declared_dead_goes_on_under_a_new_id() {
    let home = Home::new();
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let stuck = function("stuck", move || {
        let call = count.fetch_add(1, Ordering::SeqCst);
        async move {
            if call == 0 {
                std::future::pending::<()>().await;
            }
            Ok::<_, TaskError>(call)
        }
    });
    let engine = home
        .engine()
        .lease(Duration::from_millis(300))
        .register_spec(stuck);
    let engine = engine.start().await.expect("starts");
    let run = begin(&engine, "stuck").await;
    while calls.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let before = engine.store().workers().await.expect("reads").remove(0).id;
    engine.store().end_worker(before).await.expect("is written");
    // Its next heartbeat tells: the first call is dropped, and recovery makes the second.
    assert_eq!(run.result().await.expect("completes"), json!(1));
    let after = engine.store().workers().await.expect("reads").remove(0).id;
    assert_ne!(after, before);
}

#[tokio::test]
async fn a_blocked_runtime_keeps_its_tasks_while_its_process_lives() {
    const LEASE: Duration = Duration::from_secs(2);
    let home = Home::new();
    let (begun, barrier) = (Gate::shut(), Barrier::default());
    let blocked = runtime(1);
    let builder = home.engine().lease(LEASE);
    let builder = builder.register_spec(blocker(&begun, &barrier));
    let engine = blocked.spawn(builder.start()).await.expect("no panic");
    let engine = engine.expect("starts");
    let worker = engine.store().workers().await.expect("reads").remove(0);
    let other = home
        .engine()
        .lease(LEASE)
        .start()
        .await
        .expect("starts beside it, and knows no workflow");
    let run = begin(&engine, "blocker").await;
    begun.pass().await;
    let renewed_us = async || {
        let workers = other.store().workers().await.expect("reads");
        let own = workers.iter().find(|row| row.id == worker.id);
        let own = own.expect("it was not declared dead");
        own.lease_until.since_us(worker.lease_until)
    };
    while renewed_us().await < 5 * i64::try_from(LEASE.as_micros()).expect("small") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    barrier.open();
    assert_eq!(run.result().await.expect("completes"), json!("done"));
    let events = task_events(&other, run.id(), 1).await;
    assert_eq!(
        events[2..],
        ["task.claimed", "task.started", "task.completed"]
    );
    blocked
        .spawn(async move { engine.shutdown().await })
        .await
        .expect("no panic");
    other.shutdown().await;
    blocked.shutdown_background();
}

#[tokio::test]
async fn a_task_that_keeps_a_thread_of_the_runtime_is_named() {
    let captured = captured();
    let home = Home::new();
    let (begun, barrier) = (Gate::shut(), Barrier::default());
    let blocked = runtime(1);
    // The heartbeat looks three times in a lease.
    let builder = home.engine().lease(Duration::from_secs(2));
    let builder = builder.register_spec(blocker(&begun, &barrier));
    let engine = blocked.spawn(builder.start()).await.expect("no panic");
    let engine = engine.expect("starts");
    let run = engine.start_named("blocker", "keeps a thread", &()).await;
    let run = run.expect("a durable start");
    begun.pass().await;
    let names = |line: &Line| {
        line.field("instance") == Some("keeps a thread")
            && line.message().contains("spawn_blocking")
    };
    let line = captured.until(names).await;
    assert_eq!(
        (line.level, line.field("node")),
        (Level::WARN, Some("blocker"))
    );
    barrier.open();
    assert_eq!(run.result().await.expect("completes"), json!("done"));
    blocked
        .spawn(async move { engine.shutdown().await })
        .await
        .expect("no panic");
    blocked.shutdown_background();
}

#[tokio::test]
async fn a_runtime_that_is_blocked_for_longer_than_the_limit_gives_its_tasks_up() {
    const LIMIT: Duration = Duration::from_secs(1);
    let home = Home::new();
    if !home.url().starts_with("postgres") {
        // There a worker keeps its tasks for as long as its process lives.
        return;
    }
    let (begun, barrier) = (Gate::shut(), Barrier::default());
    let blocked = runtime(1);
    let builder = home.engine().lease(LIMIT).blocked_limit(LIMIT);
    let builder = builder.register_spec(blocker(&begun, &barrier));
    let engine = blocked.spawn(builder.start()).await.expect("no panic");
    let engine = engine.expect("starts");
    begin(&engine, "blocker").await;
    begun.pass().await;
    let unblocked = function("blocker", || async { Ok::<_, TaskError>("elsewhere") });
    // A process that is new judges others once a lease of its own has passed.
    let other = home.engine().lease(LIMIT * 3).register_spec(unblocked);
    let other = other.start().await.expect("starts beside it");
    let run = begin(&other, "blocker").await;
    assert_eq!(run.result().await.expect("completes"), json!("elsewhere"));
    barrier.open();
    other.shutdown().await;
    blocked
        .spawn(async move { engine.shutdown().await })
        .await
        .expect("no panic");
    blocked.shutdown_background();
}

#[test]
fn a_start_needs_no_thread_of_a_runtime_whose_tasks_block() {
    let home = Home::new();
    let (begun, barrier) = (Gate::shut(), Barrier::default());
    let blocked = runtime(2);
    // The main thread of a program is none of the threads that run tasks.
    blocked.block_on(async {
        let engine = home.engine().lease(HOUR);
        let engine = engine.register_spec(blocker(&begun, &barrier));
        let engine = engine.start().await.expect("starts");
        let start = async |number: u32| {
            let instance = format!("b{number}");
            let run = engine.start_named("blocker", &instance, &()).await;
            run.expect("a durable start")
        };
        let mut runs = vec![start(1).await, start(2).await];
        begun.pass().await;
        begun.pass().await;
        runs.extend([start(3).await, start(4).await]);
        barrier.open();
        for run in runs {
            assert_eq!(run.result().await.expect("completes"), json!("done"));
        }
        engine.shutdown().await;
    });
}

#[tokio::test]
async fn a_worker_whose_store_is_newer_than_its_program_stops_and_others_run_its_tasks() {
    let captured = captured();
    let home = Home::new();
    let (begun, gate) = (Gate::shut(), Gate::shut());
    let engine = || {
        let builder = home.engine().lease(Duration::from_secs(1));
        builder.register_spec(gated(&begun, &gate)).start()
    };
    let old = engine().await.expect("starts");
    let run = begin(&old, "gated").await;
    begun.pass().await;
    home.is_newer(true).await;

    // A heartbeat finds it out, although the task has nothing to write.
    let stops = |line: &Line| {
        let error = line.field("error").unwrap_or_default();
        line.message().contains("this worker stops") && error.contains("newer version")
    };
    let line = captured.until(stops).await;
    let error = line.field("error").expect("it says why");
    assert_eq!(line.level, Level::ERROR);
    assert!(
        error.contains("stop this program and upgrade it"),
        "{error}"
    );
    let too_new = |error: &StoreError| matches!(error, StoreError::TooNew { .. });
    let waited = run.result().await;
    assert!(
        matches!(&waited, Err(RunError::Store(error)) if too_new(error)),
        "{waited:?}"
    );
    let refused = old.start_named("gated", "another", &()).await;
    let refused = refused.map(|run: abide::Run<serde_json::Value>| run.id());
    assert!(
        matches!(&refused, Err(EngineError::Store(error)) if too_new(error)),
        "{refused:?}"
    );

    // The newer program, as which this one must do.
    home.is_newer(false).await;
    let new = engine().await.expect("starts");
    begun.pass().await;
    // The old function would take this, if it still waited.
    gate.open(1);
    let run = begin(&new, "gated").await;
    assert!(!run.is_new());
    run.result().await.expect("completes");
    let events = task_events(&new, run.id(), 1).await;
    assert_eq!(
        events
            .iter()
            .filter(|kind| **kind == "task.recovered")
            .count(),
        1,
        "{events:?}"
    );
    old.shutdown().await;
    new.shutdown().await;
}
