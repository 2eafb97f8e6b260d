//! Workers, versions, leftovers, statistics.

use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{AddTasks, Change, Effects, OutboxRow, PIECE, Request};

use crate::queries;
use crate::views::WorkflowKind;

use super::super::connect::Session;
use super::super::health::health;
use super::super::maintenance::{
    declare_dead, end_worker, ensure_version, heartbeat, left_behind, left_by, look,
    register_worker, remove_unpublished,
};
use super::super::statement::Param;
use super::home::{Home, backend, begin, commit, graph, run, version};

/// No worker has ended since.
const NOBODY: Timestamp = Timestamp(i64::MAX);

#[tokio::test]
async fn a_lease_lasts_by_the_databases_clock_and_ends_once() {
    let home = Home::new().await;
    let (session, other) = (&home.session, home.session().await);
    let (short, long) = (WorkerId(1), WorkerId(2));
    let began = register_worker(session, None, short, "host", 7, 0, version())
        .await
        .expect("asked")
        .expect("registered");
    assert!(began.since_us(home.now()) < 600_000_000, "a time of today");
    register_worker(session, None, long, "host", 7, 3_600_000_000, version())
        .await
        .expect("registered");
    let renewed = heartbeat(session, None, short, 0, version())
        .await
        .expect("asked");
    assert!(renewed.expect("alive") >= began);
    assert_eq!(
        home.reader()
            .all(queries::workers())
            .await
            .expect("reads")
            .len(),
        2
    );
    assert_eq!(expired(session, None).await, [short]);
    assert!(!look(session, None, began).await.expect("asked").ended);
    assert!(
        !declare_dead(session, None, long, version())
            .await
            .expect("asked")
    );
    let (one, two) = tokio::join!(
        declare_dead(session, None, short, version()),
        declare_dead(&other, None, short, version())
    );
    assert!(one.expect("asked") != two.expect("asked"), "one of two");
    assert_eq!(
        heartbeat(session, None, short, 1000, version())
            .await
            .expect("asked"),
        None
    );
    assert_eq!(expired(session, None).await, []);
    let since = look(session, None, began).await.expect("asked");
    assert!(since.ended && since.at >= began);
    let later = look(session, None, since.at).await.expect("asked");
    assert!(!later.ended, "nobody has ended since");
}

async fn expired(session: &Session, now: Option<Timestamp>) -> Vec<WorkerId> {
    let looked = look(session, now, NOBODY).await.expect("asked");
    assert!(!looked.ended && now.is_none_or(|now| looked.at == now));
    looked.expired
}

#[tokio::test]
async fn a_store_with_a_time_of_its_own_counts_leases_by_it() {
    let home = Home::new().await;
    let (session, id) = (&home.session, WorkerId(1));
    register_worker(session, Some(home.now()), id, "host", 7, 1000, version())
        .await
        .expect("registered");
    home.advance(1000);
    assert_eq!(expired(session, Some(home.now())).await, []);
    home.advance(1);
    assert_eq!(expired(session, Some(home.now())).await, [id]);
    let renewed = heartbeat(session, Some(home.now()), id, 1000, version())
        .await
        .expect("asked");
    assert_eq!(renewed, Some(home.now()));
    assert!(
        !declare_dead(session, Some(home.now()), id, version())
            .await
            .expect("asked")
    );
}

