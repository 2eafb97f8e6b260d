//! What the tables don't allow is refused, or answered as done already, and nothing is written: every kind of
//! request, to a task in every phase and an execution in every status, all reached through the doors. What
//! is allowed from where is read off core's tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use abide_core::event::EventType;
use abide_core::execution::REASON_DEADLINE;
use abide_core::graph::{Graph, TaskSpec};
use abide_core::ids::{ExecutionId, TaskKey, VersionId, WorkerId};
use abide_core::kernel::{
    AddTasks, Cancel, Claim, Defer, Held, IfExists, Inbox, OutboxRow, Outcome, PIECE, Progress,
    Publish, Record, Recover, Request, Resume, Signal, Start,
};
use abide_core::payload::Payload;
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::status::{ExecutionStatus, Phase};
use abide_core::step::{StepEnd, StepKind, StepRecord};
use abide_core::table::{Built, EXECUTIONS, ExecutionMove, TASKS, TaskMove};
use abide_core::timer::{NEVER, Timer, TimerKind};
use rusqlite::types::Value;

use crate::home::{
    Dump, DumpedRow, Home, SECOND_US, await_operations, completed, failed, failed_once, finish,
    graph, held, signal, single, sleep, step_id,
};

// ---- situations ----

/// A task in an execution, and who held it last.
struct Subject {
    home: Home,
    held: Held,
    start: Start,
    phase: Option<Phase>,
    status: ExecutionStatus,
}

/// Every phase of a task, and every status of an execution, that the doors lead to today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Situation {
    Scheduled,
    Pending,
    Ready,
    ReadyAgain,
    RetryNotDue,
    Active,
    Polling,
    Waiting,
    Asleep,
    Evicted,
    NeedsOtherCode,
    Completed,
    Failed,
    Skipped,
    Abandoned,
    Cancelled,
    StoppingActive,
    StoppingDeferred,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionTimedOut,
    ExecutionCancelled,
    Unpublished,
}

use Situation as S;

const SITUATIONS: &[Situation] = &[
    S::Scheduled,
    S::Pending,
    S::Ready,
    S::ReadyAgain,
    S::RetryNotDue,
    S::Active,
    S::Polling,
    S::Waiting,
    S::Asleep,
    S::Evicted,
    S::NeedsOtherCode,
    S::Completed,
    S::Failed,
    S::Skipped,
    S::Abandoned,
    S::Cancelled,
    S::StoppingActive,
    S::StoppingDeferred,
    S::ExecutionCompleted,
    S::ExecutionFailed,
    S::ExecutionTimedOut,
    S::ExecutionCancelled,
    S::Unpublished,
];

/// `other` keeps the execution open; `first` comes before the subject, `last` after it.
fn subject_graph() -> Arc<Graph> {
    let subject = TaskSpec {
        retry: RetryPolicy {
            retries: 1,
            backoff: Backoff::Fixed {
                delay_us: SECOND_US,
            },
            ..RetryPolicy::default()
        },
        ..TaskSpec::new("subject")
    };
    let tasks = vec![
        TaskSpec::new("other"),
        TaskSpec::new("first"),
        subject,
        TaskSpec::new("last"),
    ];
    graph(tasks, &[("first", "subject"), ("subject", "last")])
}

const SUBJECT: u32 = 3;

impl Subject {
    async fn in_(situation: Situation) -> Subject {
        let home = Home::new().await;
        if situation == S::Unpublished {
            return Subject::unpublished(home).await;
        }
        let mut start = home.request(&subject_graph()).await;
        start.deadline_at = Some(home.now().plus_us(100 * SECOND_US));
        if situation == S::Scheduled {
            start.start_at = Some(home.now().plus_us(10 * SECOND_US));
        }
        let id = home.store.start(start.clone()).await.expect("starts").id;
        let mut subject = Subject {
            held: Held {
                key: TaskKey::new(id, SUBJECT),
                epoch: 1,
                worker: home.worker,
            },
            home,
            start,
            phase: None,
            status: ExecutionStatus::Pending,
        };
        subject.bring_to(situation).await;
        subject.home.advance(1000);
        let execution = subject.home.store.execution(id).await;
        subject.status = execution.expect("reads").expect("exists").execution.status;
        subject.phase = Some(subject.home.phase(id, subject.held.key.number).await);
        subject
    }

