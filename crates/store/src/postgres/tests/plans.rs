//! That sets are found by indexes, whatever the tables' sizes: a plan that suits few rows must not
//! read a whole table once there are many.

use std::sync::Arc;

use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{
    Change, Effects, Need, OutboxRow, SignalRead, StepChange, StepWrite, Supersede, TaskEnd,
    TaskSet, Working,
};
use abide_core::payload::Payload;
use abide_core::step::{StepEnd, StepId, StepKind, StepRecord};
use abide_core::timer::{Timer, TimerKind};

use crate::activity::{BlockedOn, ExecutionSubStatus};
use crate::net::Net;
use crate::queries;
use crate::views::{EventFilter, ExecutionFilter};

use super::super::load::Plan;
use super::super::low_water::LowWater;
use super::super::statement::{Execute, Row, Statement};
use super::super::{maintenance, write};
use super::home::{Home, begin, pages_of, roll_back, run};

/// Executions in the filled tables, with ids from 1.
const EXECUTIONS: i64 = 20_000;

const FILL: &[&str] = &[
    "INSERT INTO ~workflow_versions VALUES (1, 'w', '1', 'graph', 'f', '{}', 0)",
    "INSERT INTO ~executions (id, instance, generation, workflow_version, status, open, failed, priority, input_hash, \
     version, created_at, closed_at, changed_at) SELECT i, 'i' || i, 1, 1, 'Running', 1, 0, 0, 'h', 1, i, \
     CASE WHEN i % 10 > 0 THEN i END, i FROM generate_series(1, 20000) i",
    "INSERT INTO ~task_executions (execution, number, node, status, attempt, epoch, crashes, crash_steps, worker, \
     waiting, unmet, version, created_at, changed_at, queued_us, active_us, deferred_us, retry_wait_us, closed_at) \
     SELECT i, k, 'n', 'Ready', 1, 0, 0, 0, CASE WHEN i % 1000 = 0 THEN i % 7 END, 0, 0, 1, i, i, 0, 0, 0, 0, \
     CASE WHEN i % 10 > 0 THEN i END FROM generate_series(1, 20000) i, generate_series(1, 3) k",
    "INSERT INTO ~task_outbox SELECT 0, 1 + i % 3, 0, i, i, 1 FROM generate_series(1, 20000) i",
    "INSERT INTO ~execution_events (execution, task, n, type, at, to_status) SELECT i, k, 1, 13, i, 'Pending' \
     FROM generate_series(1, 20000) i, generate_series(0, 3) k",
    "INSERT INTO ~steps SELECT i, 1, k, 'signal', 'go', NULL, CASE k WHEN 3 THEN 'waiting' ELSE 'done' END, \
     CASE k WHEN 3 THEN 0 ELSE k END, NULL, '1', 0 FROM generate_series(1, 20000) i, generate_series(1, 3) k",
    "INSERT INTO ~signals (instance, name, number, execution, payload, sent_at) SELECT 'i' || i, 'go', k, i, '1', 0 \
     FROM generate_series(1, 20000) i, generate_series(1, 2) k",
    "INSERT INTO ~timers SELECT i, 1, i, 0, 0 FROM generate_series(1, 20000) i",
];

const TABLES: [&str; 7] = [
    "ANALYZE ~executions",
    "ANALYZE ~task_executions",
    "ANALYZE ~task_outbox",
    "ANALYZE ~execution_events",
    "ANALYZE ~steps",
    "ANALYZE ~signals",
    "ANALYZE ~timers",
];

/// The rows that whole scans read in this transaction, with the tables' names.
const SCANNED: &str = "SELECT seq_tup_read, relname::text FROM pg_stat_xact_user_tables \
     WHERE schemaname = (SELECT nspname FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid \
     WHERE c.oid = (SELECT tableoid FROM ~store)) AND seq_tup_read > 0 AND relname NOT IN ('store', 'workers', 'workflow_versions')";

async fn filled() -> Home {
    let home = Home::new().await;
    let other = home.session().await;
    for sql in FILL.iter().chain(&TABLES) {
        run(&other, sql, Vec::new()).await;
    }
    home
}

