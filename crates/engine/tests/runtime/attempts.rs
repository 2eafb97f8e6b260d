//! Attempts: errors, panics, timeouts, and what follows them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use abide::{Backoff, Clock, RunError, TaskBuilder, TaskError, TaskHandle, VirtualClock};
use serde_json::{Value, json};

use crate::common::{
    Gate, Home, Player, SetClock, begin, first, function, function_of, history, task_events,
    until_event,
};

/// A task that fails with these kinds, one per attempt, and succeeds after them.
fn failing(id: &str, kinds: &'static [&'static str]) -> TaskBuilder {
    let calls = AtomicU32::new(0);
    TaskBuilder::new(id, move || {
        let call = calls.fetch_add(1, Ordering::SeqCst) as usize;
        async move {
            match kinds.get(call) {
                Some(kind) => Err(TaskError::new(*kind, format!("failure {}", call + 1))),
                None => Ok(call),
            }
        }
    })
}

fn failed(error: RunError) -> TaskError {
    match error {
        RunError::Failed { error, .. } => error,
        other => panic!("no task failed: {other}"),
    }
}

#[tokio::test]
async fn history_holds_the_error_of_every_attempt() {
    let home = Home::new();
    let clock = VirtualClock::new();
    let task = failing("flaky", &["a", "b"])
        .retries(2)
        .backoff(Backoff::fixed(Duration::from_secs(60)));
    let engine = home
        .engine()
        .clock(clock.clone())
        .register_spec(function_of(task));
    let engine = engine.start().await.expect("starts");
    let _player = Player::of(&clock);
    let run = begin(&engine, "flaky").await;
    assert_eq!(
        run.result().await.expect("the third attempt succeeds"),
        json!(2)
    );
    let errors: Vec<Value> = history(&engine, run.id())
        .await
        .into_iter()
        .filter(|event| event.kind == "task.failed")
        .map(|event| {
            let data = event.data.expect("a failure says why");
            let data: Value = serde_json::from_str(&data).expect("an object");
            json!([
                event.attempt,
                data["error"]["kind"],
                data["error"]["message"]
            ])
        })
        .collect();
    assert_eq!(
        errors,
        [json!([1, "a", "failure 1"]), json!([2, "b", "failure 2"])]
    );
    let task = engine
        .store()
        .tasks(run.id(), 0, 1)
        .await
        .expect("one task")
        .remove(0)
        .task;
    assert_eq!((task.attempt, task.retry_wait_us), (3, 120_000_000));
}

#[tokio::test]
async fn only_the_named_kinds_are_retried() {
    let home = Home::new();
    let clock = VirtualClock::new();
    let task = failing("picky", &["io", "io", "logic", "io"])
        .retries(9)
        .retry_if(["io"]);
    let engine = home
        .engine()
        .clock(clock.clone())
        .register_spec(function_of(task));
    let engine = engine.start().await.expect("starts");
    let _player = Player::of(&clock);
    let run = begin(&engine, "picky").await;
    let error = failed(
        run.result()
            .await
            .expect_err("the third attempt is not retried"),
    );
    assert_eq!((error.kind(), error.message()), ("logic", "failure 3"));
}

#[tokio::test]
async fn an_error_can_end_retries_or_say_when_the_next_one_is_due() {
    let home = Home::new();
    let clock = VirtualClock::new();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let task = TaskBuilder::new("steered", move || {
        let call = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            let error = TaskError::new("busy", "later");
            Err::<(), _>(match call {
                0 => TaskError::retry_after(error, Duration::from_secs(777)),
                _ => TaskError::fatal(error),
            })
        }
    });
    let engine = home
        .engine()
        .clock(clock.clone())
        .register_spec(function_of(task.retries(5)));
    let engine = engine.start().await.expect("starts");
    let begun = clock.now();
    let _player = Player::of(&clock);
    let run = begin(&engine, "steered").await;
    let error = failed(run.result().await.expect_err("fatal"));
    assert_eq!(error.kind(), "busy");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert_eq!(clock.now().since_us(begun), 777_000_000);
}

#[tokio::test]
async fn a_panic_fails_the_attempt_and_nothing_else() {
    let home = Home::new();
    let calls = AtomicU32::new(0);
    let task = TaskBuilder::new("shaky", move || {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        // Once before there is a future, once inside of it.
        assert!(call != 0, "not even a future");
        async move {
            assert!(call != 1, "attempt {}", call + 1);
            Ok::<_, TaskError>(call)
        }
    });
    let task = task.retries(2).backoff(Backoff::fixed(Duration::ZERO));
    let engine = home
        .engine()
        .register_spec(function_of(task))
        .start()
        .await
        .expect("starts");
    let run = begin(&engine, "shaky").await;
    assert_eq!(
        run.result().await.expect("the third attempt succeeds"),
        json!(2)
    );
    let panics: Vec<String> = history(&engine, run.id())
        .await
        .into_iter()
        .filter(|event| event.kind == "task.failed")
        .filter_map(|event| event.data)
        .collect();
    assert!(
        panics[0].contains(r#""kind":"panic","message":"not even a future""#),
        "{panics:?}"
    );
    assert!(
        panics[1].contains(r#""kind":"panic","message":"attempt 2""#),
        "{panics:?}"
    );
}

/// A payload of a panic that panics with another of its kind whenever it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::panic_any(Bomb);
    }
}

