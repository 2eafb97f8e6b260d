//! What a flush writes.

use std::sync::Arc;

use abide_core::context::Changes;
use abide_core::event::{Event, EventType};
use abide_core::failure::Failure;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId};
use abide_core::kernel::{
    Change, Effects, OutboxRow, SignalRead, SignalWrite, StepChange, StepWrite, Supersede, TaskEnd,
};
use abide_core::payload::Payload;
use abide_core::step::{StepEnd, StepId, StepKind, StepRecord, StepState};
use abide_core::timer::{Timer, TimerKind};
use proptest::prelude::*;

use super::super::statement::Param;
use super::home::{Home, begin, commit, graph, run, write_on};

pub(super) fn event(execution: i64, task: u32, n: u32) -> Event {
    Event {
        execution: ExecutionId(execution),
        task,
        n,
        kind: EventType::TaskCreated,
        at: Timestamp(1),
        worker: None,
        attempt: Some(1),
        epoch: None,
        actor: Some("user:é".into()),
        from: None,
        to: "Pending",
        data: None,
    }
}

pub(super) fn events(events: Vec<Event>) -> Effects {
    Effects {
        events,
        ..Effects::default()
    }
}

#[tokio::test]
async fn positions_follow_the_order_in_which_events_came_about() {
    let home = Home::new().await;
    // More than one statement's worth, over executions that go to and fro.
    let many: Vec<Event> = (0..10_000)
        .map(|at| event(1 + at % 7, 0, 1 + at as u32 / 7))
        .collect();
    home.write(&events(many.clone())).await;
    let stored = home
        .numbers("SELECT execution * 1000000 + n FROM ~execution_events ORDER BY position")
        .await;
    let wanted = many
        .iter()
        .map(|e| e.execution.0 * 1_000_000 + i64::from(e.n));
    assert_eq!(stored, wanted.collect::<Vec<_>>());
}

fn outbox_row(task: u32) -> OutboxRow {
    OutboxRow {
        worker: None,
        queue: VersionId(1),
        priority: -5,
        ready_at: Timestamp(7),
        key: TaskKey::new(ExecutionId(3), task),
    }
}

fn timer(task: u32) -> Timer {
    Timer::of_task(
        Timestamp(9),
        TimerKind::Retry,
        TaskKey::new(ExecutionId(3), task),
        0,
    )
}

fn changes(change: impl Fn(u32) -> bool, tasks: &[u32]) -> Effects {
    let mut effects = Effects::default();
    for &task in tasks {
        let (row, timer) = (outbox_row(task), timer(task));
        if change(task) {
            effects.outbox.push(Change::Add(row));
            effects.timers.push(Change::Add(timer));
        } else {
            effects.outbox.push(Change::Remove(row));
            effects.timers.push(Change::Remove(timer));
        }
    }
    effects
}

const OUTBOX: &str = "SELECT task FROM ~task_outbox ORDER BY task";
const TIMERS: &str = "SELECT task FROM ~timers ORDER BY task";

#[tokio::test]
async fn of_several_changes_of_a_key_the_last_counts() {
    let home = Home::new().await;
    let adds = |_| true;
    home.write(&changes(adds, &[1, 2])).await;
    let mut effects = changes(|task| task == 3, &[1, 3, 4]);
    // Row 1 goes and comes back, row 3 comes and goes, row 2 is there already.
    effects.outbox.extend([
        Change::Add(outbox_row(1)),
        Change::Remove(outbox_row(3)),
        Change::Add(outbox_row(2)),
    ]);
    home.write(&effects).await;
    assert_eq!(home.numbers(OUTBOX).await, [1, 2]);
    assert_eq!(home.numbers(TIMERS).await, [2, 3]);
}

#[tokio::test]
async fn rows_that_others_picked_are_left_to_them_and_own_ones_go() {
    let home = Home::new().await;
    home.write(&changes(|_| true, &[1, 2, 3])).await;
    let other = home.session().await;
    for (session, task) in [(&other, 1), (&home.session, 2)] {
        begin(session).await;
        for sql in [
            "SELECT 1 FROM ~task_outbox WHERE task = $1 FOR UPDATE SKIP LOCKED",
            "SELECT 1 FROM ~timers WHERE task = $1 FOR UPDATE SKIP LOCKED",
        ] {
            let picked = run(session, sql, vec![Param::Int(Some(task))]).await;
            assert_eq!(picked.len(), 1);
        }
    }
    write_on(
        &home.session,
        home.now(),
        &changes(|_| false, &[1, 2, 3, 4]),
    )
    .await;
    // Adding what somebody has picked does not wait for them either.
    write_on(&home.session, home.now(), &changes(|_| true, &[1])).await;
    commit(&home.session).await;
    commit(&other).await;
    assert_eq!(home.numbers(OUTBOX).await, [1]);
    assert_eq!(home.numbers(TIMERS).await, [1]);
}

