//! Every row of core's tables that is in use is taken through the doors, from each state that it names, and
//! counted from the events that the store wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use abide_core::event::EventType;
use abide_core::graph::TaskSpec;
use abide_core::kernel::{
    Act, Action, Defer, Held, Outcome, PIECE, Recover, Request, Resume, Signal,
};
use abide_core::payload::Payload;
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::status::{ExecutionStatus, Phase};
use abide_core::table::{AsText, Built, EXECUTIONS, Row, TASKS};
use abide_core::trigger::{ContextOp, Trigger};
use abide_store::VerifyOptions;
use serde_json::json;

use crate::home::{
    Home, SECOND_US, await_operations, completed, failed, failed_once, graph, held, signal, single,
    sleep,
};
use crate::value::{Value, column};

#[tokio::test]
async fn every_row_of_the_tables_is_taken_and_nothing_else() {
    let home = Home::new().await;
    ends_well(&home).await;
    waits_and_ends_from_there(&home).await;
    is_tried_again_and_fails(&home).await;
    is_given_back(&home).await;
    is_evicted_and_woken(&home).await;
    loses_its_workers(&home).await;
    has_nothing_to_do(&home).await;
    is_cancelled_before_it_starts(&home).await;
    is_cancelled_while_it_runs(&home).await;
    times_out(&home).await;
    gets_another_priority(&home).await;
    hears_of_a_late_result(&home).await;

    let report = home.store.verify(VerifyOptions::default()).await;
    let report = report.expect("reads");
    assert!(report.is_clean(), "{report}");

    let taken = taken(&home).await;
    let mut missing = rows_not_taken("task", TASKS, &taken);
    missing.extend(rows_not_taken("execution", EXECUTIONS, &taken));
    let known: BTreeSet<_> = pairs(TASKS).chain(pairs(EXECUTIONS)).collect();
    let unknown: Vec<_> = taken
        .keys()
        .filter(|pair| !known.contains(pair) && !is_late_result(pair))
        .collect();
    let emitted: BTreeSet<_> = taken.keys().map(|(kind, ..)| *kind).collect();
    let mut expected: BTreeSet<_> = known.iter().map(|(kind, ..)| *kind).collect();
    expected.insert(EventType::TaskLateResultDiscarded);
    let silent: Vec<_> = expected.difference(&emitted).collect();

    println!(
        "{} (event, from, to) triples written, {} of {} event types in use",
        taken.len(),
        emitted.len(),
        expected.len()
    );
    for ((kind, from, to), count) in &taken {
        let from = from.as_deref().unwrap_or("nothing");
        println!("{count:6}  {kind:28} {from} -> {to}");
    }
    assert!(missing.is_empty(), "rows not taken: {missing:#?}");
    assert!(silent.is_empty(), "events not emitted: {silent:?}");
    assert!(unknown.is_empty(), "moves outside the tables: {unknown:?}");
}

// ---- what happens ----

async fn ends_well(home: &Home) {
    home.start(&single()).await;
    let claimed = home.claim().await;
    home.finish(held(&claimed), completed()).await;
}

async fn waits_and_ends_from_there(home: &Home) {
    for outcome in [completed(), failed()] {
        home.start(&single()).await;
        let held = held(&home.claim().await);
        defer(home, held).await;
        let resume = Resume {
            held,
            given_back: Vec::new(),
            always: true,
            next_order: 1,
        };
        home.apply(Request::Resume(resume)).await;
        defer(home, held).await;
        home.finish(held, outcome).await;
    }
}

async fn is_tried_again_and_fails(home: &Home) {
    let flaky = TaskSpec {
        retry: RetryPolicy {
            retries: 2,
            backoff: Backoff::Fixed {
                delay_us: SECOND_US,
            },
            ..RetryPolicy::default()
        },
        ..TaskSpec::new("flaky")
    };
    let graph = graph(vec![flaky, TaskSpec::new("next")], &[("flaky", "next")]);
    let id = home.start(&graph).await;
    home.finish(held(&home.claim().await), failed_once()).await;
    home.advance(SECOND_US);
    home.fire_timers().await;
    let second = held(&home.claim().await);
    defer(home, second).await;
    home.finish(second, failed_once()).await;
    home.advance(SECOND_US);
    home.fire_timers().await;
    home.finish(held(&home.claim().await), failed_once()).await;
    assert_eq!(home.phase(id, 2).await, Phase::Skipped);
}

