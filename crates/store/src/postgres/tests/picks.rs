//! What claims and firings pick.

use std::sync::Arc;

use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId};
use abide_core::kernel::{Change, Effects, OutboxRow};
use abide_core::timer::{Timer, TimerKind};
use rustc_hash::FxHashSet;
use tokio::sync::oneshot;

use crate::flush::Picked;
use crate::job::Job;
use crate::net::Net;

use super::super::connect::{BEGIN_READ, Session};
use super::super::low_water::LowWater;
use super::super::maintenance::register_worker;
use super::super::pick;
use super::super::statement::{Execute, Value};
use super::super::write;
use super::home::{Home, begin, commit, pages_of, roll_back, run, version};

const SECOND: i64 = 1_000_000;

fn row(home: &Home, queue: i64, priority: i16, ago: i64, task: u32) -> OutboxRow {
    OutboxRow {
        worker: None,
        queue: VersionId(queue),
        priority,
        ready_at: home.now().plus_us(-ago),
        key: TaskKey::new(ExecutionId(3), task),
    }
}

fn effects(change: impl Fn(OutboxRow) -> Change<OutboxRow>, rows: &[OutboxRow]) -> Effects {
    Effects {
        outbox: rows.iter().map(|row| change(*row)).collect(),
        ..Effects::default()
    }
}

fn claim(home: &Home, queues: &[i64], max: u32) -> Job {
    let queues: Vec<_> = queues.iter().map(|queue| VersionId(*queue)).collect();
    Job::Claim {
        worker: home.worker,
        queues: queues.into(),
        max,
        answer: oneshot::channel().0,
    }
}

async fn picked(
    home: &Home,
    session: &Session,
    low_water: &LowWater,
    job: &Job,
    locked_executions: &[ExecutionId],
) -> Picked {
    let locked: FxHashSet<ExecutionId> = locked_executions.iter().copied().collect();
    let statements = pick::statements(job, home.now(), low_water, &locked);
    let answers = session.run(statements).await.expect("runs");
    pick::picked(job, home.now(), low_water, answers.into_iter()).expect("reads")
}

async fn tasks(home: &Home, low_water: &LowWater, job: &Job) -> Vec<u32> {
    let picked = picked(home, &home.session, low_water, job, &[]).await;
    picked.ready.iter().map(|row| row.key.number).collect()
}

async fn with_worker() -> Home {
    let home = Home::new().await;
    let registered = register_worker(
        &home.session,
        None,
        home.worker,
        "host",
        1,
        SECOND,
        version(),
    )
    .await;
    registered.expect("registered");
    home
}

#[tokio::test]
async fn a_claim_picks_the_first_of_each_queue_with_marks_and_without() {
    let home = with_worker().await;
    let rows = [
        row(&home, 1, 0, 5, 3),
        row(&home, 1, 0, 9, 2),
        row(&home, 1, 7, 1, 1),
        row(&home, 1, -3, 50, 4),
        row(&home, 2, 0, 3, 5),
    ];
    home.write(&effects(Change::Add, &rows)).await;
    let low_water = LowWater::default();
    for _ in 0..3 {
        let job = claim(&home, &[2, 1], 3);
        assert_eq!(tasks(&home, &low_water, &job).await, [5, 1, 2, 3]);
        let job = claim(&home, &[1], 9);
        assert_eq!(tasks(&home, &low_water, &job).await, [1, 2, 3, 4]);
        let job = claim(&home, &[7], 9);
        assert!(tasks(&home, &low_water, &job).await.is_empty());
    }
    // A rank that nobody saw before.
    home.write(&effects(Change::Add, &[row(&home, 1, 3, 90, 6)]))
        .await;
    let job = claim(&home, &[1], 2);
    assert_eq!(tasks(&home, &low_water, &job).await, [1, 6]);
    run(
        &home.session,
        "UPDATE ~workers SET ended_at = 1",
        Vec::new(),
    )
    .await;
    assert!(tasks(&home, &low_water, &job).await.is_empty());
}

#[tokio::test]
async fn rows_that_others_pick_or_whose_execution_is_stuck_are_passed_over() {
    let home = with_worker().await;
    let mut rows: Vec<_> = (1..=4).map(|task| row(&home, 1, 0, 9, task)).collect();
    rows[1].key.execution = ExecutionId(2);
    home.write(&effects(Change::Add, &rows)).await;
    let other = home.session().await;
    begin(&other).await;
    let (low_water, job) = (LowWater::default(), claim(&home, &[1], 1));
    let first = picked(&home, &other, &low_water, &job, &[]).await;
    assert_eq!(first.ready[0].key.number, 2);
    assert_eq!(tasks(&home, &low_water, &job).await, [1]);
    let job = claim(&home, &[1], 9);
    let rest = picked(&home, &home.session, &low_water, &job, &[ExecutionId(3)]).await;
    assert!(rest.ready.is_empty());
    commit(&other).await;
}

