//! Steps beside other operations: raced with waits, and around operations that don't belong there.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use abide::authoring::WorkflowSpec;
use abide::{Engine, Run, RunError, TaskBuilder, TaskError, TaskHandle, VirtualClock};
use serde_json::{Value, json};

use crate::common::{
    Gate, Home, Player, begin, first, function, function_of, history, task_events,
};
use crate::durable::{Count, Waits, both};

const HOUR: Duration = Duration::from_secs(3600);

/// Waits until so many operations of a task are recorded, those included that are waited for.
async fn until_recorded(engine: &Engine, run: &Run<Value>, operations: usize) {
    while recorded(engine, run).await.len() < operations {
        tokio::task::yield_now().await;
    }
}

/// The numbers of the operations that a task has recorded, and their names.
async fn recorded(engine: &Engine, run: &Run<Value>) -> Vec<(u32, String)> {
    let steps = engine.store().steps(first(run)).await.expect("reads");
    let ids = steps.into_iter().map(|step| (step.id.number, step.id.name));
    ids.collect()
}

/// A function that races a step without an end with a sleep and a signal, and then waits for the
/// signal `go`.
fn racer(bodies: &Count, begun: &Gate) -> WorkflowSpec {
    let told = (bodies.clone(), begun.clone());
    function("racer", move |handle: TaskHandle| {
        let (bodies, begun) = told.clone();
        async move {
            let slow = handle.step("slow", async || {
                bodies.up();
                begun.open(1);
                std::future::pending::<Result<(), TaskError>>().await
            });
            let winner = tokio::select! {
                done = slow => { done?; "step".to_owned() }
                slept = handle.sleep(HOUR) => { slept?; "sleep".to_owned() }
                word = handle.signal::<String>("word") => word?,
            };
            let after = handle
                .step("after", async || Ok::<_, TaskError>(bodies.get()))
                .await?;
            let go: String = handle.signal("go").await?;
            Ok::<_, TaskError>((winner, after, go))
        }
    })
}

async fn a_wait_wins(waits: Waits, wins: impl AsyncFn(&Engine, &VirtualClock) -> &'static str) {
    let home = Home::new();
    let clock = VirtualClock::new();
    let (bodies, begun) = (Count::default(), Gate::shut());
    let engine = waits.engine(&home).clock(clock.clone());
    let engine = engine.register_spec(racer(&bodies, &begun)).start().await;
    let engine = engine.expect("starts");
    let run = begin(&engine, "racer").await;
    begun.pass().await;
    until_recorded(&engine, &run, 2).await;
    // The body runs, so the slot is kept.
    let events = task_events(&engine, run.id(), 1).await;
    assert!(!events.contains(&"task.deferred"), "{events:?}");
    let winner = wins(&engine, &clock).await;
    waits.until_waiting(&engine, &run, 1).await;
    engine
        .signal("racer", "go", &"on")
        .await
        .expect("it is live");
    assert_eq!(
        run.result().await.expect("completes"),
        json!([winner, 1, "on"])
    );
    assert_eq!(bodies.get(), 1, "a replay doesn't begin the body that lost");
}

#[tokio::test]
async fn a_sleep_that_is_raced_with_a_running_step_ends_in_its_time() {
    both(async |waits| {
        let slept = async |_: &Engine, clock: &VirtualClock| {
            clock.advance(HOUR);
            "sleep"
        };
        a_wait_wins(waits, slept).await;
    })
    .await;
}

#[tokio::test]
async fn a_signal_interrupts_a_running_step_that_it_is_raced_with() {
    both(async |waits| {
        let sent = async |engine: &Engine, _: &VirtualClock| {
            let sent = engine.signal("racer", "word", &"stop").await;
            sent.expect("it is live");
            "stop"
        };
        a_wait_wins(waits, sent).await;
    })
    .await;
}