/// An error and an output that panic with a bomb: when they are read, or else when they are dropped.
#[derive(Debug)]
struct Fuse {
    when_read: bool,
}

impl Fuse {
    fn burn(&self) {
        if self.when_read {
            std::panic::panic_any(Bomb);
        }
    }
}

impl std::fmt::Display for Fuse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.burn();
        f.write_str("lit")
    }
}

impl std::error::Error for Fuse {}

impl serde::Serialize for Fuse {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.burn();
        serializer.serialize_unit()
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        if !self.when_read {
            std::panic::panic_any(Bomb);
        }
    }
}

#[tokio::test]
async fn whatever_of_the_users_panics_when_it_is_dropped_the_attempt_ends_and_its_slot_is_free() {
    const READ: Fuse = Fuse { when_read: true };
    const DROPPED: Fuse = Fuse { when_read: false };
    let home = Home::new();
    let clock = VirtualClock::new();
    let timed_out = TaskBuilder::new("future", || async {
        let _held = DROPPED;
        std::future::pending::<Result<(), TaskError>>().await
    });
    let workflows = [
        function("call", || {
            std::panic::panic_any(Bomb);
            #[expect(unreachable_code, reason = "it says what the closure would return")]
            async {
                Ok::<_, TaskError>(())
            }
        }),
        function("poll", || async {
            std::panic::panic_any(Bomb);
            #[expect(unreachable_code, reason = "it says what the future would return")]
            Ok::<_, TaskError>(())
        }),
        function("step", |handle: TaskHandle| async move {
            let body = async || -> Result<(), TaskError> { std::panic::panic_any(Bomb) };
            handle.step("step", body).await
        }),
        function("condition", |handle: TaskHandle| async move {
            let condition = || -> bool { std::panic::panic_any(Bomb) };
            handle.defer_until(condition, Duration::from_secs(1)).await
        }),
        function("output read", || async { Ok::<_, TaskError>(READ) }),
        function("output dropped", || async { Ok::<_, TaskError>(DROPPED) }),
        function("error read", || async { Err::<(), _>(READ) }),
        function("error dropped", || async { Err::<(), _>(DROPPED) }),
        function_of(timed_out.timeout(Duration::from_secs(5))),
    ];
    let names: Vec<String> = workflows.iter().map(|spec| spec.name.clone()).collect();
    let mut engine = home.engine().clock(clock.clone()).max_concurrent_tasks(1);
    for workflow in workflows {
        engine = engine.register_spec(workflow);
    }
    let engine = engine.start().await.expect("starts");
    let _player = Player::of(&clock);
    for name in names {
        let run = begin(&engine, &name).await;
        let error = failed(run.result().await.expect_err("it panics"));
        let expected = match &*name {
            // The error itself was there before it was dropped.
            "error dropped" => ("Fuse", "lit"),
            "future" => ("timeout", "the attempt was active for longer than 5s"),
            _ => ("panic", "the task panicked"),
        };
        assert_eq!((error.kind(), error.message()), expected, "{name}");
    }
}

#[tokio::test]
async fn no_history_is_read_to_replay_an_attempt_with_a_time_limit() {
    let home = Home::new();
    let patient = TaskBuilder::new("patient", |handle: TaskHandle| async move {
        if handle.attempt() == 1 {
            return Err(TaskError::new("flaky", "on purpose"));
        }
        handle.signal::<u32>("word").await
    });
    let patient = patient.retries(1).backoff(Backoff::fixed(Duration::ZERO));
    let patient = function_of(patient.timeout(Duration::from_secs(3600)));
    let engine = home.engine().max_parked_tasks(0).register_spec(patient);
    let engine = engine.start().await.expect("starts");
    let run = begin(&engine, "patient").await;
    until_event(&engine, first(&run), "task.evicted").await;
    // A read of it would not come to an end.
    home.damage_histories().await;
    engine.signal("patient", "word", &7).await.expect("sent");
    assert_eq!(run.result().await.expect("completes"), json!(7));
    engine.shutdown().await;
}

#[tokio::test]
async fn a_timeout_cuts_an_attempt_off_and_its_slot_is_free_again() {
    let home = Home::new();
    let clock = VirtualClock::new();
    let calls = AtomicU32::new(0);
    let task = TaskBuilder::new("slow", move || {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            if call == 0 {
                std::future::pending::<()>().await;
            }
            Ok::<_, TaskError>(call)
        }
    });
    let task = task
        .timeout(Duration::from_secs(5))
        .retries(1)
        .retry_if(["timeout"]);
    let engine = home.engine().clock(clock.clone()).max_concurrent_tasks(1);
    let engine = engine
        .register_spec(function_of(task))
        .start()
        .await
        .expect("starts");
    let _player = Player::of(&clock);
    let run = begin(&engine, "slow").await;
    assert_eq!(
        run.result().await.expect("the second attempt is quick"),
        json!(1)
    );
    assert_eq!(
        task_events(&engine, run.id(), 1).await[4..6],
        ["task.failed", "task.retry_scheduled"]
    );
    let task = engine
        .store()
        .tasks(run.id(), 0, 1)
        .await
        .expect("one task")
        .remove(0)
        .task;
    assert_eq!(task.active_us, 5_000_000);
}

