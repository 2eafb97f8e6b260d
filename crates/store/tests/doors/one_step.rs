//! The whole way of a one-task workflow through the outbox, and what views show of it.

use std::sync::Arc;

use abide_core::graph::{Graph, GraphBuilder, TaskSpec};
use abide_core::ids::ExecutionId;
use abide_core::kernel::{Outcome, Start};
use abide_core::payload::Payload;
use abide_core::status::{ExecutionStatus, Phase};
use abide_store::EventFilter;

use super::home::{Home, held};

fn graph() -> Arc<Graph> {
    let mut builder = GraphBuilder::new();
    builder
        .task(TaskSpec::new("only"))
        .node("only", "only")
        .output("only");
    Arc::new(builder.build().expect("one node"))
}

#[tokio::test]
async fn a_task_goes_through_the_outbox_to_its_end() {
    let home = Home::new().await;
    let request = home.request(&graph()).await;
    let started = home.store.start(request.clone()).await.expect("starts");
    assert!(started.created);
    assert_eq!(started.status, ExecutionStatus::Pending);
    let again = Start {
        id: ExecutionId(home.next_id()),
        ..request
    };
    let again = home.store.start(again).await.expect("starts");
    assert_eq!((again.created, again.id), (false, started.id));

    let claimed = home.claim().await;
    assert_eq!(claimed.task.phase, Phase::Active);
    let mut end = home.store.watch_end(started.id);
    let output = Some(Payload::from_json("42"));
    let outcome = Outcome::Completed {
        output,
        changes: None,
        checkpoint: None,
    };
    assert!(home.finish(held(&claimed), outcome).await.recorded);
    end.ended().await;
    let end = home
        .store
        .end(started.id)
        .await
        .expect("reads")
        .expect("exists");
    assert_eq!(end.status, ExecutionStatus::Completed);
    assert_eq!(end.output.expect("has an output").as_str(), "42");

    let events = home
        .store
        .events(&EventFilter::default(), 0, 100)
        .await
        .expect("reads");
    let kinds: Vec<&str> = events.iter().map(|event| event.kind).collect();
    let expected = [
        "execution.created",
        "task.created",
        "task.marked_ready",
        "execution.started",
        "task.claimed",
        "task.started",
        "task.completed",
        "execution.completed",
    ];
    assert_eq!(kinds, expected);
    views_have_the_columns_of_the_documents(&home.sqlite(), started.id);
}

fn views_have_the_columns_of_the_documents(sqlite: &rusqlite::Connection, id: ExecutionId) {
    let row: (String, i64, String, String) = sqlite
        .query_row(
            "SELECT instance_id, execution_id, status, completed_at FROM execution_status WHERE id = ?1",
            [id.0],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .expect("one execution");
    assert_eq!(
        (row.0, row.1, row.2.as_str()),
        (id.to_string(), 1, "Completed")
    );
    assert!(
        row.3.ends_with('Z') && row.3.contains('T'),
        "{} is a time",
        row.3
    );

    let mut statement = sqlite
        .prepare(
            "SELECT event_type, task_execution_id IS NULL, sequence_num FROM execution_history \
             ORDER BY sequence_num",
        )
        .expect("the columns are there");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    let rows: Vec<(String, bool, i64)> = rows
        .expect("reads")
        .collect::<Result<_, _>>()
        .expect("reads");
    assert_eq!(rows[0], ("execution.created".to_owned(), true, 1));
    assert_eq!(rows[1], ("task.created".to_owned(), false, 2));
    assert_eq!(rows.len(), 8);

    let task: (String, String, Option<String>) = sqlite
        .query_row(
            "SELECT task_name, status, sub_status FROM task_status",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .expect("one task");
    assert_eq!(task, ("only".to_owned(), "Completed".to_owned(), None));
}