#[tokio::test]
async fn what_a_worker_leaves_is_found_and_its_inbox_goes_with_it() {
    let home = Home::new().await;
    let (session, id) = (&home.session, home.worker);
    register_worker(session, None, id, "host", 7, 3_600_000_000, version())
        .await
        .expect("registered");
    let execution = home.start(&graph(&["a", "b", "c"], &[])).await;
    assert_eq!(home.claim_all().await.len(), 3);
    let mut effects = Effects::default();
    for worker in [Some(id), None] {
        effects.outbox.push(Change::Add(OutboxRow {
            worker,
            queue: VersionId(1),
            priority: 0,
            ready_at: home.now(),
            key: TaskKey::new(execution, 1),
        }));
    }
    home.write(&effects).await;
    assert_eq!(left_behind(session).await.expect("asked"), []);
    end_worker(session, None, id).await.expect("ended");
    assert_eq!(home.numbers("SELECT worker FROM ~task_outbox").await, [0]);
    assert_eq!(left_behind(session).await.expect("asked"), [id]);
    let task = |number| TaskKey::new(execution, number);
    for (after, left) in [(0, vec![task(1), task(2)]), (2, vec![task(3)])] {
        let found = left_by(session, id, task(after), 2).await;
        assert_eq!(found.expect("asked"), left);
    }
}

#[tokio::test]
async fn two_that_record_a_version_at_once_get_the_same_id() {
    let home = Home::new().await;
    let other = home.session().await;
    let graph = graph(&["a"], &[]);
    let kind = WorkflowKind::Graph;
    let waiting = backend(&other).await;
    begin(&home.session).await;
    let first = ensure_version(&home.session, home.now(), "w", "1", kind, &graph).await;
    begin(&other).await;
    let second = tokio::join!(
        ensure_version(&other, home.now(), "w", "1", kind, &graph),
        async {
            waits_for(&home, waiting).await;
            commit(&home.session).await;
        }
    );
    let first = first.expect("recorded");
    assert_eq!(second.0.expect("recorded"), first);
    let again = ensure_version(&other, home.now(), "w", "1", kind, &graph).await;
    assert_eq!(again.expect("recorded"), first);
    commit(&other).await;
}

/// Waits until that backend waits for somebody.
async fn waits_for(home: &Home, backend: i64) {
    let sql = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'";
    while run(&home.session, sql, vec![Param::Int(Some(backend))])
        .await
        .is_empty()
    {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_unfinished_start_goes_in_pieces() {
    let home = Home::new().await;
    let names: Vec<String> = (0..=PIECE).map(|n| format!("t{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let graph = graph(&names, &[]);
    let id = home.start(&graph).await;
    home.flush(&[Request::AddTasks(AddTasks {
        execution: id,
        graph,
        first: 1,
        last: PIECE,
        node_inputs: Vec::new(),
    })])
    .await;
    let session = &home.session;
    let open = async || {
        let looked = look(session, Some(home.now()), NOBODY).await;
        looked.expect("asked").unpublished
    };
    assert_eq!(open().await, []);
    home.advance(61_000_000);
    assert_eq!(open().await, [id]);
    let mut pieces = 0;
    while !remove_unpublished(session, id, 1000)
        .await
        .expect("removed")
    {
        pieces += 1;
    }
    assert_eq!(pieces, PIECE.div_ceil(1000));
    for table in [
        "SELECT count(*) FROM ~executions",
        "SELECT count(*) FROM ~task_executions",
        "SELECT count(*) FROM ~execution_events",
    ] {
        assert_eq!(home.numbers(table).await, [0]);
    }
    let unknown = remove_unpublished(session, ExecutionId(7), 1000).await;
    assert!(unknown.expect("asked"));
}

#[tokio::test]
async fn statistics_name_the_queue_and_the_tables() {
    let home = Home::new().await;
    home.start(&graph(&["a", "b"], &[])).await;
    let stats = health(&home.session).await.expect("asked");
    assert_eq!(stats.ready.len(), 1);
    assert_eq!(
        (stats.ready[0].tasks, stats.ready[0].oldest_at),
        (2, Some(home.now()))
    );
    let names: Vec<&str> = stats
        .tables
        .iter()
        .map(|table| table.name.as_str())
        .collect();
    assert!(
        names.contains(&"task_outbox") && names.contains(&"execution_events"),
        "{names:?}"
    );
    assert!(
        !names
            .iter()
            .any(|name| name.starts_with("execution_events_")),
        "{names:?}"
    );
}
