//! A backlog: more tasks are ready than there are slots.

use std::time::Duration;

use abide::{TaskError, TaskHandle, VirtualClock};
use serde_json::json;

use crate::common::{Gate, Home, begin, function};
use crate::durable::{Count, Waits};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_is_claimed_with_the_record_of_the_one_before_it() {
    const SLEEPERS: u64 = 200;
    let home = Home::new();
    let clock = VirtualClock::new();
    let sleeper = function("sleeper", |handle: TaskHandle| async move {
        handle.sleep(HOUR).await?;
        Ok::<_, TaskError>(())
    });
    let engine = Waits::Evicted.engine(&home).clock(clock.clone());
    let engine = engine.max_concurrent_tasks(1).register_spec(sleeper);
    let engine = engine.start().await.expect("starts");
    let mut runs = Vec::new();
    for number in 0..SLEEPERS {
        let instance = format!("sleeper{number}");
        let run = engine.start_named("sleeper", &instance, &()).await;
        runs.push(run.expect("started"));
    }
    for run in &runs {
        Waits::Evicted.until_waiting(&engine, run, 1).await;
    }
    let before = engine.store().stats().written;
    clock.advance(HOUR);
    for run in runs {
        run.result().await.expect("completes");
    }
    let written = engine.store().stats().written - before;
    // The timers fire together, and with them the waits end. The end of a task and the claim of the next are one.
    assert!(written < SLEEPERS * 3 / 2, "{written} transactions");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_in_memory_gets_a_slot_before_the_backlog_is_worked_off() {
    // So many are ready at any time, and in all.
    const READY: u32 = 100;
    const MANY: u32 = 5000;
    let home = Home::new();
    let waiter = function("waiter", |handle: TaskHandle| async move {
        handle.signal::<u32>("go").await
    });
    let (gate, ended) = (Gate::shut(), Count::default());
    let (passes, count, ends) = (gate.clone(), ended.clone(), ended.clone());
    let job = function("job", move || {
        let (passes, count) = (passes.clone(), count.clone());
        async move {
            if count.get() == 0 {
                passes.pass().await;
            }
            count.up();
            Ok::<_, TaskError>(())
        }
    });
    let engine = Waits::Parked.engine(&home).max_concurrent_tasks(1);
    let engine = engine.register_spec(waiter).register_spec(job);
    let engine = engine.start().await.expect("starts");
    let run = begin(&engine, "waiter").await;
    Waits::Parked.until_waiting(&engine, &run, 1).await;
    let feeder = {
        let engine = engine.clone();
        tokio::spawn(async move {
            for number in 0..MANY {
                let instance = format!("job{number}");
                let job = engine.start_named("job", &instance, &()).await;
                job.expect("started");
                if number == READY {
                    gate.open(1);
                }
                while number > ends.get() + READY {
                    tokio::task::yield_now().await;
                }
            }
        })
    };
    while ended.get() == 0 {
        tokio::task::yield_now().await;
    }
    engine.signal("waiter", "go", &7).await.expect("it is live");
    assert_eq!(run.result().await.expect("completes"), json!(7));
    assert!(!feeder.is_finished(), "the backlog was worked off first");
    feeder.abort();
    engine.shutdown().await;
}