    /// A graph of many pieces, of which none but the execution is written.
    async fn unpublished(home: Home) -> Subject {
        let tasks = (0..=PIECE).map(|n| TaskSpec::new(format!("t{n}")));
        let start = home.request(&graph(tasks.collect(), &[])).await;
        home.apply(Request::Start(Box::new(start.clone()))).await;
        Subject {
            held: Held {
                key: TaskKey::new(start.id, SUBJECT),
                epoch: 1,
                worker: home.worker,
            },
            home,
            start,
            phase: None,
            status: ExecutionStatus::Pending,
        }
    }

    async fn bring_to(&mut self, situation: Situation) {
        let home = &self.home;
        let id = self.held.key.execution;
        match situation {
            S::Scheduled => return,
            S::Ready => {
                // A root is as ready as any; the execution is Pending still.
                self.held.key.number = 1;
                return;
            }
            S::ExecutionTimedOut => {
                home.advance(100 * SECOND_US);
                return home.fire_timers().await;
            }
            S::ExecutionCancelled => return home.cancel(id).await,
            _ => {}
        }
        let claimed = home.claim_all().await;
        let [other, first] = [1, 2].map(|number| {
            let found = claimed
                .iter()
                .find(|claimed| claimed.task.key.number == number);
            held(found.expect("both roots are ready"))
        });
        match situation {
            S::Pending => return,
            S::Skipped => drop(home.finish(first, failed()).await),
            _ => {
                home.finish(first, completed()).await;
                self.held = held(&home.claim().await);
            }
        }
        self.go_on(situation, other).await;
    }

    async fn go_on(&mut self, situation: Situation, other: Held) {
        let (home, held) = (&self.home, self.held);
        let due = home.now().plus_us(10 * SECOND_US);
        let waits = |operation, evict| await_operations(held, vec![operation], evict);
        match situation {
            S::Active | S::Skipped => {}
            S::ReadyAgain => {
                let reason = "shutdown".to_owned();
                home.finish(held, Outcome::Released { reason }).await;
            }
            S::RetryNotDue => drop(home.finish(held, failed_once()).await),
            S::Polling => drop(home.apply(defer(held)).await),
            S::Waiting => drop(home.apply(waits(signal(1, "go"), false)).await),
            S::Asleep => drop(home.apply(waits(sleep(1, due), false)).await),
            S::Evicted => drop(home.apply(waits(sleep(1, due), true)).await),
            S::NeedsOtherCode => {
                let difference = "another step".to_owned();
                home.finish(held, Outcome::Nondeterministic { difference })
                    .await;
            }
            S::Completed => drop(home.finish(held, completed()).await),
            S::Failed => drop(home.finish(held, failed()).await),
            S::Abandoned => drop(home.apply(recover(held, 0)).await),
            S::Cancelled => {
                home.cancel(held.key.execution).await;
                home.finish(held, Outcome::Cancelled).await;
            }
            S::StoppingActive => home.cancel(held.key.execution).await,
            S::StoppingDeferred => {
                home.apply(defer(held)).await;
                home.cancel(held.key.execution).await;
            }
            S::ExecutionCompleted | S::ExecutionFailed => {
                let outcome = match situation {
                    S::ExecutionCompleted => completed(),
                    _ => failed(),
                };
                home.finish(held, outcome).await;
                for claimed in home.claim_all().await {
                    home.finish(crate::home::held(&claimed), completed()).await;
                }
                home.finish(other, completed()).await;
            }
            _ => unreachable!("{situation:?} was reached before"),
        }
    }
}