/// Runs statements one by one and tells which of them read whole tables.
async fn scans(home: &Home, statements: Vec<Statement<'_>>) -> Vec<(String, Vec<Row>)> {
    let mut found = Vec::new();
    for statement in statements {
        let sql = statement.sql.to_string();
        begin(&home.session).await;
        home.session.run(vec![statement]).await.expect("runs");
        let scanned = home.rows(SCANNED).await;
        roll_back(&home.session).await;
        if !scanned.is_empty() {
            found.push((sql, scanned));
        }
    }
    found
}

/// Plans as they are once a statement has run a few times, and as they are for these very values.
async fn check(home: &Home, statements: Vec<Statement<'_>>) {
    assert!(!statements.is_empty());
    for mode in [
        "SET plan_cache_mode = force_generic_plan",
        "SET plan_cache_mode = force_custom_plan",
    ] {
        run(&home.session, mode, Vec::new()).await;
        assert_eq!(scans(home, statements.clone()).await, [], "{mode}");
    }
}

/// Ids that lie all over the tables.
fn ids(count: i64) -> Vec<ExecutionId> {
    let step = EXECUTIONS / count;
    (0..count).map(|at| ExecutionId(1 + at * step)).collect()
}

#[tokio::test]
async fn needs_are_found_by_indexes() {
    let home = filled().await;
    for count in [1, 100] {
        let mut needs = Vec::new();
        for id in ids(count) {
            let key = TaskKey::new(id, 1);
            let instance: Arc<str> = format!("i{}", id.0).into();
            let go: Arc<str> = "go".into();
            needs.extend([
                Need::Execution(id),
                Need::Instance(instance.clone()),
                Need::WorkflowName(VersionId(1)),
                Need::Task(key),
                Need::Graph(id, VersionId(1), true),
                Need::Context(id),
                Need::Waits(key),
                Need::StepCount(key),
                Need::Step(key, 2),
                Need::SignalRead(key, 2),
                Need::Mailbox(id, go.clone()),
                Need::SignalNumber(instance, go.clone()),
                Need::SignalWaiters(id, go),
                Need::Worker(WorkerId(1)),
                Need::ReadyHead([VersionId(1), VersionId(2)].into()),
            ]);
            needs.extend(TaskSet::ALL.iter().map(|&set| Need::Tasks(id, set)));
        }
        let working = Working::new(home.now());
        let mut plan = Plan::new(
            &working,
            &home.graphs,
            &LowWater::default(),
            home.now(),
            &needs,
        );
        check(&home, plan.statements()).await;
    }
}

/// Mailboxes of one instance, 20,000 signals in each: those that its first execution left unread, those that its
/// second one read, and three that the second one has yet to read.
const MAILBOXES: &[&str] = &[
    "INSERT INTO ~signals (instance, name, number, execution, payload, sent_at) \
     SELECT 'box', 'go', k, 90001, '1', 0 FROM generate_series(1, 20000) k",
    "INSERT INTO ~signals (instance, name, number, execution, payload, sent_at, read_execution, read_task, read_operation) \
     SELECT 'box', 'go', k, 90002, '1', 0, 90002, 1, k FROM generate_series(20001, 40000) k",
    "INSERT INTO ~signals (instance, name, number, execution, payload, sent_at) \
     SELECT 'box', 'go', k, 90002, '1', 0 FROM generate_series(40001, 40003) k",
    "ANALYZE ~signals",
];

#[tokio::test]
async fn what_is_next_in_a_mailbox_is_found_beside_what_others_left_and_what_was_read() {
    let home = filled().await;
    let other = home.session().await;
    for sql in MAILBOXES {
        run(&other, sql, Vec::new()).await;
    }
    let go: Arc<str> = "go".into();
    let needs = [
        Need::Mailbox(ExecutionId(90001), go.clone()),
        Need::Mailbox(ExecutionId(90002), go.clone()),
        Need::SignalNumber("box".into(), go),
    ];
    for mode in [
        "SET plan_cache_mode = force_generic_plan",
        "SET plan_cache_mode = force_custom_plan",
    ] {
        run(&home.session, mode, Vec::new()).await;
        for need in &needs {
            let working = Working::new(home.now());
            let need = std::slice::from_ref(need);
            let low_water = LowWater::default();
            let mut plan = Plan::new(&working, &home.graphs, &low_water, home.now(), need);
            let [statement] = plan.statements().try_into().expect("one statement");
            // A way down an index and a page or two of rows, of more than 200 pages of each kind.
            let pages = pages_of(&home, statement).await;
            assert!(pages <= 10, "{need:?} looks at {pages} pages, {mode}");
        }
    }
}