#[tokio::test]
async fn a_race_that_a_restart_interrupts_ends_when_it_would_have() {
    let home = Home::new();
    let clock = VirtualClock::new();
    let (bodies, begun) = (Count::default(), Gate::shut());
    let start = || {
        let engine = home.engine().clock(clock.clone());
        let engine = engine.shutdown_deadline(Duration::ZERO);
        engine.register_spec(racer(&bodies, &begun)).start()
    };
    let engine = start().await.expect("starts");
    let run = begin(&engine, "racer").await;
    begun.pass().await;
    until_recorded(&engine, &run, 2).await;
    clock.advance(HOUR / 2);
    engine.shutdown().await;
    drop((engine, run));

    let engine = start().await.expect("starts again");
    let run = begin(&engine, "racer").await;
    // Nothing was decided, so the step begins again; the sleep goes on with the rest of its time.
    begun.pass().await;
    clock.advance(HOUR / 2);
    engine
        .signal("racer", "go", &"on")
        .await
        .expect("it is live");
    assert_eq!(
        run.result().await.expect("completes"),
        json!(["sleep", 2, "on"])
    );
}

#[tokio::test]
async fn a_step_that_wins_a_race_leaves_the_signal_to_who_asks_next() {
    both(async |waits| {
        let home = Home::new();
        let (gate, other, begun) = (Gate::shut(), Gate::shut(), Gate::shut());
        let gates = (gate.clone(), other.clone(), begun.clone());
        let reader = function("reader", move |handle: TaskHandle| {
            let (gate, other, begun) = gates.clone();
            async move {
                let passes = |gate: Gate| {
                    let begun = begun.clone();
                    async move || {
                        begun.open(1);
                        gate.pass().await;
                        Ok::<_, TaskError>(())
                    }
                };
                let early = tokio::select! {
                    done = handle.step("first", passes(gate)) => { done?; None }
                    word = handle.signal::<String>("word") => Some(word?),
                };
                handle.step("second", passes(other)).await?;
                let word: String = handle.signal("word").await?;
                let last: String = handle.signal("word").await?;
                Ok::<_, TaskError>((early, word, last))
            }
        });
        let engine = waits.engine(&home).register_spec(reader).start().await;
        let engine = engine.expect("starts");
        let run = begin(&engine, "reader").await;
        begun.pass().await;
        until_recorded(&engine, &run, 1).await;
        gate.open(1);
        // The wait that lost is still recorded when the signal comes.
        begun.pass().await;
        engine
            .signal("reader", "word", &"a")
            .await
            .expect("it is live");
        other.open(1);
        waits.until_waiting(&engine, &run, 1).await;
        engine
            .signal("reader", "word", &"b")
            .await
            .expect("it is live");
        assert_eq!(
            run.result().await.expect("completes"),
            json!([null, "a", "b"])
        );
    })
    .await;
}

#[tokio::test]
async fn a_step_that_outlives_many_waits_is_replayed_with_all_of_them() {
    both(async |waits| {
        let home = Home::new();
        let clock = VirtualClock::new();
        let (bodies, gate) = (Count::default(), Gate::shut());
        let told = (bodies.clone(), gate.clone());
        let patient = function("patient", move |handle: TaskHandle| {
            let (bodies, gate) = told.clone();
            async move {
                let mut slow = pin!(handle.step("slow", async || {
                    gate.pass().await;
                    Ok::<_, TaskError>(bodies.up())
                }));
                let mut hours = 0;
                let done = loop {
                    tokio::select! {
                        done = &mut slow => break done?,
                        slept = handle.sleep(HOUR) => slept?,
                    }
                    hours += 1;
                };
                let go: String = handle.signal("go").await?;
                Ok::<_, TaskError>((hours, done, go))
            }
        });
        let engine = waits.engine(&home).clock(clock.clone());
        let engine = engine.register_spec(patient).start().await.expect("starts");
        let run = begin(&engine, "patient").await;
        for recorded in 1..=3 {
            until_recorded(&engine, &run, recorded).await;
            clock.advance(HOUR);
        }
        until_recorded(&engine, &run, 4).await;
        gate.open(1);
        waits.until_waiting(&engine, &run, 1).await;
        engine
            .signal("patient", "go", &"on")
            .await
            .expect("it is live");
        assert_eq!(run.result().await.expect("completes"), json!([3, 1, "on"]));
    })
    .await;
}