fn defer(held: Held) -> Request {
    let wait = "a condition".to_owned();
    Request::Defer(Defer { held, wait })
}

fn recover(held: Held, crash_cap: u32) -> Request {
    Request::Recover(Recover {
        key: held.key,
        worker: held.worker,
        crash_cap,
        reason: "test".into(),
    })
}

// ---- requests ----

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ask {
    Claim,
    Complete,
    FailForGood,
    FailOnce,
    Release,
    StopByItself,
    Differ,
    Defer,
    Resume,
    Await,
    AwaitEvicted,
    Evict,
    Record,
    Progress,
    Recover,
    Inbox,
    Fire(TimerKind),
    Signal,
    Cancel,
    StartAgain,
    StartWithOtherInput,
    StartRejecting,
    StartAnew,
    Publish,
    AddTasks,
}

fn asks() -> Vec<Ask> {
    let mut asks = vec![
        Ask::Claim,
        Ask::Complete,
        Ask::FailForGood,
        Ask::FailOnce,
        Ask::Release,
        Ask::StopByItself,
        Ask::Differ,
        Ask::Defer,
        Ask::Resume,
        Ask::Await,
        Ask::AwaitEvicted,
        Ask::Evict,
        Ask::Record,
        Ask::Progress,
        Ask::Recover,
        Ask::Inbox,
        Ask::Signal,
        Ask::Cancel,
        Ask::StartAgain,
        Ask::StartWithOtherInput,
        Ask::StartRejecting,
        Ask::StartAnew,
        Ask::Publish,
        Ask::AddTasks,
    ];
    asks.extend(TimerKind::ALL.iter().map(|kind| Ask::Fire(*kind)));
    asks
}

impl Ask {
    /// The requests that only the task's holder may make.
    fn is_the_holders(self) -> bool {
        (Ask::Complete..=Ask::Progress).contains(&self)
    }

    fn is_result(self) -> bool {
        matches!(self, Ask::Complete | Ask::FailForGood | Ask::FailOnce)
    }

    async fn request(self, subject: &Subject, held: Held) -> Request {
        let home = &subject.home;
        match self {
            Ask::Claim => {
                let row = outbox_row(subject, held.key, None);
                let (key, worker) = (held.key, home.worker);
                Request::Claim(Claim { key, worker, row })
            }
            Ask::Complete => finish(held, completed()),
            Ask::FailForGood => finish(held, failed()),
            Ask::FailOnce => finish(held, failed_once()),
            Ask::Release => {
                let reason = "shutdown".to_owned();
                finish(held, Outcome::Released { reason })
            }
            Ask::StopByItself => finish(held, Outcome::Cancelled),
            Ask::Differ => {
                let difference = "another step".to_owned();
                finish(held, Outcome::Nondeterministic { difference })
            }
            Ask::Defer => defer(held),
            Ask::Resume => Request::Resume(Resume {
                held,
                always: true,
                next_order: 1,
            }),
            Ask::Await => await_operations(held, vec![signal(9, "never")], false),
            Ask::AwaitEvicted => await_operations(held, vec![signal(9, "never")], true),
            Ask::Evict => Request::Evict(held),
            Ask::Record => Request::Record(Record {
                held,
                steps: vec![StepRecord {
                    id: step_id(9, StepKind::Step, "charge"),
                    end: StepEnd::Done(Payload::from_json("1")),
                    order: 9,
                }],
            }),
            Ask::Progress => Request::Progress(Progress {
                held,
                value: r#"{"percent":50}"#.into(),
            }),
            Ask::Recover => recover(held, 3),
            Ask::Inbox => Request::Inbox(Inbox {
                row: outbox_row(subject, held.key, Some(held.worker)),
            }),
            Ask::Fire(kind) => Request::Fire(timer(subject, held.key, kind).await),
            Ask::Signal => Request::Signal(Signal {
                instance: subject.start.instance.clone(),
                name: "other".into(),
                payload: Payload::from_json("1"),
                actor: None,
            }),
            Ask::Cancel => Request::Cancel(Cancel {
                execution: held.key.execution,
                reason: "test".into(),
                grace_us: SECOND_US,
                actor: None,
            }),
            Ask::StartAgain => self.start(subject, IfExists::UseExisting, "input"),
            Ask::StartWithOtherInput => self.start(subject, IfExists::UseExisting, "other"),
            Ask::StartRejecting => self.start(subject, IfExists::Reject, "input"),
            Ask::StartAnew => self.start(subject, IfExists::StartAnew, "input"),
            Ask::Publish => Request::Publish(Publish {
                execution: held.key.execution,
                input_hash: "input".into(),
                if_exists: IfExists::UseExisting,
            }),
            Ask::AddTasks => Request::AddTasks(AddTasks {
                execution: held.key.execution,
                graph: subject.start.graph.clone(),
                first: 1,
                last: subject.start.graph.len(),
                node_inputs: Vec::new(),
            }),
        }
    }

