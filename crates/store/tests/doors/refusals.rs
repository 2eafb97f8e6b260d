//! What the tables don't allow is refused, or answered as done already, and nothing is written: every kind of
//! request, to a task in every phase and an execution in every status, all reached through the doors. What
//! is allowed from where is read off core's tables.

use std::collections::BTreeMap;

use abide_core::event::EventType;
use abide_core::ids::{ExecutionId, TaskKey, WorkerId};
use abide_core::kernel::{Held, Request};
use abide_core::status::{ExecutionStatus, Phase};
use abide_core::table::{Built, EXECUTIONS, ExecutionMove, TASKS, TaskMove};
use abide_core::timer::{Timer, TimerKind};

use crate::asks::{Ask, asks};
use crate::home::Home;
use crate::situations::{SITUATIONS, Situation, Situation as S, Subject};
use crate::value::{Dump, Row, Value, column};

// ---- what the tables say ----

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Change,
    /// Nothing but the record that a late result was discarded.
    Late,
    Nothing,
}

fn task_may(name: TaskMove, from: Option<Phase>) -> bool {
    from.is_some()
        && TASKS
            .iter()
            .any(|row| row.name == name && row.built == Built::Now && row.from.contains(&from))
}

fn execution_may(name: ExecutionMove, from: ExecutionStatus) -> bool {
    EXECUTIONS
        .iter()
        .any(|row| row.name == name && row.built == Built::Now && row.from.contains(&Some(from)))
}

async fn expect(situation: Situation, subject: &Subject, ask: Ask) -> Expect {
    let (phase, status) = (subject.phase, subject.status);
    let held = phase.is_some_and(Phase::is_held);
    let stopping = status == ExecutionStatus::Cancelling;
    let published = situation != S::Unpublished;
    if ask.is_result() && !held && phase.is_some() {
        // The very claim that ended the task may ask again.
        let task = subject
            .home
            .store
            .task(subject.held.key)
            .await
            .expect("reads");
        let task = task.expect("exists").task;
        let asked_again = task.phase.is_terminal() && task.epoch == subject.held.epoch;
        return if asked_again {
            Expect::Nothing
        } else {
            Expect::Late
        };
    }
    let outcome = |name| task_may(if stopping { TaskMove::Cancel } else { name }, phase);
    let changes = match ask {
        Ask::Claim => {
            task_may(TaskMove::Claim, phase)
                && situation != S::RetryNotDue
                && (status == ExecutionStatus::Running
                    || execution_may(ExecutionMove::Start, status))
        }
        Ask::Complete => outcome(TaskMove::Complete),
        Ask::FailForGood => outcome(TaskMove::Fail),
        Ask::FailOnce => outcome(TaskMove::Retry),
        Ask::Release => held && outcome(TaskMove::Release),
        Ask::StopByItself => held && outcome(TaskMove::Fail),
        Ask::Differ => {
            held && (stopping
                || task_may(TaskMove::Defer, phase)
                || task_may(TaskMove::Evict, phase))
        }
        Ask::Defer => task_may(TaskMove::Defer, phase) && !stopping,
        Ask::Resume => task_may(TaskMove::Resume, phase),
        // A wait is recorded.
        Ask::Await | Ask::AwaitEvicted | Ask::Watch => held,
        // What is polled is known to the worker alone.
        Ask::Evict => task_may(TaskMove::Evict, phase) && situation != S::Polling,
        Ask::Record | Ask::Progress => held,
        Ask::Recover => task_may(TaskMove::Recover, phase),
        Ask::Inbox => false,
        Ask::Fire(TimerKind::Start) => situation == S::Scheduled,
        Ask::Fire(TimerKind::Deadline) | Ask::Cancel => {
            execution_may(ExecutionMove::RequestCancel, status)
        }
        Ask::SetPriority => execution_may(ExecutionMove::SetPriority, status),
        // Only the row in the outbox is missing then.
        Ask::Fire(TimerKind::Retry) => situation == S::RetryNotDue,
        Ask::Fire(TimerKind::Wait) => situation == S::Evicted,
        Ask::Fire(TimerKind::Code) => situation == S::NeedsOtherCode,
        Ask::Fire(TimerKind::Propagate) => false,
        // Whoever still runs is told once more.
        Ask::Fire(TimerKind::Cancel) => stopping,
        Ask::Signal => published && !status.is_terminal(),
        Ask::StartAgain | Ask::StartWithOtherInput | Ask::StartRejecting => !published,
        Ask::StartAnew => status.is_terminal() || !published,
        // Not before its tasks are written.
        Ask::Publish => false,
        Ask::AddTasks => !published,
    };
    if changes {
        Expect::Change
    } else {
        Expect::Nothing
    }
}