async fn is_given_back(home: &Home) {
    let released = || Outcome::Released {
        reason: "shutdown".into(),
    };
    home.start(&single()).await;
    home.finish(held(&home.claim().await), released()).await;
    let again = held(&home.claim().await);
    defer(home, again).await;
    home.finish(again, released()).await;
    home.finish(held(&home.claim().await), completed()).await;
}

async fn is_evicted_and_woken(home: &Home) {
    let id = home.start(&single()).await;
    let instance = home
        .store
        .execution(id)
        .await
        .expect("reads")
        .expect("exists");
    let due = home.now().plus_us(SECOND_US);
    let first = held(&home.claim().await);
    home.apply(await_operations(first, vec![sleep(1, due)], true))
        .await;
    home.advance(SECOND_US);
    home.fire_timers().await;
    let second = held(&home.claim().await);
    home.apply(await_operations(second, vec![signal(2, "go")], true))
        .await;
    let sent = Signal {
        instance: instance.execution.instance,
        name: "go".into(),
        payload: Payload::from_json("1"),
        actor: None,
    };
    home.apply(Request::Signal(sent)).await;
    home.finish(held(&home.claim().await), completed()).await;
}

async fn loses_its_workers(home: &Home) {
    home.start(&single()).await;
    let lose = async |held: Held| {
        let recover = Recover {
            key: held.key,
            worker: held.worker,
            crash_cap: 1,
            alone: true,
            reason: "test".into(),
        };
        home.apply(Request::Recover(recover)).await
    };
    let waiting = held(&home.claim().await);
    defer(home, waiting).await;
    lose(waiting).await;
    lose(held(&home.claim().await)).await;
    lose(held(&home.claim().await)).await;
}

async fn has_nothing_to_do(home: &Home) {
    let never = TaskSpec {
        trigger: Some(Trigger::Context {
            key: "wanted".into(),
            op: ContextOp::Eq,
            value: json!(true),
        }),
        ..TaskSpec::new("never")
    };
    let id = home.start(&graph(vec![never], &[])).await;
    assert_eq!(status(home, id).await, ExecutionStatus::Completed);
}

async fn is_cancelled_before_it_starts(home: &Home) {
    let chain = graph(vec![TaskSpec::new("a"), TaskSpec::new("b")], &[("a", "b")]);
    let id = home.start(&chain).await;
    home.cancel(id).await;
    assert_eq!(status(home, id).await, ExecutionStatus::Cancelled);

    // More than fits into one transaction.
    let tasks = (0..=PIECE).map(|n| TaskSpec::new(format!("t{n}")));
    let id = home.start(&graph(tasks.collect(), &[])).await;
    home.cancel(id).await;
    assert_eq!(status(home, id).await, ExecutionStatus::Cancelling);
    home.advance(1);
    home.fire_timers().await;
    assert_eq!(status(home, id).await, ExecutionStatus::Cancelled);
}

async fn is_cancelled_while_it_runs(home: &Home) {
    let names = ["active", "deferred", "evicted", "ready"];
    let tasks = names.map(TaskSpec::new).into();
    let mut tasks: Vec<TaskSpec> = tasks;
    tasks.push(TaskSpec::new("pending"));
    let id = home.start(&graph(tasks, &[("active", "pending")])).await;
    let claims = home.store.claim(home.worker, home.queues().await, 3).await;
    let claimed = claims.expect("claims").claimed;
    let [active, deferred, evicted] = claimed.iter().map(held).collect::<Vec<_>>()[..] else {
        panic!("three slots, three tasks")
    };
    defer(home, deferred).await;
    home.apply(await_operations(evicted, vec![signal(1, "go")], true))
        .await;
    home.cancel(id).await;
    home.finish(active, completed()).await;
    assert_eq!(status(home, id).await, ExecutionStatus::Cancelling);
    home.finish(deferred, Outcome::Cancelled).await;
    assert_eq!(status(home, id).await, ExecutionStatus::Cancelled);
}