#[tokio::test]
async fn the_end_of_an_attempt_replaces_the_last_but_for_its_error() {
    let home = Home::new().await;
    let id = home.start(&graph(&["a", "b"], &[])).await;
    let (a, b) = (TaskKey::new(id, 1), TaskKey::new(id, 2));
    let payload = |json: &str| Some(Payload::from_json(json));
    let mut changed = Changes::default();
    changed.set("x", 1.into());
    let first = TaskEnd {
        output: payload("1"),
        changes: Some(changed),
        checkpoint: payload("{}"),
        error: Some(Failure::new("flaky", "on purpose")),
    };
    let second = TaskEnd {
        output: payload("2"),
        ..TaskEnd::default()
    };
    let mut effects = Effects::default();
    effects.task_ends.extend([
        (a, first.clone()),
        (a, second),
        (a, TaskEnd::default()),
        (b, first),
    ]);
    effects
        .progress
        .extend([(b, "1".to_owned()), (b, "2".to_owned())]);
    home.write(&effects).await;
    let mut later = Effects::default();
    later.progress.push((a, "3".to_owned()));
    home.write(&later).await;
    let stored = home
        .rows("SELECT output, changes, checkpoint, error IS NULL, progress FROM ~task_executions ORDER BY number")
        .await;
    let text = |text: &str| super::super::statement::Value::Text(text.to_owned());
    use super::super::statement::Value::{Bool, Null};
    assert_eq!(stored[0], [text("2"), Null, Null, Bool(false), text("3")]);
    let set = text(r#"{"set":{"x":1}}"#);
    assert_eq!(
        stored[1],
        [text("1"), set, text("{}"), Bool(false), text("2")]
    );
}

#[tokio::test]
async fn a_signal_read_in_the_flush_that_sends_it_is_stored_as_read() {
    let home = Home::new().await;
    let signal = |number| SignalWrite {
        instance: "i".into(),
        execution: ExecutionId(3),
        name: "go".into(),
        number,
        payload: Payload::from_json("1"),
        actor: None,
        sent_at: Timestamp(1),
    };
    let read = |number| SignalRead {
        instance: "i".into(),
        name: "go".into(),
        number,
        by: Some((TaskKey::new(ExecutionId(3), 1), number as u32)),
    };
    let mut first = Effects::default();
    first.signals.extend([signal(1), signal(2)]);
    first.signals_read.push(read(1));
    home.write(&first).await;
    let sql = "SELECT coalesce(read_operation, 0) FROM ~signals ORDER BY number";
    assert_eq!(home.numbers(sql).await, [1, 0]);
    let mut second = Effects::default();
    second.signals.push(signal(3));
    second.signals_read.push(read(2));
    home.write(&second).await;
    assert_eq!(home.numbers(sql).await, [1, 2, 0]);
}

// ---- steps ----

/// One change of one of a few numbers of one of two tasks.
#[derive(Clone, Debug)]
enum Asked {
    Wait(u32, u32),
    Done(u32, u32),
    Answer(u32, u32),
    Withdraw(u32, u32),
    GiveBack(u32, u32),
    HandOver(u32, u32),
    Supersede(u32, u32, u32),
}

fn asked() -> impl Strategy<Value = Asked> {
    let (task, number) = (1..=2_u32, 1..=4_u32);
    prop_oneof![
        (task.clone(), number.clone()).prop_map(|(task, n)| Asked::Wait(task, n)),
        (task.clone(), number.clone()).prop_map(|(task, n)| Asked::Done(task, n)),
        (task.clone(), number.clone()).prop_map(|(task, n)| Asked::Answer(task, n)),
        (task.clone(), number.clone()).prop_map(|(task, n)| Asked::Withdraw(task, n)),
        (task.clone(), number.clone()).prop_map(|(task, n)| Asked::GiveBack(task, n)),
        (task.clone(), number.clone()).prop_map(|(task, n)| Asked::HandOver(task, n)),
        (task, number.clone(), number).prop_map(|(task, n, m)| Asked::Supersede(task, n, m)),
    ]
}

/// The changes that rules could ask for: nothing is written where something is, only waits are
/// answered.
fn sound(id: ExecutionId, asked: &[Asked]) -> Vec<StepChange> {
    let mut stored: std::collections::BTreeMap<(u32, u32), StepState> = Default::default();
    let mut changes = Vec::new();
    for (at, asked) in asked.iter().enumerate() {
        let step = |task, number, end: StepEnd, answers| {
            let order = match end {
                StepEnd::Waiting { .. } => 0,
                _ => at as u32 + 1,
            };
            let step_id = StepId {
                number,
                kind: StepKind::Signal,
                name: format!("step {at}"),
                fingerprint: Some(format!("print {at}")),
            };
            StepChange::Write(StepWrite {
                key: TaskKey::new(id, task),
                step: StepRecord {
                    id: step_id,
                    end,
                    order,
                },
                answers,
            })
        };
        let due_at = Some(Timestamp(at as i64));
        let done = || StepEnd::Done(Payload::from_json(at.to_string()));
        match *asked {
            Asked::Wait(task, n) if !stored.contains_key(&(task, n)) => {
                stored.insert((task, n), StepState::Waiting);
                changes.push(step(task, n, StepEnd::Waiting { due_at }, false));
            }
            Asked::Done(task, n) if !stored.contains_key(&(task, n)) => {
                let end = match at % 2 {
                    0 => done(),
                    _ => StepEnd::Failed(Failure::new("flaky", "on purpose")),
                };
                stored.insert((task, n), end.state());
                changes.push(step(task, n, end, false));
            }
            Asked::Answer(task, n) if stored.get(&(task, n)) == Some(&StepState::Waiting) => {
                stored.insert((task, n), StepState::Done);
                changes.push(step(task, n, done(), true));
            }
            Asked::Withdraw(task, n) => {
                let state = stored.get(&(task, n));
                if matches!(state, Some(StepState::Waiting | StepState::GivenBack)) {
                    stored.remove(&(task, n));
                }
                changes.push(StepChange::Withdraw(TaskKey::new(id, task), n));
            }
            Asked::GiveBack(task, n) if stored.get(&(task, n)) == Some(&StepState::Done) => {
                stored.insert((task, n), StepState::GivenBack);
                changes.push(StepChange::GiveBack(TaskKey::new(id, task), n));
            }
            Asked::HandOver(task, n) if stored.get(&(task, n)) == Some(&StepState::Done) => {
                let payload = Payload::from_json(format!("\"handed over {at}\""));
                changes.push(StepChange::HandOver(TaskKey::new(id, task), n, payload));
            }
            Asked::Supersede(task, failed, from) => {
                stored.retain(|at, _| at.0 != task || (at.1 != failed && at.1 < from));
                let supersede = Supersede { failed, from };
                changes.push(StepChange::Supersede(TaskKey::new(id, task), supersede));
            }
            _ => {}
        }
    }
    changes
}

fn steps(steps: &[StepChange]) -> Effects {
    Effects {
        steps: steps.to_vec(),
        ..Effects::default()
    }
}

const STEPS: &str = "SELECT task, number, kind, name, fingerprint, state, ordinal, due_at, result, recorded_at \
     FROM ~steps ORDER BY task, number";

#[test]
fn changes_of_steps_come_to_the_same_however_they_are_cut_into_flushes() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let home = runtime.block_on(Home::new());
    let cases = proptest::collection::vec(asked(), 1..40);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let same = |(asked, cut): (Vec<Asked>, usize)| {
        let changes = sound(ExecutionId(3), &asked);
        runtime.block_on(async {
            let mut stored = Vec::new();
            for length in [1, cut, asked.len()] {
                run(&home.session, "DELETE FROM ~steps", Vec::new()).await;
                for changes in changes.chunks(length) {
                    home.write(&steps(changes)).await;
                }
                stored.push(home.rows(STEPS).await);
            }
            prop_assert_eq!(&stored[0], &stored[1]);
            prop_assert_eq!(&stored[0], &stored[2]);
            Ok(())
        })
    };
    // A withdrawal that comes too late, and then the answer is given back.
    let late = [
        Asked::Wait(2, 1),
        Asked::Answer(2, 1),
        Asked::Withdraw(2, 1),
        Asked::GiveBack(2, 1),
    ];
    same((late.to_vec(), 2)).expect("the same");
    let outcome = runner.run(&(cases, 1..40_usize), same);
    outcome.expect("the same");
}

#[tokio::test]
async fn what_superseded_steps_read_is_unread_again() {
    let home = Home::new().await;
    let id = home.start(&graph(&["a"], &[])).await;
    let instance: Arc<str> = id.to_string().into();
    let key = TaskKey::new(id, 1);
    let mut effects = Effects::default();
    for number in 1..=4 {
        effects.signals.push(SignalWrite {
            instance: instance.clone(),
            execution: id,
            name: "go".into(),
            number,
            payload: Payload::from_json("1"),
            actor: None,
            sent_at: Timestamp(1),
        });
        effects.signals_read.push(SignalRead {
            instance: instance.clone(),
            name: "go".into(),
            number,
            by: Some((key, number as u32)),
        });
    }
    home.write(&effects).await;
    let supersede = Supersede { failed: 1, from: 3 };
    home.write(&steps(&[StepChange::Supersede(key, supersede)]))
        .await;
    let read = home
        .numbers("SELECT number FROM ~signals WHERE read_execution IS NOT NULL")
        .await;
    assert_eq!(read, [2]);
}
