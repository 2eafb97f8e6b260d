//! What a round of requests is given to work with.

use std::sync::Arc;

use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{
    Await, Claimed, IfExists, Need, Request, Signal, Subject, TaskSet, Working,
};
use abide_core::payload::Payload;
use abide_core::step::{Operation, StepId, StepKind};

use crate::error::StoreError;
use crate::graphs::GraphCache;

use super::super::load::{Plan, located, lock_free};
use super::super::low_water::LowWater;
use super::super::maintenance;
use super::super::statement::{Execute, Param, Row, Value};
use super::home::{
    Home, backend, begin, commit, completed, finish, graph, held, roll_back, run, version,
};

#[tokio::test]
async fn every_kind_of_need_is_read() {
    let home = Home::new().await;
    let (id, claimed) = one_that_waits(&home).await;
    home.flush(&vec![signal(id, "other"); 70]).await;
    let needs = needs_of_every_kind(&home, id).await;
    let session = &home.session;
    begin(session).await;
    let mut working = Working::new(home.now());
    let low_water = LowWater::default();
    let mut plan = Plan::new(&working, &home.graphs, &low_water, home.now(), &needs);
    let statements = plan.statements();
    // Twice two kinds of locks, and one statement for each of the other kinds but the graph, which
    // is known.
    assert_eq!(statements.len(), 2 + 10 + TaskSet::ALL.len());
    let answers = session.run(statements).await.expect("runs");
    let failed = plan.fill(answers, &mut working, &home.graphs);
    let failed = failed.expect("read");
    assert!(failed.is_empty(), "{failed:?}");
    for need in &needs {
        assert!(working.has(need), "{need:?}");
    }
    assert_eq!(working.mailbox_loaded_to(id, &"other".into()), 64);
    roll_back(session).await;
    // What was read serves the rules: the second task ends, the next flush finds the rest.
    home.flush(&[signal(id, "go"), finish(&claimed[1], completed("1"))])
        .await;
    let numbers = home
        .numbers("SELECT max(number) FROM ~signals WHERE name = 'other'")
        .await;
    assert_eq!(numbers, [70]);
}

#[test]
fn a_head_that_no_priority_has_is_the_trouble_of_those_who_look_at_its_queue() {
    let (graphs, low_water) = (GraphCache::default(), LowWater::default());
    let mut working = Working::new(Timestamp(1));
    let heads = |queues: &[i64]| Need::ReadyHead(queues.iter().copied().map(VersionId).collect());
    let needs = [heads(&[1, 2]), heads(&[2, 3])];
    let mut plan = Plan::new(&working, &graphs, &low_water, Timestamp(1), &needs);
    assert_eq!(plan.statements().len(), 1);
    let rows = vec![
        vec![Value::Int(1), Value::Int(100_000)],
        vec![Value::Int(2), Value::Int(5)],
    ];
    let failed = plan.fill(vec![rows], &mut working, &graphs).expect("read");
    assert_eq!(failed.len(), 1);
    let (need, error) = &failed[0];
    assert_eq!(*need, needs[0]);
    assert!(error.is_content(), "{error}");
    assert!(!working.has(&needs[0]));
    assert!(working.has(&needs[1]));
}

/// An execution whose first task waits for the signal `go`, with both of its claims.
async fn one_that_waits(home: &Home) -> (ExecutionId, Vec<Claimed>) {
    let id = home.start(&three_tasks()).await;
    let claimed = home.claim_all().await;
    assert_eq!(claimed.len(), 2);
    let (session, now) = (&home.session, Some(home.now()));
    let registered =
        maintenance::register_worker(session, now, home.worker, "host", 1, 1000, version()).await;
    registered.expect("registered");
    let wait = Operation {
        id: StepId {
            number: 1,
            kind: StepKind::Signal,
            name: "go".into(),
            fingerprint: None,
        },
        due_at: None,
    };
    let await_go = Request::Await(Await {
        held: held(&claimed[0]),
        given_back: Vec::new(),
        operations: vec![wait],
        next_order: 1,
        evict: false,
    });
    home.flush(&[await_go]).await;
    (id, claimed)
}

fn three_tasks() -> Arc<Graph> {
    graph(&["a", "b", "c"], &[("a", "c")])
}

/// A signal to the instance of an execution.
fn signal(id: ExecutionId, name: &str) -> Request {
    Request::Signal(Signal {
        instance: id.to_string().into(),
        name: name.into(),
        payload: Payload::from_json("7"),
        actor: None,
    })
}

/// Of what is there, and where there may be nothing of what is not.
async fn needs_of_every_kind(home: &Home, id: ExecutionId) -> Vec<Need> {
    let version = home.version(&three_tasks()).await;
    let instance: Arc<str> = id.to_string().into();
    let (a, b) = (TaskKey::new(id, 1), TaskKey::new(id, 2));
    let mut needs = vec![
        Need::Instance(instance.clone()),
        Need::Instance("nobody".into()),
        Need::Execution(id),
        Need::Execution(ExecutionId(7)),
        Need::Task(a),
        Need::Task(b),
        Need::Task(TaskKey::new(id, 9)),
        Need::Graph(id, version, false),
        Need::Context(id),
        Need::Waits(a),
        Need::Waits(b),
        Need::StepCount(a),
        Need::StepCount(b),
        Need::Step(a, 1),
        Need::Step(a, 2),
        Need::Mailbox(id, "other".into()),
        Need::SignalNumber(instance, "other".into()),
        Need::SignalWaiters(id, "go".into()),
        Need::Worker(home.worker),
        Need::Worker(WorkerId(7)),
        Need::ReadyHead([version].into()),
    ];
    needs.extend(TaskSet::ALL.iter().map(|&set| Need::Tasks(id, set)));
    needs
}

