//! No wake-up is lost, whenever it comes: before a wait is recorded, between recording and
//! parking, while the future leaves memory, after it. A lost one leaves its execution waiting for
//! ever, so these tests hang rather than fail.

use std::time::Duration;

use abide::{Engine, TaskError, TaskHandle, VirtualClock};
use serde_json::json;

use crate::common::{Home, Player, begin, function};

/// Parked for good, evicted at each wait, and evicted by the next that parks.
const MOST_PARKED: [usize; 3] = [10_000, 0, 1];

const SIGNALS: u32 = 3;

async fn reader(home: &Home, most_parked: usize) -> Engine {
    let reader = function("reader", |handle: TaskHandle| async move {
        let mut sum = 0;
        for _ in 0..SIGNALS {
            sum += handle.signal::<u32>("number").await?;
        }
        Ok::<_, TaskError>(sum)
    });
    let engine = home
        .engine()
        .max_concurrent_tasks(2)
        .max_parked_tasks(most_parked);
    engine.register_spec(reader).start().await.expect("starts")
}

/// One execution whose signals are sent after so many turns of the other tasks each.
async fn sent_after(engine: Engine, instance: String, turns: u32) {
    let run = engine
        .start_named("reader", &instance, &())
        .await
        .expect("a durable start");
    for number in 1..=SIGNALS {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        engine
            .signal(&instance, "number", &number)
            .await
            .expect("it is live");
    }
    assert_eq!(run.result().await.expect("completes"), json!(6));
}

#[tokio::test]
async fn a_signal_is_seen_however_late_it_is_sent() {
    for most_parked in MOST_PARKED {
        let home = Home::new();
        let engine = reader(&home, most_parked).await;
        for turns in 0..100 {
            sent_after(engine.clone(), format!("r{turns}"), turns).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thousands_of_signals_among_threads_are_all_seen() {
    for most_parked in MOST_PARKED {
        let home = Home::new();
        let engine = reader(&home, most_parked).await;
        let runs: Vec<_> = (0..400)
            .map(|number| {
                let engine = engine.clone();
                tokio::spawn(sent_after(engine, format!("r{number}"), number % 23))
            })
            .collect();
        for run in runs {
            run.await.expect("completes");
        }
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sleeps_and_signals_that_end_together_are_both_seen() {
    for most_parked in MOST_PARKED {
        let home = Home::new();
        let clock = VirtualClock::new();
        let both = function("both", |handle: TaskHandle| async move {
            let mut words = 0;
            for _ in 0..2 {
                let sleep = handle.sleep(Duration::from_millis(1));
                let (slept, word) = tokio::join!(sleep, handle.signal::<u32>("word"));
                slept?;
                words += word?;
            }
            Ok::<_, TaskError>(words)
        });
        let engine = home
            .engine()
            .clock(clock.clone())
            .max_parked_tasks(most_parked);
        let engine = engine.register_spec(both).start().await.expect("starts");
        let _player = Player::of(&clock);
        let runs: Vec<_> = (0..100)
            .map(|number| {
                let engine = engine.clone();
                tokio::spawn(async move {
                    let instance = format!("b{number}");
                    let run = engine.start_named("both", &instance, &()).await;
                    let run = run.expect("a durable start");
                    for word in [1, 2] {
                        for _ in 0..number % 17 {
                            tokio::task::yield_now().await;
                        }
                        engine
                            .signal(&instance, "word", &word)
                            .await
                            .expect("it is live");
                    }
                    assert_eq!(run.result().await.expect("completes"), json!(3));
                })
            })
            .collect();
        for run in runs {
            run.await.expect("completes");
        }
    }
}

#[tokio::test]
async fn a_start_that_is_dropped_half_way_leaves_no_task_behind() {
    let home = Home::new();
    let quick = function("quick", || async { Ok::<_, TaskError>("done") });
    let engine = home
        .engine()
        .register_spec(quick)
        .start()
        .await
        .expect("starts");
    begin(&engine, "quick")
        .await
        .result()
        .await
        .expect("completes");
    for number in 0..20 {
        let instance = format!("q{number}");
        let start = engine.start_named("quick", &instance, &());
        // Sent, and its answer never heard: its task was claimed for a slot of this worker.
        let never = std::future::IntoFuture::into_future(start);
        tokio::select! {
            biased;
            run = never => drop(run),
            () = tokio::task::yield_now() => {}
        }
    }
    for number in 0..20 {
        let run = engine
            .start_named("quick", &format!("q{number}"), &())
            .await;
        run.expect("finds it or starts it")
            .result()
            .await
            .expect("completes");
    }
}