#[tokio::test]
async fn a_scan_begins_past_what_is_dead_while_somebody_could_still_see_it() {
    let home = with_worker().await;
    let sleeper = sleeper_with_dead_rows(&home).await;
    let new: Vec<_> = (1..=5).map(|task| row(&home, 1, 0, 0, task)).collect();
    home.write(&effects(Change::Add, &new)).await;
    let (low_water, job) = (LowWater::default(), claim(&home, &[1], 3));
    let whole = pages(&home, &low_water, &job).await;
    assert_eq!(tasks(&home, &low_water, &job).await, [1, 2, 3]);
    let marked = pages(&home, &low_water, &job).await;
    assert!(whole > 200 && marked < 40, "{whole} and {marked} pages");
    roll_back(&sleeper).await;
}

#[tokio::test]
async fn a_row_goes_by_its_key_although_the_server_takes_the_queue_for_empty() {
    let home = with_worker().await;
    let sleeper = sleeper_with_dead_rows(&home).await;
    // Nothing of it lives, and nothing can be cleared away.
    run(&home.session, "VACUUM ~task_outbox", Vec::new()).await;
    let new: Vec<_> = (1..=5).map(|task| row(&home, 1, 0, 0, task)).collect();
    home.write(&effects(Change::Add, &new)).await;
    let removed = effects(Change::Remove, &new);
    let net = Net::of(home.now(), &[], &[], &removed).expect("sound");
    let removal = write::statements(&net);
    let [removal] = <[_; 1]>::try_from(removal).expect("one statement");
    let read = pages_of(&home, removal).await;
    assert!(read < 100, "{read} pages");
    let left = "SELECT count(*) FROM ~task_outbox";
    assert_eq!(home.numbers(left).await, [0]);
    roll_back(&sleeper).await;
}

/// A transaction that can see what is there now, for as long as a test takes.
async fn sleeper(home: &Home) -> Session {
    let sleeper = home.session().await;
    let for_good = "SET idle_in_transaction_session_timeout = 0";
    run(&sleeper, for_good, Vec::new()).await;
    run(&sleeper, BEGIN_READ, Vec::new()).await;
    run(&sleeper, "SELECT 1 FROM ~store", Vec::new()).await;
    sleeper
}

/// Rows of the outbox that are gone, and a transaction that could still see them.
async fn sleeper_with_dead_rows(home: &Home) -> Session {
    let sleeper = sleeper(home).await;
    let old: Vec<_> = (1..=20_000)
        .map(|task| row(home, 1, 0, 9 * SECOND, task))
        .collect();
    home.write(&effects(Change::Add, &old)).await;
    home.write(&effects(Change::Remove, &old)).await;
    sleeper
}

/// How many pages the pick of a claim looks at.
async fn pages(home: &Home, low_water: &LowWater, job: &Job) -> u64 {
    let ready = pick::statements(job, home.now(), low_water, &FxHashSet::default());
    pages_of(home, ready.into_iter().nth(1).expect("the second")).await
}

#[tokio::test]
async fn what_comes_to_lie_below_a_mark_is_found() {
    let home = with_worker().await;
    let low_water = LowWater::default();
    let job = claim(&home, &[1], 9);
    home.write(&effects(Change::Add, &[row(&home, 1, 0, 0, 1)]))
        .await;
    assert_eq!(tasks(&home, &low_water, &job).await, [1]);
    assert_eq!(
        low_water.sound(&home.session).await.expect("asked"),
        (false, None)
    );
    // Somebody else's transaction took its time.
    home.write(&effects(Change::Add, &[row(&home, 1, 0, 9 * SECOND, 2)]))
        .await;
    assert_eq!(tasks(&home, &low_water, &job).await, [1]);
    assert_eq!(
        low_water.sound(&home.session).await.expect("asked"),
        (true, None)
    );
    assert_eq!(tasks(&home, &low_water, &job).await, [2, 1]);
    // One's own needs no looking for.
    let own = effects(Change::Add, &[row(&home, 1, 0, 10 * SECOND, 3)]);
    low_water.added(&own);
    home.write(&own).await;
    assert_eq!(tasks(&home, &low_water, &job).await, [3, 2, 1]);
}