/// How a function that could not ship gives back what it reserved.
#[derive(Clone, Copy, PartialEq)]
enum Undo {
    /// By a step of its own, and returns the error.
    InAStep,
    /// Likewise, and says when the next attempt makes sense.
    InAStepAndLater,
    /// On an operator's word.
    OnASignal,
    /// Not at all: it sleeps, and returns the error.
    Never,
}

/// What a saga did, by name.
#[derive(Clone, Default)]
struct Did(Arc<Mutex<Vec<&'static str>>>);

impl Did {
    fn note(&self, what: &'static str) -> usize {
        let mut did = self.0.lock().expect("no test panics in here");
        did.push(what);
        did.iter().filter(|did| **did == what).count()
    }

    fn all(&self) -> Vec<&'static str> {
        self.0.lock().expect("no test panics in here").clone()
    }
}

/// A function that reserves, fails to ship the first time, and gives back what it reserved.
fn saga(did: &Did, undo: Undo) -> WorkflowSpec {
    let did = did.clone();
    let order = TaskBuilder::new("order", move |handle: TaskHandle| {
        let did = did.clone();
        async move {
            let note = async |what| Ok::<_, TaskError>(did.note(what));
            handle.step("reserve", || note("reserve")).await?;
            let ship = async || match did.note("ship") {
                1 => Err(TaskError::new("no_truck", "it broke down")),
                _ => Ok(()),
            };
            let Err(error) = handle.step("ship", ship).await else {
                return Ok(());
            };
            match undo {
                Undo::InAStep | Undo::InAStepAndLater => {
                    handle.step("unreserve", || note("unreserve")).await?;
                }
                Undo::OnASignal => handle.signal::<()>("give up").await?,
                Undo::Never => handle.sleep(HOUR).await?,
            }
            match undo {
                Undo::InAStepAndLater => Err(TaskError::retry_after(error, HOUR)),
                _ => Err(error),
            }
        }
    });
    function_of(order.retries(1))
}

#[tokio::test]
async fn an_attempt_that_undid_what_it_had_done_is_not_retried_and_says_why() {
    both(async |waits| {
        for (undo, went_on) in [
            (Undo::InAStep, "step `unreserve`"),
            (Undo::InAStepAndLater, "step `unreserve`"),
            (Undo::OnASignal, "signal `give up`"),
        ] {
            let home = Home::new();
            let clock = VirtualClock::new();
            let did = Did::default();
            let engine = waits.engine(&home).clock(clock.clone());
            let engine = engine.register_spec(saga(&did, undo)).start().await;
            let engine = engine.expect("starts");
            let run = begin(&engine, "order").await;
            if undo == Undo::OnASignal {
                let sent = engine.signal("order", "give up", &()).await;
                sent.expect("it is live");
            }
            let _player = Player::of(&clock);
            let RunError::Failed { error, .. } = run.result().await.expect_err("not shipped")
            else {
                panic!("a task failed");
            };
            assert_eq!(
                (error.kind(), error.message()),
                ("no_truck", "it broke down")
            );
            let why = format!(
                ": not retried: after step `ship` had failed, the function went on with {went_on}."
            );
            assert!(format!("{error:#}").contains(&why), "{error:#}");
            assert_eq!(did.all().iter().filter(|did| **did == "ship").count(), 1);
            // All that was done is still in the record.
            let names: Vec<String> = recorded(&engine, &run)
                .await
                .into_iter()
                .map(|(_, name)| name)
                .collect();
            let last = if undo == Undo::OnASignal {
                "give up"
            } else {
                "unreserve"
            };
            assert_eq!(names, ["reserve", "ship", last]);
        }
    })
    .await;
}

