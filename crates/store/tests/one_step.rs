//! The whole way of a one-task workflow through the two doors.

use std::sync::Arc;

use abide_core::graph::{Graph, GraphBuilder, TaskSpec};
use abide_core::ids::{ExecutionId, IdGenerator, VersionId, WorkerId};
use abide_core::kernel::{Finish, Held, IfExists, Offer, Outcome, Reply, Request, Start};
use abide_core::payload::Payload;
use abide_core::status::{ExecutionStatus, Phase};
use abide_core::table::By;
use abide_store::{EventFilter, Store, StoreOptions, WorkerRow, WorkflowKind, system_now};

fn graph() -> Arc<Graph> {
    let mut builder = GraphBuilder::new();
    builder.task(TaskSpec {
        id: "only".into(),
        ..TaskSpec::default()
    });
    builder.node("only", "only");
    builder.output("only");
    Arc::new(builder.build().expect("one node"))
}

fn start(
    id: i64,
    instance: &str,
    workflow: VersionId,
    graph: &Arc<Graph>,
    offer: Option<Offer>,
) -> Start {
    Start {
        id: ExecutionId(id),
        instance: instance.into(),
        workflow,
        graph: graph.clone(),
        own_graph: false,
        input: Some(Payload::from_json("1")),
        node_inputs: Vec::new(),
        input_hash: "1".into(),
        if_exists: IfExists::UseExisting,
        priority: 0,
        start_at: None,
        deadline_at: None,
        tags: None,
        by: By::User,
        actor: None,
        offer,
    }
}

#[tokio::test]
async fn a_task_goes_through_the_outbox_to_its_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("store.db");
    let store = Store::open(path.to_str().expect("utf-8"), StoreOptions::default())
        .await
        .expect("opens");
    let graph = graph();
    let version = store
        .ensure_version("w", "1", WorkflowKind::Graph, graph.clone())
        .await
        .expect("recorded");
    let mut ids = IdGenerator::new(1);
    let worker = WorkerId(ids.next(system_now()));
    let lease_until = system_now().plus_us(10_000_000);
    let row = WorkerRow {
        id: worker,
        host: "h".into(),
        pid: 1,
        started_at: system_now(),
        lease_until,
    };
    store.register_worker(row).await.expect("registered");

    let id = ids.next(system_now());
    let started = store
        .start(start(id, "a", version, &graph, None))
        .await
        .expect("starts");
    assert!(started.created);
    assert_eq!(started.status, ExecutionStatus::Pending);
    let again = store
        .start(start(id + 1, "a", version, &graph, None))
        .await
        .expect("starts");
    assert!(!again.created);
    assert_eq!(again.id, started.id);

    let claims = store
        .claim(worker, Arc::new([version]), 10)
        .await
        .expect("claims");
    let [claimed] = claims.claimed.as_slice() else {
        panic!("one task is ready")
    };
    assert_eq!(claimed.task.phase, Phase::Active);
    let held = Held {
        key: claimed.task.key,
        epoch: claimed.task.epoch,
        worker,
    };
    let output = Some(Payload::from_json("42"));
    let outcome = Outcome::Completed {
        output,
        changes: None,
        checkpoint: None,
    };
    let finish = Finish {
        held,
        outcome,
        offer: None,
    };
    let mut end = store.watch_end(started.id);
    let Ok(Reply::Finished(finished)) = store.apply(Request::Finish(Box::new(finish))).await else {
        panic!("recorded")
    };
    assert!(finished.recorded);
    end.ended().await;
    let end = store.end(started.id).expect("reads").expect("exists");
    assert_eq!(end.status, ExecutionStatus::Completed);
    assert_eq!(end.output.expect("has an output").as_str(), "42");

    let events = store
        .events(&EventFilter::default(), 0, 100)
        .expect("reads");
    let kinds: Vec<&str> = events.iter().map(|event| event.kind).collect();
    assert_eq!(
        kinds,
        [
            "execution.created",
            "task.created",
            "task.marked_ready",
            "execution.started",
            "task.claimed",
            "task.started",
            "task.completed",
            "execution.completed"
        ]
    );
    store.close().await;
    views_have_the_columns_of_the_documents(&path);
}

fn views_have_the_columns_of_the_documents(path: &std::path::Path) {
    let connection = rusqlite::Connection::open(path).expect("opens");
    let row: (String, i64, String, String) = connection
        .query_row(
            "SELECT instance_id, execution_id, status, completed_at FROM execution_status",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .expect("one execution");
    assert_eq!(
        (row.0.as_str(), row.1, row.2.as_str()),
        ("a", 1, "Completed")
    );
    assert!(
        row.3.ends_with('Z') && row.3.contains('T'),
        "{} is a time",
        row.3
    );

    let mut statement = connection
        .prepare("SELECT event_type, task_execution_id IS NULL, sequence_num FROM execution_history ORDER BY sequence_num")
        .expect("the columns are there");
    let rows: Vec<(String, bool, i64)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .expect("reads")
        .collect::<Result<_, _>>()
        .expect("reads");
    assert_eq!(rows[0], ("execution.created".to_owned(), true, 1));
    assert_eq!(rows[1], ("task.created".to_owned(), false, 2));
    assert_eq!(rows.len(), 8);

    let task: (String, String, Option<String>) = connection
        .query_row(
            "SELECT task_name, status, sub_status FROM task_status",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .expect("one task");
    assert_eq!(task, ("only".to_owned(), "Completed".to_owned(), None));
}