// ---- the proof ----

#[tokio::test]
async fn what_the_tables_do_not_allow_writes_nothing() {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut phases = Vec::new();
    let mut statuses = Vec::new();
    let mut home = Home::new().await;
    for &situation in SITUATIONS {
        let mut subject = Subject::in_(home, situation).await;
        phases.extend(subject.phase);
        statuses.push(subject.status);
        for ask in asks() {
            for at in 0..holders(&subject, ask).len() {
                // The subject may be another one than a moment ago.
                let holder = holders(&subject, ask)[at];
                let expected = match holder == subject.held {
                    true => expect(situation, &subject, ask).await,
                    false => expect_of_another(&subject, ask),
                };
                let request = ask.request(&subject, holder).await;
                let mut before = subject.home.dump().await;
                if let Request::Fire(timer) = request {
                    without(&mut before, timer);
                }
                let answer = subject.home.store.apply(request).await;
                let found = compare(&before, &subject.home.dump().await);
                let name = match expected {
                    Expect::Change => "allowed",
                    Expect::Late => "late results",
                    Expect::Nothing => "not allowed",
                };
                *counts.entry(name).or_default() += 1;
                if found.as_ref() != Ok(&expected) {
                    wrong.push(format!(
                        "{ask:?} to {situation:?} ({:?}, {:?}), expected {expected:?}, found {found:?}; answer: {answer:?}",
                        subject.phase, subject.status
                    ));
                }
                if found != Ok(Expect::Nothing) {
                    subject.home.database.remove_executions().await;
                    subject = Subject::in_(subject.home, situation).await;
                }
            }
        }
        home = subject.home;
        home.database.remove_executions().await;
    }
    println!("{counts:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    phases.sort();
    phases.dedup();
    statuses.sort();
    statuses.dedup();
    assert_eq!(phases, Phase::ALL, "every phase was asked");
    // Pause and continue-as-new are not in use yet.
    let in_use = EXECUTIONS.iter().filter(|row| row.built == Built::Now);
    let mut reached: Vec<_> = in_use.flat_map(|row| row.to).copied().collect();
    reached.sort();
    reached.dedup();
    assert_eq!(statuses, reached, "every status that is in use was asked");
}

/// Whom a request names: the holder; also one with an older claim and another worker, where that matters.
fn holders(subject: &Subject, ask: Ask) -> Vec<Held> {
    let held = subject.held;
    let mut holders = vec![held];
    if subject.phase.is_some_and(Phase::is_held) && ask.is_the_holders() {
        let epoch = held.epoch - 1;
        let worker = WorkerId(held.worker.0 + 1);
        holders.push(Held { epoch, ..held });
        holders.push(Held { worker, ..held });
    }
    holders
}

fn expect_of_another(subject: &Subject, ask: Ask) -> Expect {
    match ask.is_result() && subject.phase.is_some() {
        true => Expect::Late,
        false => Expect::Nothing,
    }
}

/// What differs, or why it is none of what may.
fn compare(before: &Dump, after: &Dump) -> Result<Expect, String> {
    if before == after {
        return Ok(Expect::Nothing);
    }
    match only_a_late_result(before, after) {
        Ok(true) => Ok(Expect::Late),
        Ok(false) => Ok(Expect::Change),
        Err(what) => Err(what),
    }
}

/// Whether all that was written is one event that says so, and in its task's row the number and time of
/// that event, and one crash less if the task has not ended. Such an event with anything else is a mistake.
fn only_a_late_result(before: &Dump, after: &Dump) -> Result<bool, String> {
    let events = &after["execution_events"][before["execution_events"].len()..];
    let late = Value::Integer(EventType::TaskLateResultDiscarded.code());
    let is_late = |event: &Row| column(event, "type") == &late;
    if !events.iter().any(is_late) {
        return Ok(false);
    }
    let tables = before
        .keys()
        .filter(|table| before[*table] != after[*table]);
    let tables: Vec<&str> = tables.map(String::as_str).collect();
    if events.len() != 1 || tables != ["execution_events", "task_executions"] {
        return Err(format!("besides the late result: {tables:?}, {events:?}"));
    }
    let mut columns = Vec::new();
    for (before, after) in before["task_executions"]
        .iter()
        .zip(&after["task_executions"])
    {
        let differing = before
            .iter()
            .zip(after)
            .filter(|(before, after)| before != after);
        let forgiven = |before: &Row, after: &Row| {
            let crashes = |row: &Row| column(row, "crashes").integer();
            crashes(after) == crashes(before) - 1 && column(after, "closed_at") == &Value::Null
        };
        let is_forgiven = forgiven(before, after);
        columns.extend(
            differing
                .map(|(before, _)| before.0.as_str())
                .filter(|name| !(is_forgiven && *name == "crashes")),
        );
    }
    let credited = [
        "version",
        "changed_at",
        "queued_us",
        "active_us",
        "attempt_active_us",
        "deferred_us",
        "retry_wait_us",
    ];
    match columns.iter().find(|column| !credited.contains(column)) {
        None => Ok(true),
        Some(column) => Err(format!("a late result changed {column}")),
    }
}

/// A timer that fires is gone, whether or not there was something to do.
fn without(dump: &mut Dump, timer: Timer) {
    let key = [
        ("due_at", timer.due_at.0),
        ("kind", timer.kind.code()),
        ("execution", timer.execution.0),
        ("task", timer.task.into()),
        ("piece", timer.from.into()),
    ];
    let is_it = |row: &Row| {
        key.iter()
            .all(|(name, value)| column(row, name) == &Value::Integer(*value))
    };
    let timers = dump.get_mut("timers").expect("the table exists");
    timers.retain(|row| !is_it(row));
}

#[tokio::test]
async fn what_nobody_started_can_be_asked_for_nothing() {
    let subject = Subject::in_(Home::new().await, S::Active).await;
    let before = subject.home.dump().await;
    for key in [
        TaskKey::new(ExecutionId(1), 1),
        TaskKey::new(subject.held.key.execution, 99),
    ] {
        for ask in asks() {
            let of_instance = [
                Ask::Signal,
                Ask::StartAgain,
                Ask::StartWithOtherInput,
                Ask::StartRejecting,
                Ask::StartAnew,
            ];
            let of_execution = [
                Ask::Cancel,
                Ask::SetPriority,
                Ask::Fire(TimerKind::Deadline),
                Ask::Fire(TimerKind::Start),
                Ask::Fire(TimerKind::Cancel),
            ];
            let known = key.execution == subject.held.key.execution;
            if of_instance.contains(&ask) || (known && of_execution.contains(&ask)) {
                continue;
            }
            let held = Held {
                key,
                ..subject.held
            };
            let answer = subject
                .home
                .store
                .apply(ask.request(&subject, held).await)
                .await;
            assert_eq!(
                subject.home.dump().await,
                before,
                "{ask:?} to {key}: {answer:?}"
            );
        }
    }
}