#[tokio::test]
async fn an_attempt_that_only_slept_after_an_error_runs_the_failed_step_again() {
    both(async |waits| {
        let home = Home::new();
        let clock = VirtualClock::new();
        let did = Did::default();
        let engine = waits.engine(&home).clock(clock.clone());
        let engine = engine.register_spec(saga(&did, Undo::Never)).start().await;
        let engine = engine.expect("starts");
        let _player = Player::of(&clock);
        let run = begin(&engine, "order").await;
        run.result().await.expect("the second attempt ships");
        assert_eq!(did.all(), ["reserve", "ship", "ship"]);
        // The record is the second attempt's; history tells what of the first no longer counts.
        let events = history(&engine, run.id()).await.into_iter();
        let retries = events.filter(|event| event.kind == "task.retry_scheduled");
        let data: Vec<String> = retries.filter_map(|event| event.data).collect();
        let again: Value = serde_json::from_str(&data[0]).expect("an object");
        let expected = json!([
            {"number": 2, "kind": "step", "name": "ship", "error": "no_truck: it broke down"},
            {"number": 3, "kind": "sleep", "name": "sleep"},
        ]);
        assert_eq!((data.len(), &again["runs_again"]), (1, &expected));
    })
    .await;
}

#[tokio::test]
async fn the_last_attempt_fails_as_always_whatever_it_did_since_the_error() {
    let home = Home::new();
    let order = function("order", |handle: TaskHandle| async move {
        let ship = async || Err::<(), _>(TaskError::new("no_truck", "it broke down"));
        let error = handle.step("ship", ship).await.expect_err("always");
        handle
            .step("unreserve", async || Ok::<_, TaskError>(()))
            .await?;
        Err::<(), _>(error)
    });
    let engine = home
        .engine()
        .register_spec(order)
        .start()
        .await
        .expect("starts");
    let run = begin(&engine, "order").await;
    let RunError::Failed { error, .. } = run.result().await.expect_err("not shipped") else {
        panic!("a task failed");
    };
    assert_eq!(format!("{error:#}"), "it broke down");
    assert!(!error.is_fatal());
}

/// Functions that ask for an operation where none can be recorded, and what the error names.
fn misplaced() -> Vec<(WorkflowSpec, &'static str)> {
    type Body = Result<(), TaskError>;
    vec![
        (
            function("step", |handle: TaskHandle| async move {
                let body = async || handle.step("inner", async || Body::Ok(())).await;
                handle.step("outer", body).await
            }),
            "step `inner`",
        ),
        (
            function("sleep", |handle: TaskHandle| async move {
                handle.step("outer", || handle.sleep(HOUR)).await
            }),
            "a sleep",
        ),
        (
            function("sleep until", |handle: TaskHandle| async move {
                let body = async || handle.sleep_until(SystemTime::now() + HOUR).await;
                handle.step("outer", body).await
            }),
            "a sleep",
        ),
        (
            function("signal", |handle: TaskHandle| async move {
                handle
                    .step("outer", async || handle.signal::<()>("word").await)
                    .await
            }),
            "signal `word`",
        ),
        (
            function("defer until", |handle: TaskHandle| async move {
                let body = async || handle.defer_until(|| true, HOUR).await;
                handle.step("outer", body).await
            }),
            "`defer_until`",
        ),
        (
            function("defer until or", |handle: TaskHandle| async move {
                let body = async || {
                    let end = handle.defer_until_or(|| false, HOUR, HOUR).await?;
                    Ok::<_, TaskError>(format!("{end:?}"))
                };
                handle.step("outer", body).await
            }),
            "`defer_until`",
        ),
        (
            function("joined", |handle: TaskHandle| async move {
                let body = async || {
                    let (step, sleep) = tokio::join!(
                        handle.step("inner", async || Body::Ok(())),
                        handle.sleep(HOUR)
                    );
                    sleep?;
                    step
                };
                handle.step("outer", body).await
            }),
            "a sleep",
        ),
        (
            function("spawned", |handle: TaskHandle| async move {
                let inner = handle.clone();
                let body = async move || {
                    let asks = async move { inner.step("inner", async || Body::Ok(())).await };
                    tokio::spawn(asks).await?
                };
                handle.step("outer", body).await
            }),
            "step `inner`",
        ),
        (
            function("on a thread", |handle: TaskHandle| async move {
                let inner = handle.clone();
                let body = async move || {
                    let runtime = tokio::runtime::Handle::current();
                    let asks = move || runtime.block_on(inner.signal::<()>("word"));
                    tokio::task::spawn_blocking(asks).await?
                };
                handle.step("outer", body).await
            }),
            "signal `word`",
        ),
        (
            function("asked for outside", |handle: TaskHandle| async move {
                let sleep = handle.sleep(HOUR);
                handle.step("outer", async move || sleep.await).await
            }),
            "a sleep",
        ),
        (
            function("step in a condition", |handle: TaskHandle| async move {
                let look = async || {
                    handle
                        .step("inner", async || Ok::<_, TaskError>(true))
                        .await
                };
                handle.defer_until(look, HOUR).await
            }),
            "step `inner`",
        ),
        (
            function(
                "condition in a condition",
                |handle: TaskHandle| async move {
                    let look = async || handle.defer_until(|| true, HOUR).await.map(|()| true);
                    handle.defer_until(look, HOUR).await
                },
            ),
            "`defer_until`",
        ),
    ]
}

