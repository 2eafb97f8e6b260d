//! Waits that are raced: whoever loses takes nothing. Every test runs with futures that stay parked
//! and with futures that are dropped at each wait and replayed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use abide::authoring::WorkflowSpec;
use abide::{TaskError, TaskHandle};
use abide_core::step::StepEnd;
use serde::Serialize;
use serde_json::json;

use crate::common::{Gate, Home, begin, first, function, task_events, until_event};
use crate::durable::both;

const NOW: Duration = Duration::ZERO;
const MOMENT: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A durable function `racer` that begins to race once it is let pass, and at once in a replay.
fn racer<R, F>(gate: &Gate, race: impl Fn(TaskHandle) -> F + Send + Sync + 'static) -> WorkflowSpec
where
    R: Serialize + Send + 'static,
    F: Future<Output = Result<R, TaskError>> + Send + 'static,
{
    let gate = gate.clone();
    function("racer", move |handle: TaskHandle| {
        let (gate, race) = (gate.clone(), race(handle));
        async move {
            gate.pass().await;
            gate.open(1);
            race.await
        }
    })
}

#[tokio::test]
async fn a_lost_race_keeps_the_signal() {
    both(async |waits| {
        let home = Home::new();
        let gate = Gate::shut();
        let racer = racer(&gate, move |handle| async move {
            let mut got: Vec<String> = Vec::new();
            while got.len() < 4 {
                let a = handle.signal::<String>("a");
                let b = handle.signal::<String>("b");
                got.push(tokio::select! { a = a => a?, b = b => b? });
            }
            Ok::<_, TaskError>(got)
        });
        let engine = waits.engine(&home).register_spec(racer);
        let engine = engine.start().await.expect("starts");
        let run = begin(&engine, "racer").await;
        // Both are there before the first race.
        for name in ["a", "b"] {
            let sent = engine.signal("racer", name, &name).await;
            sent.expect("it is live");
        }
        gate.open(1);
        for (waited, name) in [(1, "b"), (2, "a")] {
            waits.until_waiting(&engine, &run, waited).await;
            let sent = engine.signal("racer", name, &name.to_uppercase()).await;
            sent.expect("it is live");
        }
        let got = run.result().await.expect("completes");
        assert_eq!(got, json!(["a", "b", "B", "A"]));
    })
    .await;
}

#[tokio::test]
async fn signals_that_lose_against_timers_stay_in_order() {
    both(async |waits| {
        let home = Home::new();
        let gate = Gate::shut();
        let racer = racer(&gate, move |handle| async move {
            let mut got: Vec<u32> = Vec::new();
            let mut late = 0;
            while got.len() < 10 {
                // Both are over when the store is asked, and the sleep was built first.
                tokio::select! {
                    slept = handle.sleep(NOW) => { slept?; late += 1; }
                    number = handle.signal("number") => got.push(number?),
                }
                tokio::select! {
                    number = handle.signal("number") => got.push(number?),
                    slept = handle.sleep(NOW) => slept?,
                }
            }
            Ok::<_, TaskError>((got, late))
        });
        let engine = waits.engine(&home).register_spec(racer);
        let engine = engine.start().await.expect("starts");
        let run = begin(&engine, "racer").await;
        for number in 0..10 {
            let sent = engine.signal("racer", "number", &number).await;
            sent.expect("it is live");
        }
        gate.open(1);
        let got = run.result().await.expect("completes");
        assert_eq!(got, json!([(0..10).collect::<Vec<_>>(), 10]));
    })
    .await;
}

#[tokio::test]
async fn a_loser_that_is_awaited_later_still_gets_its_signal_and_one_that_is_dropped_leaves_it() {
    both(async |waits| {
        for awaited in [true, false] {
            let home = Home::new();
            let gate = Gate::shut();
            let racer = racer(&gate, move |handle| async move {
                let nap = handle.sleep(NOW);
                let mut first = Some(Box::pin(handle.signal::<u32>("x")));
                let mut second = Box::pin(handle.signal::<u32>("x"));
                let raced = tokio::select! {
                    slept = nap => slept.map(|()| 0)?,
                    x = first.as_mut().expect("it is there") => x?,
                    x = &mut second => x?,
                };
                handle
                    .step("between", async || Ok::<_, TaskError>(()))
                    .await?;
                handle.sleep(NOW).await?;
                let kept = match first.take_if(|_| awaited) {
                    Some(first) => Some(first.await?),
                    None => None,
                };
                drop(first);
                let third: u32 = handle.signal("x").await?;
                Ok::<_, TaskError>((raced, kept, second.await?, third))
            });
            let engine = waits.engine(&home).register_spec(racer);
            let engine = engine.start().await.expect("starts");
            let run = begin(&engine, "racer").await;
            for number in 1..=3 {
                let sent = engine.signal("racer", "x", &number).await;
                sent.expect("it is live");
            }
            gate.open(1);
            let got = run.result().await.expect("completes");
            let expected = match awaited {
                true => json!([0, 1, 2, 3]),
                // What the dropped one was to get, the other has got instead.
                false => json!([0, null, 1, 2]),
            };
            assert_eq!(got, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn a_signal_is_taken_once_whether_it_or_a_step_wins() {
    both(async |waits| {
        for step_first in [true, false] {
            let home = Home::new();
            let (begun, gate) = (Gate::shut(), Gate::shut());
            let gates = (begun.clone(), gate.clone());
            let racer = function("racer", move |handle: TaskHandle| {
                let (begun, gate) = gates.clone();
                async move {
                    let work = async || {
                        begun.open(1);
                        gate.pass().await;
                        Ok::<_, TaskError>(())
                    };
                    let raced = if step_first {
                        tokio::select! {
                            biased;
                            worked = handle.step("work", work) => worked.map(|()| None)?,
                            number = handle.signal::<u32>("number") => Some(number?),
                        }
                    } else {
                        tokio::select! {
                            biased;
                            number = handle.signal::<u32>("number") => Some(number?),
                            worked = handle.step("work", work) => worked.map(|()| None)?,
                        }
                    };
                    let number = match raced {
                        Some(number) => number,
                        None => handle.signal("number").await?,
                    };
                    let next: u32 = handle.signal("number").await?;
                    Ok::<_, TaskError>((number, next))
                }
            });
            let engine = waits.engine(&home).register_spec(racer);
            let engine = engine.start().await.expect("starts");
            let run = begin(&engine, "racer").await;
            begun.pass().await;
            for number in [1, 2] {
                let sent = engine.signal("racer", "number", &number).await;
                sent.expect("it is live");
            }
            gate.open(1);
            assert_eq!(run.result().await.expect("completes"), json!([1, 2]));
        }
    })
    .await;
}

#[tokio::test]
async fn a_condition_that_came_true_later_does_not_win_in_the_replay() {
    both(async |waits| {
        let home = Home::new();
        let holds = Arc::new(AtomicBool::new(false));
        let looked_at = Arc::clone(&holds);
        let racer = function("racer", move |handle: TaskHandle| {
            let holds = Arc::clone(&looked_at);
            async move {
                let raced = {
                    let word = handle.signal::<String>("word");
                    let condition = handle.defer_until(|| holds.load(Ordering::SeqCst), HOUR);
                    tokio::select! {
                        biased;
                        met = condition => met.map(|()| "condition".to_owned())?,
                        word = word => word?,
                    }
                };
                let more: String = handle.signal("more").await?;
                Ok::<_, TaskError>((raced, more))
            }
        });
        let engine = waits.engine(&home).register_spec(racer);
        let engine = engine.start().await.expect("starts");
        let run = begin(&engine, "racer").await;
        until_event(&engine, first(&run), "task.deferred").await;
        let sent = engine.signal("racer", "word", &"word").await;
        sent.expect("it is live");
        let waits_for_more = async || {
            let steps = engine.store().steps(first(&run)).await.expect("reads");
            steps.iter().any(|step| step.id.name == "more")
        };
        while !waits_for_more().await {
            tokio::task::yield_now().await;
        }
        holds.store(true, Ordering::SeqCst);
        let sent = engine.signal("racer", "more", &"more").await;
        sent.expect("it is live");
        let got = run.result().await.expect("completes");
        assert_eq!(got, json!(["word", "more"]));
    })
    .await;
}

#[tokio::test]
async fn a_race_beside_a_wait_for_the_same_mailbox_leaves_it_the_older_signal() {
    both(async |waits| {
        let home = Home::new();
        let gate = Gate::shut();
        let racer = racer(&gate, move |handle| async move {
            let (sleep, signal) = (handle.sleep(NOW), handle.signal::<u32>("number"));
            let race = async {
                tokio::select! {
                    slept = sleep => slept.map(|()| 0),
                    number = signal => number,
                }
            };
            let (raced, beside) = tokio::join!(race, handle.signal::<u32>("number"));
            let next: u32 = handle.signal("number").await?;
            Ok::<_, TaskError>((raced?, beside?, next))
        });
        let engine = waits.engine(&home).register_spec(racer);
        let engine = engine.start().await.expect("starts");
        let run = begin(&engine, "racer").await;
        for number in [1, 2] {
            let sent = engine.signal("racer", "number", &number).await;
            sent.expect("it is live");
        }
        gate.open(1);
        // All three are over at once, and the signal that was first in line was the loser's.
        assert_eq!(run.result().await.expect("completes"), json!([0, 1, 2]));
    })
    .await;
}

#[tokio::test]
async fn a_signal_that_lost_to_a_condition_is_kept_while_the_task_waits_for_another() {
    let home = Home::new();
    let holds = [Arc::new(AtomicBool::new(false)), Arc::default()];
    let looked_at = holds.clone();
    let racer = function("racer", move |handle: TaskHandle| {
        let [one, other] = looked_at.clone();
        async move {
            tokio::select! {
                met = handle.defer_until(|| one.load(Ordering::SeqCst), MOMENT) => met?,
                word = handle.signal::<String>("word") => {
                    return Err(TaskError::fatal(format!("{} was not sent yet", word?)));
                }
            }
            let look = || other.load(Ordering::SeqCst);
            handle.defer_until(look, MOMENT).await?;
            handle.signal::<String>("word").await
        }
    });
    let engine = home.engine().register_spec(racer);
    let engine = engine.start().await.expect("starts");
    let run = begin(&engine, "racer").await;
    for (times, holds) in (1..).zip(&holds) {
        let deferred = async || {
            let events = task_events(&engine, run.id(), 1).await;
            events
                .iter()
                .filter(|kind| **kind == "task.deferred")
                .count()
        };
        while deferred().await < times {
            tokio::task::yield_now().await;
        }
        if times == 2 {
            let sent = engine.signal("racer", "word", &"word").await;
            sent.expect("it is live");
        }
        holds.store(true, Ordering::SeqCst);
    }
    assert_eq!(run.result().await.expect("completes"), json!("word"));
}

#[tokio::test]
async fn a_signal_that_goes_back_while_a_step_runs_is_taken_by_a_wait_beside_the_step() {
    let home = Home::new();
    let (begun, dropped, end) = (Gate::shut(), Gate::shut(), Gate::shut());
    let gates = (begun.clone(), dropped.clone(), end.clone());
    let racer = function("racer", move |handle: TaskHandle| {
        let (begun, dropped, end) = gates.clone();
        async move {
            let kept = handle.signal::<String>("word");
            let beside = handle.signal::<String>("word");
            let work = async || {
                begun.open(1);
                end.pass().await;
                Ok::<_, TaskError>("step".to_owned())
            };
            let drops = async {
                let mut kept = Box::pin(kept);
                let once = std::future::poll_fn(|cx| {
                    assert!(kept.as_mut().poll(cx).is_pending(), "nothing was sent yet");
                    std::task::Poll::Ready(())
                });
                once.await;
                dropped.pass().await;
                drop(kept);
                std::future::pending().await
            };
            tokio::select! {
                biased;
                never = drops => never,
                word = beside => word,
                worked = handle.step("work", work) => worked,
            }
        }
    });
    let engine = home.engine().register_spec(racer);
    let engine = engine.start().await.expect("starts");
    let run = begin(&engine, "racer").await;
    begun.pass().await;
    let is_answered = async || {
        let steps = engine.store().steps(first(&run)).await.expect("reads");
        steps
            .iter()
            .any(|step| matches!(step.end, StepEnd::Done(_)))
    };
    let sent = engine.signal("racer", "word", &"word").await;
    sent.expect("it is live");
    while !is_answered().await {
        tokio::task::yield_now().await;
    }
    dropped.open(1);
    assert_eq!(run.result().await.expect("completes"), json!("word"));
    end.open(1);
}
