//! What is kept, and for how long.

use std::sync::Arc;

use abide_core::failure::Failure;
use abide_core::graph::{Graph, TaskSpec};
use abide_core::ids::TaskKey;
use abide_core::kernel::{Outcome, Record, Request};
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::status::Phase;
use abide_core::step::{StepEnd, StepKind, StepRecord};
use abide_core::timer::NEVER;

use crate::home::{Home, await_operations, graph, held, runs_again, single, sleep, step_id};

/// A task that is tried again at once.
fn stubborn() -> Arc<Graph> {
    let task = TaskSpec {
        retry: RetryPolicy {
            retries: 9,
            backoff: Backoff::Fixed { delay_us: 0 },
            ..RetryPolicy::default()
        },
        ..TaskSpec::new("stubborn")
    };
    graph(vec![task], &[])
}

fn failed_step(number: u32, failure: &Failure) -> StepRecord {
    StepRecord {
        id: step_id(number, StepKind::Step, "work"),
        end: StepEnd::Failed(failure.clone()),
        order: 1,
    }
}

#[tokio::test]
async fn attempts_that_fail_at_length_leave_no_payloads_behind() {
    let home = Home::new().await;
    let id = home.start(&stubborn()).await;
    for attempt in 0..9 {
        let held = held(&home.claim().await);
        let failure = Failure::new("flaky", format!("{attempt}").repeat(5000));
        let steps = vec![failed_step(1, &failure)];
        home.apply(Request::Record(Record {
            held,
            given_back: Vec::new(),
            steps,
        }))
        .await;
        let rerun = Some(runs_again(1, 2));
        let outcome = Outcome::Failed {
            failure,
            random: 0.0,
            rerun,
        };
        home.finish(held, outcome).await;
    }
    let task = home.store.task(TaskKey::new(id, 1)).await;
    let error = task.expect("reads").expect("exists").error;
    assert!(error.expect("the last").message.starts_with('8'));
    // The task's last error; the step that gave it no longer counts.
    if let Some(payloads) = home.dump().await.get("payloads") {
        assert_eq!(payloads.len(), 1);
    }
}

#[tokio::test]
async fn a_sleep_without_an_end_leaves_no_timer_behind() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    let held = held(&home.claim().await);
    home.apply(await_operations(held, vec![sleep(1, NEVER)], true))
        .await;
    assert_eq!(home.phase(id, 1).await, Phase::Evicted);
    home.cancel(id).await;
    home.fire_timers().await;
    assert_eq!(home.dump().await["timers"], Vec::<Vec<_>>::new());
}