#[tokio::test]
async fn an_operation_where_none_can_be_recorded_is_refused_at_once() {
    let home = Home::new();
    // Nobody moves the clock: what would wait would do so for ever.
    let mut engine = home
        .engine()
        .clock(VirtualClock::new())
        .max_concurrent_tasks(1);
    let mut names = Vec::new();
    for (workflow, culprit) in misplaced() {
        names.push((workflow.name.clone(), culprit));
        engine = engine.register_spec(workflow);
    }
    let engine = engine.start().await.expect("starts");
    for (name, culprit) in names {
        let run = begin(&engine, &name).await;
        let RunError::Failed { error, .. } = run.result().await.expect_err("refused") else {
            panic!("{name}: a task failed");
        };
        assert_eq!(error.kind(), "misplaced", "{name}: {error}");
        assert!(error.is_fatal(), "{name}: {error}");
        assert!(error.message().starts_with(culprit), "{name}: {error}");
        let place = if name.ends_with("condition") {
            "a condition"
        } else {
            "step `outer`"
        };
        assert!(error.message().contains(place), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_refused_operation_leaves_nothing_in_the_record() {
    both(async |waits| {
        let home = Home::new();
        let bodies = Count::default();
        let count = bodies.clone();
        let careful = function("careful", move |handle: TaskHandle| {
            let count = count.clone();
            async move {
                let body = async || {
                    count.up();
                    handle.progress(0.5)?;
                    let refused = handle.sleep(HOUR).await.expect_err("it is inside a body");
                    Ok::<_, TaskError>(refused.kind().to_owned())
                };
                let kind = handle.step("outer", body).await?;
                let go: String = handle.signal("go").await?;
                let last = handle
                    .step("last", async || Ok::<_, TaskError>(count.get()))
                    .await?;
                Ok::<_, TaskError>((kind, go, last))
            }
        });
        let engine = waits.engine(&home).register_spec(careful).start().await;
        let engine = engine.expect("starts");
        let run = begin(&engine, "careful").await;
        waits.until_waiting(&engine, &run, 1).await;
        engine
            .signal("careful", "go", &"on")
            .await
            .expect("it is live");
        let expected = json!(["misplaced", "on", 1]);
        assert_eq!(run.result().await.expect("completes"), expected);
        let names = [(1, "outer"), (2, "go"), (3, "last")];
        let names = names.map(|(number, name)| (number, name.to_owned()));
        assert_eq!(recorded(&engine, &run).await, names);
    })
    .await;
}
