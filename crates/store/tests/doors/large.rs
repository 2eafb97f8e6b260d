//! Graphs too large for one transaction: written in pieces under an execution that nobody sees.

use std::sync::Arc;

use abide_core::graph::{Graph, GraphBuilder, TaskSpec};
use abide_core::ids::ExecutionId;
use abide_core::kernel::{AddTasks, IfExists, PIECE, Publish, Reply, Request, Start};
use abide_core::payload::Payload;
use abide_store::ExecutionFilter;

use crate::home::{Home, SECOND_US};
use crate::value::column;

const NODES: u32 = PIECE + 100;

fn wide() -> Arc<Graph> {
    let mut builder = GraphBuilder::new();
    builder.task(TaskSpec::new("part"));
    for number in 1..=NODES {
        builder.node(format!("part-{number}"), "part");
    }
    Arc::new(builder.build().expect("independent nodes"))
}

/// A start of its own graph with an input too long for its row, for this instance.
async fn request(home: &Home, instance: &str) -> Start {
    Start {
        own_graph: true,
        instance: instance.into(),
        input: Some(Payload::from_json(format!("\"{}\"", "x".repeat(5000)))),
        node_inputs: vec![(1, Payload::from_json(format!("\"{}\"", "y".repeat(5000))))],
        ..home.request(&wide()).await
    }
}

/// How many rows speak of this execution.
async fn rows_of(home: &Home, id: ExecutionId) -> usize {
    let dump = home.dump().await;
    let of = |table: &str, key: &str| {
        let rows = dump[table].iter();
        rows.filter(|row| column(row, key).integer() == id.0)
            .count()
    };
    of("executions", "id")
        + of("task_executions", "execution")
        + of("execution_events", "execution")
}

/// How many payloads are kept apart from their rows, on a backend that does.
async fn payloads(home: &Home) -> usize {
    home.dump().await.get("payloads").map_or(0, Vec::len)
}

/// Writes the beginning of a large start, as far as a process got that then died.
async fn begin(home: &Home, instance: &str) -> ExecutionId {
    let start = request(home, instance).await;
    let (id, graph, node_inputs) = (start.id, start.graph.clone(), start.node_inputs.clone());
    home.apply(Request::Start(Box::new(start))).await;
    let piece = AddTasks {
        execution: id,
        graph,
        first: 1,
        last: PIECE,
        node_inputs,
    };
    home.apply(Request::AddTasks(piece)).await;
    id
}

#[tokio::test]
async fn a_start_that_was_never_finished_is_seen_by_nobody_and_removed_in_time() {
    let home = Home::new().await;
    let before = payloads(&home).await;
    let id = begin(&home, "large").await;
    assert!(rows_of(&home, id).await > PIECE as usize);
    assert!(home.store.latest("large").await.expect("reads").is_none());
    assert!(home.store.execution(id).await.expect("reads").is_none());
    let listed = home
        .store
        .executions(&ExecutionFilter::default(), None, 10)
        .await;
    assert!(listed.expect("reads").is_empty());
    assert!(home.claim_all().await.is_empty());

    // Its process may still be at it.
    let summary = home.store.recover(3, home.worker).await.expect("recovers");
    assert_eq!(summary.removed, 0);
    home.advance(61 * SECOND_US);
    let summary = home.store.recover(3, home.worker).await.expect("recovers");
    assert_eq!(summary.removed, 1);
    assert_eq!(rows_of(&home, id).await, 0);
    // The graph of the workflow version stays.
    let versions = payloads(&home).await - before;
    assert!(versions <= 1, "{versions}");
}

#[tokio::test]
async fn of_two_large_starts_of_an_instance_one_is_left() {
    let home = Home::new().await;
    let second = begin(&home, "large").await;
    let first = home
        .store
        .start(request(&home, "large").await)
        .await
        .expect("starts");
    assert!(first.created);
    let graph = wide();
    let rest = AddTasks {
        execution: second,
        graph,
        first: PIECE + 1,
        last: NODES,
        node_inputs: Vec::new(),
    };
    home.apply(Request::AddTasks(rest)).await;

    // The slower one comes to its last piece: the execution is the other's.
    let publish = Publish {
        execution: second,
        input_hash: "input".into(),
        if_exists: IfExists::UseExisting,
    };
    let Reply::Started(published) = home.apply(Request::Publish(publish)).await else {
        panic!("another answer");
    };
    assert_eq!((published.created, published.id), (false, first.id));
    assert!(home.store.execution(second).await.expect("reads").is_none());

    // So it is if it asks again from the beginning.
    let again = home
        .store
        .start(request(&home, "large").await)
        .await
        .expect("starts");
    assert_eq!((again.created, again.id), (false, first.id));
    let claimed = home.claim_all().await;
    assert!(
        claimed
            .iter()
            .all(|claimed| claimed.task.key.execution == first.id)
    );
    let view = home
        .store
        .latest("large")
        .await
        .expect("reads")
        .expect("exists");
    assert_eq!(view.execution.open, NODES);
}
