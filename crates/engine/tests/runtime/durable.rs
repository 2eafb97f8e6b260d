//! Durable operations: steps, sleeps and signals. Every test runs twice: with futures that stay
//! parked while they wait, and with futures that are dropped at each wait and replayed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use abide::{
    Clock, Engine, EngineBuilder, Run, RunError, TaskBuilder, TaskError, TaskHandle, VirtualClock,
};
use anyhow::Context as _;
use serde_json::{Value, json};

use crate::common::{
    Home, Player, begin, first, function, function_of, history, task_events, until_event,
};

const HOUR: Duration = Duration::from_secs(3600);

/// How a test is run.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Waits {
    Parked,
    Evicted,
}

impl Waits {
    pub(crate) fn engine(self, home: &Home) -> EngineBuilder {
        let most = if self == Waits::Parked { 10_000 } else { 0 };
        home.engine().max_parked_tasks(most)
    }

    /// Until a task waits for so many times.
    pub(crate) async fn until_waiting(self, engine: &Engine, run: &Run<Value>, times: usize) {
        let kind = if self == Waits::Parked {
            "task.deferred"
        } else {
            "task.evicted"
        };
        loop {
            let events = task_events(engine, run.id(), 1).await;
            if events.iter().filter(|event| **event == kind).count() >= times {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) async fn both(test: impl AsyncFn(Waits)) {
    test(Waits::Parked).await;
    test(Waits::Evicted).await;
}

/// Counts how often something ran.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicU32>);

impl Count {
    pub(crate) fn up(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn steps_run_once_however_often_the_function_is_replayed() {
    both(async |waits| {
        let home = Home::new();
        let (calls, charges, mails) = (Count::default(), Count::default(), Count::default());
        let counts = (calls.clone(), charges.clone(), mails.clone());
        let order = function("order", move |handle: TaskHandle| {
            let (calls, charges, mails) = counts.clone();
            async move {
                calls.up();
                let charge = handle
                    .step("charge", async || Ok::<_, TaskError>(charges.up()))
                    .await?;
                handle.sleep(24 * HOUR).await?;
                let mail = handle
                    .step("mail", async || Ok::<_, TaskError>(mails.up()))
                    .await?;
                let approved: String = handle.signal("approval").await?;
                Ok::<_, TaskError>((charge, mail, approved))
            }
        });
        let clock = VirtualClock::new();
        let engine = waits
            .engine(&home)
            .clock(clock.clone())
            .register_spec(order);
        let engine = engine.start().await.expect("starts");
        let run = begin(&engine, "order").await;
        waits.until_waiting(&engine, &run, 1).await;
        clock.advance(24 * HOUR);
        waits.until_waiting(&engine, &run, 2).await;
        engine
            .signal("order", "approval", &"yes")
            .await
            .expect("it is live");
        assert_eq!(run.result().await.expect("completes"), json!([1, 1, "yes"]));
        assert_eq!((charges.get(), mails.get()), (1, 1));
        assert_eq!(calls.get(), if waits == Waits::Parked { 1 } else { 3 });
    })
    .await;
}

#[tokio::test]
async fn signals_wait_in_their_mailbox_and_are_read_once_in_order() {
    both(async |waits| {
        let home = Home::new();
        let reader = function("reader", |handle: TaskHandle| async move {
            let first: u32 = handle.signal("numbers").await?;
            let other: String = handle.signal("texts").await?;
            let second: u32 = handle.signal("numbers").await?;
            Ok::<_, TaskError>((first, other, second))
        });
        let engine = waits.engine(&home).register_spec(reader);
        let engine = engine.start().await.expect("starts");
        let run = begin(&engine, "reader").await;
        waits.until_waiting(&engine, &run, 1).await;
        engine
            .signal("reader", "texts", &"b")
            .await
            .expect("it is live");
        for number in [1, 2, 3] {
            engine
                .signal("reader", "numbers", &number)
                .await
                .expect("it is live");
        }
        assert_eq!(run.result().await.expect("completes"), json!([1, "b", 2]));
    })
    .await;
}

#[tokio::test]
async fn joined_waits_end_each_in_its_time() {
    both(async |waits| {
        let home = Home::new();
        let clock = VirtualClock::new();
        let joiner = function("joiner", |handle: TaskHandle| async move {
            let (late, early, word) = tokio::join!(
                handle.sleep(3 * HOUR),
                handle.sleep(HOUR),
                handle.signal::<String>("word")
            );
            late?;
            early?;
            word
        });
        let engine = waits
            .engine(&home)
            .clock(clock.clone())
            .register_spec(joiner);
        let engine = engine.start().await.expect("starts");
        let run = begin(&engine, "joiner").await;
        waits.until_waiting(&engine, &run, 1).await;
        let begun = clock.now();
        clock.advance(HOUR);
        waits.until_waiting(&engine, &run, 2).await;
        engine
            .signal("joiner", "word", &"hello")
            .await
            .expect("it is live");
        waits.until_waiting(&engine, &run, 3).await;
        let _player = Player::of(&clock);
        assert_eq!(run.result().await.expect("completes"), json!("hello"));
        assert_eq!(clock.now().since_us(begun), 3 * 3_600_000_000);
    })
    .await;
}

#[tokio::test]
async fn branches_that_go_on_building_operations_replay_as_they_ran() {
    both(async |waits| {
        let home = Home::new();
        let clock = VirtualClock::new();
        let steps = Count::default();
        let counted = steps.clone();
        let braid = function("braid", move |handle: TaskHandle| {
            let counted = counted.clone();
            async move {
                let strand = async |name: &str, hours: u32| {
                    let mut numbers = Vec::new();
                    for turn in 0..4 {
                        handle.sleep(hours * HOUR).await?;
                        let name = format!("{name}{turn}");
                        numbers.push(
                            handle
                                .step(&name, async || Ok::<_, TaskError>(counted.up()))
                                .await?,
                        );
                    }
                    Ok::<_, TaskError>(numbers)
                };
                let (a, b, c) = tokio::join!(strand("a", 5), strand("b", 3), strand("c", 7));
                Ok::<_, TaskError>((a?, b?, c?))
            }
        });
        let engine = waits
            .engine(&home)
            .clock(clock.clone())
            .register_spec(braid);
        let engine = engine.start().await.expect("starts");
        let run = begin(&engine, "braid").await;
        let _player = Player::of(&clock);
        // Due at 5 10 15 20, 3 6 9 12 and 7 14 21 28 hours.
        let expected = json!([[2, 6, 9, 10], [1, 3, 5, 7], [4, 8, 11, 12]]);
        assert_eq!(run.result().await.expect("completes"), expected);
        assert_eq!(steps.get(), 12);
    })
    .await;
}

#[tokio::test]
async fn the_loser_of_a_race_takes_nothing_from_who_comes_after_it() {
    both(async |waits| {
        let home = Home::new();
        let clock = VirtualClock::new();
        let racer = function("racer", |handle: TaskHandle| async move {
            let early = tokio::select! {
                word = handle.signal::<String>("word") => Some(word?),
                slept = handle.sleep(HOUR) => { slept?; None }
            };
            let word: String = handle.signal("word").await?;
            handle.sleep(HOUR).await?;
            Ok::<_, TaskError>((early, word))
        });
        let engine = waits
            .engine(&home)
            .clock(clock.clone())
            .register_spec(racer);
        let engine = engine.start().await.expect("starts");
        let run = begin(&engine, "racer").await;
        waits.until_waiting(&engine, &run, 1).await;
        clock.advance(HOUR);
        waits.until_waiting(&engine, &run, 2).await;
        engine
            .signal("racer", "word", &"late")
            .await
            .expect("it is live");
        waits.until_waiting(&engine, &run, 3).await;
        clock.advance(HOUR);
        assert_eq!(
            run.result().await.expect("completes"),
            json!([null, "late"])
        );
    })
    .await;
}

#[tokio::test]
async fn a_failed_step_runs_again_with_the_next_attempt_and_no_other() {
    both(async |waits| {
        let home = Home::new();
        let clock = VirtualClock::new();
        let (before, failing, handled) = (Count::default(), Count::default(), Count::default());
        let counts = (before.clone(), failing.clone(), handled.clone());
        let order = TaskBuilder::new("order", move |handle: TaskHandle| {
            let (before, failing, handled) = counts.clone();
            async move {
                let first = handle
                    .step("before", async || Ok::<_, TaskError>(before.up()))
                    .await?;
                let caught = handle.step("handled", async || {
                    handled.up();
                    Err::<(), _>(TaskError::new("expected", "no"))
                });
                assert_eq!(caught.await.expect_err("always").kind(), "expected");
                handle.sleep(HOUR).await?;
                let last = handle.step("failing", async || match failing.up() {
                    1 | 2 => Err(TaskError::new("flaky", "try again")),
                    third => Ok(third),
                });
                Ok::<_, TaskError>((first, last.await?))
            }
        });
        let engine = waits.engine(&home).clock(clock.clone());
        let engine = engine
            .register_spec(function_of(order.retries(2)))
            .start()
            .await;
        let engine = engine.expect("starts");
        let _player = Player::of(&clock);
        let run = begin(&engine, "order").await;
        assert_eq!(
            run.result().await.expect("the third attempt succeeds"),
            json!([1, 3])
        );
        assert_eq!((before.get(), handled.get(), failing.get()), (1, 1, 3));
    })
    .await;
}

#[tokio::test]
async fn code_that_does_not_match_its_record_waits_for_code_that_does() {
    both(async |waits| {
        let home = Home::new();
        let ran = Count::default();
        let count = ran.clone();
        let original = function("order", move |handle: TaskHandle| {
            let count = count.clone();
            async move {
                let paid = handle.step("charge", async || Ok::<_, TaskError>(count.up())).await?;
                let word: String = handle.signal("go").await?;
                Ok::<_, TaskError>((paid, word))
            }
        });
        let changed = function("order", |handle: TaskHandle| async move {
            handle.step("reserve", async || Ok::<_, TaskError>(())).await?;
            handle.signal::<String>("go").await
        });

        let engine = waits.engine(&home).register_spec(original.clone()).start().await.expect("starts");
        let run = begin(&engine, "order").await;
        waits.until_waiting(&engine, &run, 1).await;
        engine.shutdown().await;
        drop(engine);

        let engine = waits.engine(&home).register_spec(changed).start().await.expect("starts");
        engine.signal("order", "go", &"on").await.expect("it is live");
        let key = first(&run);
        let difference = loop {
            let task = engine.store().tasks(key.execution, 0, 1).await.expect("one task").remove(0).task;
            match task.wait {
                Some(wait) if wait.starts_with("code") => break wait,
                _ => tokio::task::yield_now().await,
            }
        };
        assert_eq!(
            difference,
            "code that matches the record: operation 1: recorded step `charge`, but the code asks for step `reserve`"
        );
        engine.shutdown().await;
        drop(engine);

        let engine = waits.engine(&home).register_spec(original).start().await.expect("starts");
        let run = engine.store().latest("order").await.expect("reads").expect("is there");
        let run: Run<Value> = run_of(&engine, run.execution.id).await;
        assert_eq!(run.result().await.expect("completes"), json!([1, "on"]));
        assert_eq!(ran.get(), 1);
    })
    .await;
}

/// Starting again with the same input finds the execution.
async fn run_of(engine: &Engine, id: abide::ExecutionId) -> Run<Value> {
    let run = begin(engine, "order").await;
    assert_eq!((run.id(), run.is_new()), (id, false));
    run
}

#[tokio::test]
async fn what_cannot_be_stored_or_read_back_is_a_clear_error() {
    both(async |waits| {
        let home = Home::new();
        let writer = function("writer", |handle: TaskHandle| async move {
            let mut kinds = Vec::new();
            for text in ["\0".to_owned(), "x".repeat(2000)] {
                let error = handle.step("text", async || Ok::<_, TaskError>(text)).await;
                kinds.push(error.expect_err("can't be stored").kind().to_owned());
            }
            let error = handle
                .signal::<u32>("number")
                .await
                .expect_err("not a number");
            kinds.push(error.kind().to_owned());
            let error = handle.step("", async || Ok::<_, TaskError>(())).await;
            assert!(error.expect_err("no name").is_fatal());
            Ok::<_, TaskError>(kinds)
        });
        let engine = waits
            .engine(&home)
            .payload_limit(1000)
            .register_spec(writer);
        let engine = engine.start().await.expect("starts");
        let run = begin(&engine, "writer").await;
        waits.until_waiting(&engine, &run, 1).await;
        engine
            .signal("writer", "number", &"seven")
            .await
            .expect("it is live");
        let expected = json!(["payload_invalid", "payload_too_large", "undecodable"]);
        assert_eq!(run.result().await.expect("completes"), expected);
    })
    .await;
}

#[tokio::test]
async fn parallel_steps_are_replayed_with_their_own_results() {
    both(async |waits| {
        let home = Home::new();
        let runs = Count::default();
        let count = runs.clone();
        let fan = function("fan", move |handle: TaskHandle| {
            let count = count.clone();
            async move {
                let mut tasks = Vec::new();
                for number in 0..20_u32 {
                    let (count, yields) = (count.clone(), 20 - number);
                    let step = handle.step(&format!("part {number}"), async move || {
                        for _ in 0..yields {
                            tokio::task::yield_now().await;
                        }
                        count.up();
                        Ok::<_, TaskError>(number)
                    });
                    // On tasks of their own, and awaited in the order of their building.
                    tasks.push(tokio::spawn(step));
                }
                let mut sum = 0;
                for task in tasks {
                    sum += task.await.expect("it doesn't panic")?;
                }
                let more: u32 = handle.signal("more").await?;
                Ok::<_, TaskError>(sum + more)
            }
        });
        let engine = waits
            .engine(&home)
            .register_spec(fan)
            .start()
            .await
            .expect("starts");
        let run = begin(&engine, "fan").await;
        waits.until_waiting(&engine, &run, 1).await;
        engine.signal("fan", "more", &10).await.expect("it is live");
        assert_eq!(run.result().await.expect("completes"), json!(200));
        assert_eq!(runs.get(), 20);
    })
    .await;
}

#[tokio::test]
async fn cancelling_a_task_that_waits_drops_it_at_once() {
    struct Tells(Count);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.up();
        }
    }
    both(async |waits| {
        let home = Home::new();
        let drops = Count::default();
        let count = drops.clone();
        let sleeper = function("sleeper", move |handle: TaskHandle| {
            let tells = Tells(count.clone());
            async move {
                handle.sleep(24 * HOUR).await?;
                drop(tells);
                Ok::<_, TaskError>(())
            }
        });
        let engine = waits
            .engine(&home)
            .register_spec(sleeper)
            .start()
            .await
            .expect("starts");
        let run = begin(&engine, "sleeper").await;
        waits.until_waiting(&engine, &run, 1).await;
        run.cancel("enough").await.expect("it is live");
        let error = run.result().await.expect_err("cancelled");
        assert!(matches!(error, RunError::Cancelled { .. }), "{error}");
        // The worker hears of it, or of what it gave up, beside whoever waits for the end.
        while drops.get() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            *task_events(&engine, run.id(), 1)
                .await
                .last()
                .expect("events"),
            "task.cancelled"
        );
    })
    .await;
}

#[tokio::test]
async fn a_task_that_hears_of_the_stop_may_clean_up_with_steps() {
    let home = Home::new();
    let cleaned = Count::default();
    let count = cleaned.clone();
    let tidy = function("tidy", move |handle: TaskHandle| {
        let count = count.clone();
        async move {
            tokio::select! {
                () = handle.cancelled() => {}
                word = handle.signal::<String>("never") => drop(word?),
            }
            handle
                .step("undo", async || Ok::<_, TaskError>(count.up()))
                .await
        }
    });
    let engine = home
        .engine()
        .register_spec(tidy)
        .start()
        .await
        .expect("starts");
    let run = begin(&engine, "tidy").await;
    until_event(&engine, first(&run), "task.deferred").await;
    run.cancel("enough").await.expect("it is live");
    let error = run.result().await.expect_err("cancelled");
    assert!(matches!(error, RunError::Cancelled { .. }), "{error}");
    assert_eq!(cleaned.get(), 1);
}

#[tokio::test]
async fn beyond_the_limit_the_oldest_parked_tasks_leave_memory() {
    let home = Home::new();
    let waiter = function("waiter", |handle: TaskHandle| async move {
        handle.signal::<u32>("number").await
    });
    let engine = home.engine().max_parked_tasks(2).register_spec(waiter);
    let engine = engine.start().await.expect("starts");
    let mut runs: Vec<Run<Value>> = Vec::new();
    for number in 0..5 {
        let run = engine
            .start_named("waiter", &format!("w{number}"), &())
            .await;
        let run = run.expect("a durable start");
        until_event(&engine, first(&run), "task.deferred").await;
        runs.push(run);
    }
    for run in &runs[..3] {
        until_event(&engine, first(run), "task.evicted").await;
    }
    for run in &runs[3..] {
        let events = task_events(&engine, run.id(), 1).await;
        assert_eq!(events.last(), Some(&"task.deferred"));
    }
    for (number, run) in runs.iter().enumerate() {
        engine
            .signal(run.instance(), "number", &number)
            .await
            .expect("it is live");
        assert_eq!(run.result().await.expect("completes"), json!(number));
    }
}

#[tokio::test]
async fn a_restart_replays_what_waited_and_loses_nothing() {
    both(async |waits| {
        let home = Home::new();
        let steps = Count::default();
        let count = steps.clone();
        let order = function("order", move |handle: TaskHandle| {
            let count = count.clone();
            async move {
                let step = handle
                    .step("once", async || Ok::<_, TaskError>(count.up()))
                    .await?;
                handle.sleep(HOUR).await?;
                let word: String = handle.signal("go").await?;
                Ok::<_, TaskError>((step, word))
            }
        });
        let clock = VirtualClock::new();
        let start = || {
            waits
                .engine(&home)
                .clock(clock.clone())
                .register_spec(order.clone())
                .start()
        };
        let engine = start().await.expect("starts");
        let run = begin(&engine, "order").await;
        let id = run.id();
        waits.until_waiting(&engine, &run, 1).await;
        engine.shutdown().await;
        drop((engine, run));

        clock.advance(HOUR / 2);
        let engine = start().await.expect("starts again");
        clock.advance(HOUR / 2);
        engine
            .signal("order", "go", &"on")
            .await
            .expect("it is live");
        let run = run_of(&engine, id).await;
        assert_eq!(run.result().await.expect("completes"), json!([1, "on"]));
        let attempts = history(&engine, id)
            .await
            .into_iter()
            .filter_map(|event| event.attempt);
        assert_eq!(attempts.max(), Some(1));
    })
    .await;
}

#[tokio::test]
async fn the_time_an_attempt_may_be_active_adds_up_over_its_waits() {
    both(async |waits| {
        let home = Home::new();
        let clock = VirtualClock::new();
        let begun = clock.now();
        let times = clock.clone();
        let busy = TaskBuilder::new("busy", move |handle: TaskHandle| {
            let clock = times.clone();
            async move {
                let work = async |name: &str| {
                    let body = async || {
                        clock.sleep_until(clock.now().plus_us(6_000_000)).await;
                        Ok::<_, TaskError>(())
                    };
                    handle.step(name, body).await
                };
                work("first").await?;
                handle.sleep(HOUR).await?;
                work("second").await
            }
        });
        let busy = function_of(busy.timeout(Duration::from_secs(10)));
        let engine = waits.engine(&home).clock(clock.clone()).register_spec(busy);
        let engine = engine.start().await.expect("starts");
        let _player = Player::of(&clock);
        let run = begin(&engine, "busy").await;
        let RunError::Failed { error, .. } = run.result().await.expect_err("too long") else {
            panic!("a task failed");
        };
        assert_eq!(error.kind(), "timeout");
        assert_eq!(clock.now().since_us(begun), 3_600_000_000 + 10_000_000);
    })
    .await;
}

#[tokio::test]
async fn errors_keep_their_kind_through_a_catch_all_type() {
    both(async |waits| {
        let home = Home::new();
        let clock = VirtualClock::new();
        let tries = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&tries);
        let renew = move |handle: TaskHandle| {
            let counted = Arc::clone(&counted);
            async move {
                let price = handle.step("price", async || anyhow::Ok(995)).await;
                let price = price.map_err(TaskError::into_std)?;
                let pause = handle.sleep(Duration::from_secs(60)).await;
                pause.map_err(TaskError::into_std)?;
                let charge = handle.step("charge", async || {
                    let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
                    let down = std::io::Error::from(std::io::ErrorKind::TimedOut);
                    let down = anyhow::Error::from(down).context("asking the bank");
                    if first { Err(down) } else { Ok(price) }
                });
                let charge = charge.await.map_err(TaskError::into_std);
                let charge: u32 = charge.context("charging")?;
                let declined = TaskError::new("declined", "not again").into_std();
                anyhow::ensure!(charge == 0, declined);
                anyhow::Ok(charge)
            }
        };
        let task = TaskBuilder::new("renew", renew).retries(5);
        let spec = function_of(task.retry_if(["io::TimedOut"]));
        let engine = waits.engine(&home).clock(clock.clone()).register_spec(spec);
        let engine = engine.start().await.expect("starts");
        let _player = Player::of(&clock);
        let run = begin(&engine, "renew").await;
        let error = match run.result().await.expect_err("declined at last") {
            RunError::Failed { error, .. } => error,
            other => panic!("{other}"),
        };
        assert_eq!((error.kind(), error.message()), ("declined", "not again"));
        assert_eq!(
            tries.load(Ordering::SeqCst),
            2,
            "the step that failed ran again"
        );
        let kinds = history(&engine, run.id()).await.into_iter();
        let failed = kinds.filter(|event| event.kind == "task.failed");
        let data: Vec<String> = failed
            .filter_map(|event| Some(event.data?.to_string()))
            .collect();
        assert_eq!(data.len(), 2, "{data:?}");
        for part in ["io::TimedOut", "charging", "asking the bank"] {
            assert!(data[0].contains(part), "{part}: {}", data[0]);
        }
    })
    .await;
}