    fn start(self, subject: &Subject, if_exists: IfExists, input_hash: &str) -> Request {
        Request::Start(Box::new(Start {
            id: ExecutionId(subject.home.next_id()),
            if_exists,
            input_hash: input_hash.into(),
            ..subject.start.clone()
        }))
    }
}

/// The row that a worker would have found, had there been one.
fn outbox_row(subject: &Subject, key: TaskKey, worker: Option<WorkerId>) -> OutboxRow {
    OutboxRow {
        worker,
        queue: VersionId(subject.start.workflow.0),
        priority: 0,
        ready_at: subject.home.now(),
        key,
    }
}

/// The timer of this kind as the store would have set it, as far as there is anything to set it by.
async fn timer(subject: &Subject, key: TaskKey, kind: TimerKind) -> Timer {
    let home = &subject.home;
    let task = home
        .store
        .task(key)
        .await
        .expect("reads")
        .map(|view| view.task);
    let now = home.now();
    let task_time = |time: Option<_>| time.unwrap_or(now);
    let of_task = |due, from| Timer::of_task(due, kind, key, from);
    let of_execution = |due| Timer::of_execution(due, kind, key.execution, 0);
    match kind {
        TimerKind::Start => of_execution(subject.start.start_at.unwrap_or(now)),
        TimerKind::Deadline => of_execution(subject.start.deadline_at.unwrap_or(now)),
        TimerKind::Cancel => of_execution(now),
        TimerKind::Retry => of_task(task_time(task.and_then(|task| task.ready_at)), 0),
        TimerKind::Wait => of_task(task_time(task.and_then(|task| task.wake_at)), 0),
        TimerKind::Code => of_task(NEVER, 0),
        TimerKind::Propagate => {
            let told = task.is_some_and(|task| task.phase.is_terminal());
            of_task(now, if told { 1 } else { 0 })
        }
    }
}

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
        Ask::Await | Ask::AwaitEvicted => held,
        // What is polled is known to the worker alone.
        Ask::Evict => task_may(TaskMove::Evict, phase) && situation != S::Polling,
        Ask::Record | Ask::Progress => held,
        Ask::Recover => task_may(TaskMove::Recover, phase),
        Ask::Inbox => false,
        Ask::Fire(TimerKind::Start) => situation == S::Scheduled,
        Ask::Fire(TimerKind::Deadline) | Ask::Cancel => {
            execution_may(ExecutionMove::RequestCancel, status)
        }
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
    for &situation in SITUATIONS {
        let mut subject = Subject::in_(situation).await;
        phases.extend(subject.phase);
        statuses.push(subject.status);
        for ask in asks() {
            for holder in holders(&subject, ask) {
                let expected = match holder == subject.held {
                    true => expect(situation, &subject, ask).await,
                    false => expect_of_another(&subject, ask),
                };
                let request = ask.request(&subject, holder).await;
                let mut before = subject.home.dump();
                if let Request::Fire(timer) = request {
                    without(&mut before, timer);
                }
                let answer = subject.home.store.apply(request).await;
                let found = compare(&before, &subject.home.dump());
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
                    subject = Subject::in_(situation).await;
                }
            }
        }
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
    let mut reached: Vec<_> = in_use.map(|row| row.to).collect();
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
/// that event. Such an event with anything else is a mistake.
fn only_a_late_result(before: &Dump, after: &Dump) -> Result<bool, String> {
    let events = &after["execution_events"][before["execution_events"].len()..];
    let late = Value::Integer(EventType::TaskLateResultDiscarded.code());
    let is_late = |event: &DumpedRow| column(event, "type") == &late;
    if !events.iter().any(is_late) {
        return Ok(false);
    }
    let tables = before
        .keys()
        .filter(|table| before[*table] != after[*table]);
    let tables: Vec<&str> = tables.map(String::as_str).collect();
    if events.len() != 1 || tables != ["execution_events", "sqlite_sequence", "task_executions"] {
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
        columns.extend(differing.map(|(before, _)| before.0.as_str()));
    }
    let credited = [
        "version",
        "changed_at",
        "queued_us",
        "active_us",
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
    let is_it = |row: &DumpedRow| {
        key.iter()
            .all(|(name, value)| column(row, name) == &Value::Integer(*value))
    };
    let timers = dump.get_mut("timers").expect("the table exists");
    timers.retain(|row| !is_it(row));
}

fn column<'a>(row: &'a DumpedRow, name: &str) -> &'a Value {
    let found = row.iter().find(|(column, _)| column == name);
    &found.expect("the column exists").1
}