/// The tasks that the notices to the worker are about.
async fn notices(home: &Home, low_water: &LowWater, job: &Job) -> Vec<u32> {
    let picked = picked(home, &home.session, low_water, job, &[]).await;
    picked.inbox.iter().map(|row| row.key.number).collect()
}

#[tokio::test]
async fn an_inbox_is_read_past_what_is_dead_and_all_of_it() {
    let home = with_worker().await;
    let notice = |queue, priority, ago, task| OutboxRow {
        worker: Some(home.worker),
        ..row(&home, queue, priority, ago, task)
    };
    let sleeper = sleeper(&home).await;
    let old: Vec<_> = (1..=20_000)
        .map(|task| notice(1, 0, 9 * SECOND, task))
        .collect();
    home.write(&effects(Change::Add, &old)).await;
    home.write(&effects(Change::Remove, &old)).await;
    let new = [notice(1, 0, 0, 2), notice(1, 5, 0, 1), notice(2, 0, 0, 3)];
    home.write(&effects(Change::Add, &new)).await;
    // It is the whole inbox, whatever queues are claimed from.
    let (low_water, job) = (LowWater::default(), claim(&home, &[1], 1));
    let looked_at = async || {
        let inbox = pick::statements(&job, home.now(), &low_water, &FxHashSet::default());
        pages_of(&home, inbox.into_iter().next().expect("the first")).await
    };
    let whole = looked_at().await;
    assert_eq!(notices(&home, &low_water, &job).await, [1, 2, 3]);
    let marked = looked_at().await;
    assert!(whole > 200 && marked < 40, "{whole} and {marked} pages");
    // Of a queue and of ranks that had none before.
    let more = [notice(1, 3, 50, 4), notice(3, 0, 50, 5)];
    home.write(&effects(Change::Add, &more)).await;
    assert_eq!(notices(&home, &low_water, &job).await, [1, 4, 2, 3, 5]);
    // Below a mark: somebody else's transaction took its time.
    home.write(&effects(Change::Add, &[notice(2, 0, 8 * SECOND, 6)]))
        .await;
    assert_eq!(notices(&home, &low_water, &job).await, [1, 4, 2, 3, 5]);
    let sounded = low_water.sound(&home.session).await;
    assert_eq!(sounded.expect("asked"), (true, None));
    assert_eq!(notices(&home, &low_water, &job).await, [1, 4, 2, 6, 3, 5]);
    // One's own needs no looking for.
    let own = effects(Change::Add, &[notice(2, 0, 9 * SECOND, 7)]);
    low_water.added(&own);
    home.write(&own).await;
    assert_eq!(
        notices(&home, &low_water, &job).await,
        [1, 4, 2, 7, 6, 3, 5]
    );
    roll_back(&sleeper).await;
}

#[tokio::test]
async fn timers_are_picked_from_their_mark() {
    let home = Home::new().await;
    let timer = |ago: i64| {
        let due_at = Timestamp(home.now().0 - ago);
        Timer::of_execution(due_at, TimerKind::Start, ExecutionId(ago), 0)
    };
    let add = |timers: &[i64]| Effects {
        timers: timers.iter().map(|ago| Change::Add(timer(*ago))).collect(),
        ..Effects::default()
    };
    let low_water = Arc::new(LowWater::default());
    let job = Job::FireTimers {
        limit: 9,
        answer: oneshot::channel().0,
    };
    let due = async || {
        let picked = picked(&home, &home.session, &low_water, &job, &[]).await;
        picked
            .due
            .iter()
            .map(|timer| timer.execution.0)
            .collect::<Vec<_>>()
    };
    home.write(&add(&[SECOND, 2 * SECOND, -SECOND])).await;
    assert_eq!(due().await, [2 * SECOND, SECOND]);
    home.write(&add(&[3 * SECOND])).await;
    assert_eq!(due().await, [2 * SECOND, SECOND]);
    let (work, first) = low_water.sound(&home.session).await.expect("asked");
    assert_eq!((work, first), (false, Some(timer(3 * SECOND).due_at)));
    assert_eq!(due().await, [3 * SECOND, 2 * SECOND, SECOND]);
    let next = home
        .session
        .run(vec![pick::next_due(&low_water)])
        .await
        .expect("runs");
    assert_eq!(next[0], [[Value::Int(timer(3 * SECOND).due_at.0)]]);
}