#[tokio::test]
async fn an_input_that_does_not_read_fails_its_own_task_only() {
    let home = Home::new();
    let numbers = function(
        "numbers",
        |abide::Input(number): abide::Input<u32>| async move { Ok::<_, TaskError>(number + 1) },
    );
    let engine = home
        .engine()
        .register_spec(numbers)
        .start()
        .await
        .expect("starts");
    let bad = engine
        .start_named("numbers", "bad", &"seven")
        .await
        .expect("a durable start");
    let good = engine
        .start_named("numbers", "good", &7)
        .await
        .expect("a durable start");
    let error = failed(bad.result().await.expect_err("not a number"));
    assert_eq!(error.kind(), "undecodable");
    assert!(error.message().contains("u32"), "{error}");
    assert_eq!(good.result().await.expect("completes"), json!(8));
}

#[tokio::test]
async fn an_output_that_cannot_be_stored_fails_the_task() {
    let home = Home::new();
    let large = function("large", || async { Ok::<_, TaskError>("x".repeat(2000)) });
    let nul = function("nul", || async { Ok::<_, TaskError>("a\0b") });
    let engine = home
        .engine()
        .payload_limit(1000)
        .register_spec(large)
        .register_spec(nul);
    let engine = engine.start().await.expect("starts");
    for (workflow, kind) in [("large", "payload_too_large"), ("nul", "payload_invalid")] {
        let run = begin(&engine, workflow).await;
        assert_eq!(
            failed(run.result().await.expect_err("refused")).kind(),
            kind
        );
    }
}

#[tokio::test]
async fn a_failed_tasks_own_error_comes_back_typed() {
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct OutOfStock {
        left: u32,
    }
    impl std::fmt::Display for OutOfStock {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{} left", self.left)
        }
    }
    impl std::error::Error for OutOfStock {}

    let home = Home::new();
    let shop = function("shop", |handle: TaskHandle| async move {
        handle
            .step("take", async || {
                Err::<(), _>(TaskError::typed(OutOfStock { left: 2 }))
            })
            .await
    });
    let engine = home
        .engine()
        .register_spec(shop)
        .start()
        .await
        .expect("starts");
    let run = begin(&engine, "shop").await;
    let error = failed(run.result().await.expect_err("nothing left"));
    assert_eq!(error.downcast::<OutOfStock>(), Some(OutOfStock { left: 2 }));
}

#[tokio::test]
async fn progress_is_written_and_kept_by_a_failure() {
    let home = Home::new();
    let task = function("worker", |handle: TaskHandle| async move {
        assert!(handle.progress(1.5).is_err());
        handle.progress_step(3, 4, "almost")?;
        handle.progress(0.5)?;
        Err::<(), _>(TaskError::new("stuck", "so near"))
    });
    let engine = home
        .engine()
        .register_spec(task)
        .start()
        .await
        .expect("starts");
    let run = begin(&engine, "worker").await;
    run.result().await.expect_err("fails");
    let view = engine
        .store()
        .tasks(run.id(), 0, 1)
        .await
        .expect("one task")
        .remove(0);
    let expected = r#"{"percent":75.0,"completed":3,"total":4,"step":"almost"}"#;
    assert_eq!(view.progress.as_deref(), Some(expected));
}

#[tokio::test]
async fn an_attempt_is_no_longer_active_because_the_clock_was_set() {
    for set_by_us in [-3_600_000_000, 3_600_000_000] {
        let home = Home::new();
        let time = VirtualClock::new();
        let clock = SetClock::new(&time);
        let (begun, gate) = (Gate::shut(), Gate::shut());
        let gates = (begun.clone(), gate.clone());
        let task = TaskBuilder::new("slow", move || {
            let (begun, gate) = gates.clone();
            async move {
                begun.open(1);
                gate.pass().await;
                Ok::<_, TaskError>(())
            }
        });
        let slow = function_of(task.timeout(Duration::from_secs(60)));
        let engine = home.engine().clock(clock.clone()).register_spec(slow);
        let engine = engine.start().await.expect("starts");

        let run = begin(&engine, "slow").await;
        begun.pass().await;
        clock.set_by(set_by_us);
        time.advance(Duration::from_secs(59));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        gate.open(1);
        run.result().await.expect("was active for 59 seconds");

        let run = engine.start_named("slow", "too slow", &());
        let run = run.await.expect("a durable start");
        begun.pass().await;
        clock.set_by(set_by_us);
        time.advance(Duration::from_secs(60));
        let error = failed(run.result().await.expect_err("too long"));
        assert_eq!(error.kind(), "timeout");
    }
}