#[tokio::test]
async fn what_nobody_started_can_be_asked_for_nothing() {
    let subject = Subject::in_(S::Active).await;
    let before = subject.home.dump();
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
            assert_eq!(subject.home.dump(), before, "{ask:?} to {key}: {answer:?}");
        }
    }
}

// ---- what the store says before it asks the rules ----

#[tokio::test]
async fn a_payload_that_the_store_would_take_for_a_reference_is_refused() {
    let home = Home::new().await;
    let mut start = home.request(&single()).await;
    start.input = Some(Payload::from_json("@1"));
    let error = home.store.start(start).await.expect_err("no JSON");
    assert_eq!(error.to_string(), "the input is not JSON");
}

#[tokio::test]
async fn words_that_cannot_be_stored_are_refused_by_name() {
    let home = Home::new().await;
    let execution = home.start(&single()).await;
    let before = home.dump();
    let cancel = |reason: String, actor: Option<&str>| Cancel {
        execution,
        reason,
        grace_us: SECOND_US,
        actor: actor.map(Into::into),
    };
    for (request, culprit) in [
        (cancel("why\0not".into(), None), "the reason"),
        (cancel("long ".repeat(1000), None), "the reason"),
        (cancel("fine".into(), Some("nobody\0")), "actor"),
    ] {
        let error = home.store.cancel(request).await.expect_err("refused");
        assert!(error.to_string().contains(culprit), "{error}");
    }
    assert_eq!(home.dump(), before);
}

#[tokio::test]
async fn nobody_gives_the_engines_reason_for_passed_deadlines() {
    let home = Home::new().await;
    let execution = home.start(&single()).await;
    home.claim().await;
    let cancel = Cancel {
        execution,
        reason: REASON_DEADLINE.into(),
        grace_us: 0,
        actor: None,
    };
    let error = home.store.cancel(cancel).await.expect_err("kept");
    assert!(error.to_string().contains(REASON_DEADLINE), "{error}");
    let view = home.store.execution(execution).await.expect("reads");
    let status = view.expect("exists").execution.status;
    assert_eq!(status, ExecutionStatus::Running);
}