#[tokio::test]
async fn rows_that_change_are_found_by_indexes() {
    let home = filled().await;
    for count in [1, 100] {
        let mut effects = Effects::default();
        for id in ids(count) {
            let key = TaskKey::new(id, 1);
            effects.outbox.push(Change::Remove(OutboxRow {
                worker: None,
                queue: VersionId(1 + id.0 % 3),
                priority: 0,
                ready_at: Timestamp(id.0),
                key,
            }));
            let due_at = Timestamp(id.0);
            let timer = Timer::of_execution(due_at, TimerKind::Start, id, 0);
            effects.timers.push(Change::Remove(timer));
            effects.task_ends.push((key, end()));
            effects.signals_read.push(SignalRead {
                instance: format!("i{}", id.0).into(),
                name: "go".into(),
                number: 1,
                by: Some((key, 1)),
            });
            let supersede = Supersede { failed: 1, from: 2 };
            effects.steps.extend([
                StepChange::Write(answer(key)),
                StepChange::Withdraw(TaskKey::new(id, 2), 3),
                StepChange::GiveBack(TaskKey::new(id, 2), 4),
                StepChange::HandOver(TaskKey::new(id, 2), 5, Payload::from_json("2")),
                StepChange::Supersede(TaskKey::new(id, 2), supersede),
            ]);
        }
        let net = Net::of(home.now(), &[], &[], &effects).expect("sound");
        check(&home, write::statements(&net)).await;
        moves(&home, count).await;
    }
}

/// The rows of executions and tasks.
async fn moves(home: &Home, count: i64) {
    let (mut executions, mut tasks) = (Vec::new(), Vec::new());
    for id in ids(count) {
        let reader = home.reader();
        let view = reader
            .one(queries::execution(id, Timestamp(0)))
            .await
            .expect("reads")
            .expect("exists");
        executions.push(changed(view.execution));
        let views = reader.all(queries::tasks(id, 1, 1)).await.expect("reads");
        tasks.extend(views.into_iter().map(|view| changed(view.task)));
    }
    let mut effects = Effects::default();
    let net = Net::of(home.now(), &executions, &tasks, &effects).expect("sound");
    check(home, write::statements(&net)).await;
    effects
        .task_ends
        .extend(tasks.iter().map(|row| (row.value.key, end())));
    let net = Net::of(home.now(), &[], &tasks, &effects).expect("sound");
    check(home, write::statements(&net)).await;
}

fn changed<T>(value: T) -> abide_core::kernel::Row<T> {
    abide_core::kernel::Row {
        value,
        new: false,
        dirty: true,
    }
}

fn end() -> TaskEnd {
    TaskEnd {
        output: Some(Payload::from_json("1")),
        ..TaskEnd::default()
    }
}

fn answer(key: TaskKey) -> StepWrite {
    StepWrite {
        key,
        step: StepRecord {
            id: StepId {
                number: 3,
                kind: StepKind::Signal,
                name: "go".into(),
                fingerprint: None,
            },
            end: StepEnd::Done(Payload::from_json("1")),
            order: 3,
        },
        answers: true,
    }
}

/// The rows of executions and tasks that were read lately, however.
const READ: &str = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables \
     WHERE relid IN (SELECT oid FROM pg_class WHERE relname IN ('executions', 'task_executions') AND relnamespace = \
     (SELECT relnamespace FROM pg_class WHERE oid = (SELECT tableoid FROM ~store))) ORDER BY 1";

