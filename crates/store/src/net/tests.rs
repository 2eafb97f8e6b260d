use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{
    Change, Effects, OutboxRow, Row, StepChange, StepWrite, Supersede, TaskEnd,
};
use abide_core::payload::Payload;
use abide_core::step::{StepEnd, StepId, StepKind, StepRecord};
use abide_core::task::Task;
use abide_core::transition::Cause;

use super::*;

const NOW: Timestamp = Timestamp(7);

fn key(number: u32) -> TaskKey {
    TaskKey::new(ExecutionId(1), number)
}

fn outbox(task: u32) -> OutboxRow {
    OutboxRow {
        worker: None,
        queue: VersionId(1),
        priority: 0,
        ready_at: NOW,
        key: key(task),
    }
}

fn json(text: &str) -> Payload {
    Payload::from_json(text)
}

fn write(number: u32, name: &str, end: StepEnd, answers: bool) -> StepChange {
    let id = StepId {
        number,
        kind: StepKind::Signal,
        name: name.into(),
        fingerprint: None,
    };
    let order = if matches!(end, StepEnd::Waiting { .. }) {
        0
    } else {
        1
    };
    StepChange::Write(StepWrite {
        key: key(1),
        step: StepRecord { id, end, order },
        answers,
    })
}

fn wait(number: u32, due_at: i64) -> StepChange {
    let due_at = Some(Timestamp(due_at));
    write(number, "wait", StepEnd::Waiting { due_at }, false)
}

fn answer(number: u32, result: &str) -> StepChange {
    write(number, "answer", StepEnd::Done(json(result)), true)
}

/// What changes of steps come to, in words.
fn check(changes: &[StepChange], wanted: &[&str]) {
    let steps = Steps::of(NOW, changes).expect("sound");
    let mut found = Vec::new();
    for (_, Supersede { failed, from }) in &steps.superseded {
        found.push(format!("supersede {failed} and from {from}"));
    }
    for (_, number, result) in &steps.rewritten {
        let result = result.as_ref().map_or("none", Payload::as_str);
        found.push(format!("rewrite {number}: {result}"));
    }
    found.extend(
        steps
            .withdrawn
            .iter()
            .map(|(_, number)| format!("withdraw {number}")),
    );
    let rows = [("answer", &steps.answered), ("insert", &steps.inserted)];
    for (what, row) in rows
        .iter()
        .flat_map(|(what, rows)| rows.iter().map(move |row| (what, row)))
    {
        let StepEnding {
            state,
            due_at,
            result,
            ..
        } = &row.ending;
        let result = result.as_ref().map_or("none", Payload::as_str);
        let due_at = due_at.map_or(0, |due| due.0);
        let (number, name) = (row.id.number, &row.id.name);
        found.push(format!(
            "{what} {number} {name}: {state}, {result}, due {due_at}"
        ));
    }
    assert_eq!(found, wanted);
}

#[test]
fn the_last_change_of_a_row_of_a_queue_counts() {
    let [a, b, c] = [1, 2, 3].map(outbox);
    let net = ComeAndGo::of(&[
        Change::Add(a),
        Change::Remove(b),
        Change::Remove(a),
        Change::Add(b),
        Change::Add(c),
    ]);
    assert_eq!((net.removed, net.added), (vec![a], vec![b, c]));
}

#[test]
fn a_single_change_of_a_queue_is_taken_as_it_is() {
    let row = OutboxRow {
        worker: Some(WorkerId(3)),
        ..outbox(1)
    };
    assert_eq!(ComeAndGo::of(&[Change::Add(row)]).added, [row]);
    assert_eq!(ComeAndGo::of(&[Change::Remove(row)]).removed, [row]);
    assert_eq!(ComeAndGo::<OutboxRow>::of(&[]), ComeAndGo::default());
}

#[test]
fn a_wait_that_is_answered_at_once_is_inserted_as_it_ended() {
    check(
        &[wait(1, 90), answer(1, "5")],
        &["insert 1 wait: done, 5, due 90"],
    );
}

#[test]
fn a_stored_wait_is_answered() {
    check(&[answer(1, "5")], &["answer 1 answer: done, 5, due 0"]);
}

#[test]
fn a_wait_that_is_withdrawn_at_once_is_never_written() {
    check(&[wait(1, 90), StepChange::Withdraw(key(1), 1)], &[]);
}

#[test]
fn a_number_that_is_given_up_may_be_used_again() {
    check(
        &[StepChange::Withdraw(key(1), 1), wait(1, 30)],
        &["withdraw 1", "insert 1 wait: waiting, none, due 30"],
    );
}

#[test]
fn an_answer_is_not_withdrawn() {
    check(
        &[answer(1, "5"), StepChange::Withdraw(key(1), 1)],
        &["answer 1 answer: done, 5, due 0"],
    );
}

#[test]
fn an_answer_that_is_given_back_keeps_its_record() {
    check(
        &[answer(1, "5"), StepChange::GiveBack(key(1), 1)],
        &["answer 1 answer: given_back, none, due 0"],
    );
    check(
        &[
            StepChange::Withdraw(key(1), 2),
            StepChange::HandOver(key(1), 2, json("6")),
        ],
        &["rewrite 2: 6"],
    );
}

#[test]
fn what_is_superseded_is_not_written() {
    let supersede = Supersede { failed: 1, from: 3 };
    check(
        &[
            wait(1, 1),
            wait(2, 2),
            wait(3, 3),
            StepChange::Supersede(key(1), supersede),
            wait(3, 4),
        ],
        &[
            "supersede 1 and from 3",
            "insert 2 wait: waiting, none, due 2",
            "insert 3 wait: waiting, none, due 4",
        ],
    );
}

fn end(output: &str) -> TaskEnd {
    TaskEnd {
        output: Some(json(output)),
        ..TaskEnd::default()
    }
}

#[test]
fn a_row_that_moves_and_ends_is_written_once() {
    let cause = Cause::engine(NOW);
    let moved = |number| Row {
        value: Task::create(key(number), 0, &cause, &mut Vec::new()).expect("legal"),
        new: false,
        dirty: true,
    };
    let tasks = [moved(1), moved(2)];
    let effects = Effects {
        task_ends: vec![(key(1), end("1")), (key(1), end("2")), (key(3), end("3"))],
        progress: vec![(key(3), "half".into())],
        ..Effects::default()
    };
    let net = Net::of(NOW, &[], &tasks, &effects).expect("sound");
    let [(row, ended)] = &net.moved_and_ended[..] else {
        panic!("one row moves and ends")
    };
    assert_eq!((row.key, &ended.output), (key(1), &Some(json("2"))));
    assert_eq!(
        net.moved.iter().map(|row| row.key).collect::<Vec<_>>(),
        [key(2)]
    );
    let [(alone, ended)] = &net.ended[..] else {
        panic!("one only ends")
    };
    assert_eq!((*alone, ended.progress.as_deref()), (key(3), Some("half")));
}