async fn times_out(home: &Home) {
    let deadline = home.now().plus_us(SECOND_US);
    for claims in [false, true] {
        let mut start = home.request(&single()).await;
        start.deadline_at = Some(deadline);
        let id = home.store.start(start).await.expect("starts").id;
        if claims {
            home.claim_all().await;
            home.advance(SECOND_US);
            home.fire_timers().await;
            assert_eq!(status(home, id).await, ExecutionStatus::Cancelling);
            home.advance(30 * SECOND_US);
            home.fire_timers().await;
        } else {
            let timer = abide_core::timer::Timer::of_execution(
                deadline,
                abide_core::timer::TimerKind::Deadline,
                id,
                0,
            );
            home.apply(Request::Fire(timer)).await;
        }
        assert_eq!(status(home, id).await, ExecutionStatus::TimedOut);
    }
}

async fn gets_another_priority(home: &Home) {
    let id = home.start(&single()).await;
    let set = async |priority| {
        let action = Action::SetPriority { priority };
        home.apply(Act::on(id, action, "test").into()).await;
    };
    set(5).await;
    let claimed = home.claim().await;
    set(7).await;
    home.finish(held(&claimed), completed()).await;
}

async fn hears_of_a_late_result(home: &Home) {
    home.start(&single()).await;
    let first = held(&home.claim().await);
    let released = Outcome::Released {
        reason: "shutdown".into(),
    };
    home.finish(first, released).await;
    let finished = home.finish(first, completed()).await;
    assert!(!finished.recorded);
    home.finish(held(&home.claim().await), completed()).await;
}

async fn defer(home: &Home, held: Held) {
    let defer = Defer {
        held,
        given_back: Vec::new(),
        wait: "a condition".into(),
    };
    home.apply(Request::Defer(defer)).await;
}

async fn status(home: &Home, id: abide_core::ids::ExecutionId) -> ExecutionStatus {
    let view = home
        .store
        .execution(id)
        .await
        .expect("reads")
        .expect("exists");
    view.execution.status
}

// ---- what is counted ----

type Taken = (EventType, Option<String>, String);

/// How often the store wrote each event from and to each state.
async fn taken(home: &Home) -> BTreeMap<Taken, u32> {
    let counted = "SELECT type, from_status, to_status, count(*) AS count FROM execution_events GROUP BY 1, 2, 3";
    let rows = home.database.rows(&[counted]).await.remove(0);
    let read = rows.iter().map(|row| {
        let kind = EventType::from_code(column(row, "type").integer()).expect("a known event");
        let (from, to) = (column(row, "from_status"), column(row, "to_status"));
        let from = (from != &Value::Null).then(|| from.text().to_owned());
        let count = column(row, "count").integer() as u32;
        ((kind, from, to.text().to_owned()), count)
    });
    read.collect()
}

/// The events of every row in use, from each of its states.
fn pairs<S: Copy + AsText, M: Copy + Debug>(
    table: &'static [Row<S, M>],
) -> impl Iterator<Item = Taken> {
    let in_use = table.iter().filter(|row| row.built == Built::Now);
    in_use.flat_map(|row| {
        row.pairs().flat_map(move |(from, to)| {
            let of = move |kind: &EventType| {
                let from = from.map(|from| from.text().to_owned());
                (*kind, from, to.text().to_owned())
            };
            row.events.iter().map(of)
        })
    })
}

/// The rows in use of which some event was never written; from states that some row in use leads to.
fn rows_not_taken<S: Copy + PartialEq + AsText, M: Copy + AsText + Debug>(
    what: &str,
    table: &'static [Row<S, M>],
    taken: &BTreeMap<Taken, u32>,
) -> Vec<String> {
    let in_use = || table.iter().filter(|row| row.built == Built::Now);
    let mut missing = Vec::new();
    let mut rows = 0;
    for row in in_use() {
        for (from, to) in row.pairs() {
            if from.is_some_and(|from| in_use().all(|row| !row.to.contains(&from))) {
                continue;
            }
            rows += 1;
            for kind in row.events {
                let from = from.map(|from| from.text().to_owned());
                let key = (*kind, from, to.text().to_owned());
                if !taken.contains_key(&key) {
                    missing.push(format!("{what} {}: {key:?}", row.name.text()));
                }
            }
        }
    }
    println!("{what}: {rows} moves in use, {} not taken", missing.len());
    missing
}

fn is_late_result((kind, from, to): &Taken) -> bool {
    *kind == EventType::TaskLateResultDiscarded && from.as_deref() == Some(to)
}