#[tokio::test]
async fn a_look_at_the_others_reads_nothing_of_what_is_open() {
    let home = filled().await;
    run(
        &home.session,
        "INSERT INTO ~workers VALUES (3, 'host', 7, 0, 0, 0)",
        Vec::new(),
    )
    .await;
    for mode in [
        "SET plan_cache_mode = force_generic_plan",
        "SET plan_cache_mode = force_custom_plan",
    ] {
        run(&home.session, mode, Vec::new()).await;
        begin(&home.session).await;
        let before = home.numbers(READ).await;
        let look = maintenance::look(&home.session, None, home.now()).await;
        assert_eq!(look.expect("asked").expired, [WorkerId(3)]);
        assert_eq!(home.numbers(READ).await, before, "{mode}");
        // That what is read is counted.
        let left = maintenance::left_behind(&home.session).await;
        left.expect("asked");
        assert_ne!(home.numbers(READ).await, before);
        roll_back(&home.session).await;
    }
}

#[tokio::test]
async fn a_whole_scan_is_noticed() {
    let home = filled().await;
    let scan = Statement::new("SELECT count(*) FROM ~steps WHERE name = 'x'", Vec::new());
    assert_eq!(scans(&home, vec![scan]).await.len(), 1);
}

/// What autovacuum does by and by for the index of positions.
const SUMMARIZE: &str = "SELECT brin_summarize_new_values(c.oid) FROM pg_class c JOIN pg_am a ON a.oid = c.relam \
     WHERE a.amname = 'brin' AND c.relkind = 'i' AND c.relnamespace = (SELECT relnamespace FROM pg_class \
     WHERE oid = (SELECT tableoid FROM ~store))";

#[tokio::test]
async fn queries_are_answered_from_indexes() {
    let home = filled().await;
    // On another connection: what it reads counts too.
    run(&home.session().await, SUMMARIZE, Vec::new()).await;
    for mode in [
        "SET plan_cache_mode = force_generic_plan",
        "SET plan_cache_mode = force_custom_plan",
    ] {
        run(&home.session, mode, Vec::new()).await;
        begin(&home.session).await;
        let reader = home.reader();
        let id = ExecutionId(5001);
        reader
            .one(queries::execution(id, Timestamp(0)))
            .await
            .expect("reads")
            .expect("exists");
        reader
            .one(queries::latest("i5001", Timestamp(0)))
            .await
            .expect("reads")
            .expect("exists");
        let any = ExecutionFilter::default();
        let page = reader
            .executions(&any, Some(id), 10, Timestamp(0))
            .await
            .expect("reads");
        assert_eq!(page.len(), 10);
        let waiting = ExecutionFilter {
            sub_statuses: vec![ExecutionSubStatus::Deferred, ExecutionSubStatus::Scheduled],
            blocked_on: vec![BlockedOn::Signal],
            ..ExecutionFilter::default()
        };
        let page = reader.executions(&waiting, None, 10, home.now()).await;
        page.expect("reads");
        reader.all(queries::tasks(id, 0, 10)).await.expect("reads");
        reader
            .all(queries::steps(TaskKey::new(id, 1)))
            .await
            .expect("reads");
        reader.held_by(WorkerId(3)).await.expect("reads");
        reader.notices_for(WorkerId(3)).await.expect("reads");
        reader.summary(id, home.now()).await.expect("reads");
        let all = EventFilter::default();
        let of_one = EventFilter {
            execution: Some(id),
            ..EventFilter::default()
        };
        for filter in [&all, &of_one] {
            reader.events(filter, 10, 5).await.expect("reads");
            let (_, cursor) = reader.feed(None, filter, 5).await.expect("reads");
            reader.feed(Some(&cursor), filter, 5).await.expect("reads");
        }
        reader.last_position().await.expect("reads");
        maintenance::active_of(&home.session, WorkerId(3))
            .await
            .expect("asked");
        maintenance::left_behind(&home.session)
            .await
            .expect("asked");
        maintenance::look(&home.session, None, home.now())
            .await
            .expect("asked");
        home.reader()
            .all(queries::waiting_for_code())
            .await
            .expect("asked");
        assert_eq!(home.rows(SCANNED).await, Vec::<Row>::new(), "{mode}");
        roll_back(&home.session).await;
    }
}