#[tokio::test]
async fn a_row_that_cannot_be_read_fails_only_who_needs_it() {
    let home = Home::new().await;
    let graph = graph(&["a"], &[]);
    let (good, bad) = (home.start(&graph).await, home.start(&graph).await);
    let spoil = "UPDATE ~task_executions SET status = 'Odd' WHERE execution = $1";
    run(&home.session, spoil, vec![Param::Int(Some(bad.0))]).await;
    let spoil = "UPDATE ~executions SET open = -1 WHERE id = $1";
    run(&home.session, spoil, vec![Param::Int(Some(bad.0))]).await;
    let instance: Arc<str> = bad.to_string().into();
    let needs = [
        Need::Execution(good),
        Need::Execution(bad),
        Need::Instance(instance.clone()),
        Need::Task(TaskKey::new(good, 1)),
        Need::Task(TaskKey::new(bad, 1)),
    ];
    let mut working = Working::new(home.now());
    let failed = home.load(&mut working, &needs).await.expect("read");
    let of: Vec<&Need> = failed.iter().map(|(need, _)| need).collect();
    assert_eq!(of, [&needs[2], &needs[1], &needs[4]]);
    assert!(working.has(&needs[0]) && working.has(&needs[3]));
    assert!(failed.iter().all(|(need, _)| !working.has(need)));
    let words: Vec<String> = failed.iter().map(|(_, error)| error.to_string()).collect();
    assert_eq!(
        words[2],
        format!(
            "task {bad}/1 cannot be read: `Odd` is no status of a task; `abide verify` says more"
        )
    );
    assert!(words[1].contains("-1 is out of range"), "{}", words[1]);
}

#[tokio::test]
async fn who_waited_for_a_generation_that_was_followed_by_another_runs_again() {
    let home = Home::new().await;
    let graph = graph(&["a"], &[]);
    let mut start = home.request(&graph).await;
    home.flush(&[Request::Start(Box::new(start.clone()))]).await;
    let [claimed] = home.claim_all().await.try_into().expect("one");
    home.flush(&[finish(&claimed, completed("1"))]).await;
    let other = home.session().await;
    // Somebody else holds the first generation, and begins the next.
    begin(&other).await;
    let hold = "SELECT 1 FROM ~executions FOR NO KEY UPDATE";
    assert_eq!(run(&other, hold, Vec::new()).await.len(), 1);
    start.id = ExecutionId(home.next_id());
    start.if_exists = IfExists::StartAnew;
    let needs = [Need::Instance(start.instance.clone())];
    let mut working = Working::new(home.now());
    let (loaded, ()) = tokio::join!(home.load(&mut working, &needs), async {
        waits_for_a_lock(&other).await;
        let next = "INSERT INTO ~executions SELECT $1, instance, 2, workflow_version, status, reason, stop_cause, \
             failed_task, open, failed, priority, start_at, deadline_at, grace_until, graph, input, input_hash, tags, version, created_at, \
             started_at, closed_at, changed_at, history_pruned_at FROM ~executions";
        run(&other, next, vec![Param::Int(Some(start.id.0))]).await;
        commit(&other).await;
    });
    let error = loaded.expect_err("raced");
    assert!(matches!(error, StoreError::Raced { .. }), "{error}");
    let mut working = Working::new(home.now());
    assert_eq!(
        home.load(&mut working, &needs).await.expect("read").len(),
        0
    );
    assert!(working.has(&Need::Execution(start.id)));
}

/// Waits until some session of the schema's database waits for a row.
async fn waits_for_a_lock(session: &super::super::connect::Session) {
    let sql = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
         AND $1 = ANY (pg_blocking_pids(pid)::bigint[])";
    let own = backend(session).await;
    while run(session, sql, vec![Param::Int(Some(own))])
        .await
        .is_empty()
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_locked_is_known_by_id_and_by_instance_without_waiting() {
    let home = Home::new().await;
    let graph = graph(&["a"], &[]);
    let (stuck, free) = (home.start(&graph).await, home.start(&graph).await);
    let by_name = home.rows("SELECT id, instance FROM ~executions ORDER BY id");
    let by_name = by_name.await;
    let by_id: Vec<Row> = [stuck, free]
        .map(|id| vec![Value::Int(id.0), Value::Null])
        .into();
    let other = home.session().await;
    begin(&other).await;
    let hold = "SELECT 1 FROM ~executions WHERE id = $1 FOR NO KEY UPDATE";
    run(&other, hold, vec![Param::Int(Some(stuck.0))]).await;
    for rows in [by_id, by_name] {
        let mut subjects = vec![
            Subject::Instance("nobody".into()),
            Subject::Execution(ExecutionId(1)),
        ];
        subjects.extend(rows.iter().map(|row| match &row[..] {
            [_, Value::Text(instance)] => Subject::Instance(instance.as_str().into()),
            [Value::Int(id), _] => Subject::Execution(ExecutionId(*id)),
            other => panic!("{other:?}"),
        }));
        let ask = vec![located(&subjects), lock_free(&subjects)];
        let answers = home.session.run(ask).await.expect("runs");
        assert_eq!(answers[0], rows);
        assert_eq!(answers[1], [[Value::Int(free.0)]]);
    }
    roll_back(&other).await;
}
