//! The whole way of a one-task workflow through the outbox, and what views show of it.

use std::sync::Arc;

use abide_core::graph::{Graph, GraphBuilder, TaskSpec};
use abide_core::ids::ExecutionId;
use abide_core::kernel::{Outcome, Start};
use abide_core::payload::Payload;
use abide_core::status::{ExecutionStatus, Phase};
use abide_store::EventFilter;

use crate::home::{Home, held};
use crate::value::{Row, Value, column};

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
    end.ended().await.expect("the file is there");
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
    views_have_columns_for_people(&home, started.id).await;
}

async fn views_have_columns_for_people(home: &Home, id: ExecutionId) {
    let views = home.database.rows(&[
        "SELECT id, instance_id, execution_id, status, completed_at FROM execution_status",
        "SELECT event_type, task_execution_id IS NULL AS of_execution, sequence_num FROM execution_history \
         ORDER BY sequence_num",
        "SELECT task_name, status, sub_status FROM task_status",
    ]);
    let [executions, history, tasks] = views.await.try_into().expect("three answers");

    let [row] = &executions[..] else {
        panic!("one execution: {executions:?}");
    };
    assert_eq!(column(row, "id").integer(), id.0);
    assert_eq!(column(row, "instance_id").text(), id.to_string());
    assert_eq!(column(row, "execution_id").integer(), 1);
    assert_eq!(column(row, "status").text(), "Completed");
    let ended = column(row, "completed_at").text();
    assert!(
        ended.ends_with('Z') && ended.contains('T'),
        "{ended} is a time"
    );

    let row = |kind: &str, of_execution, number| -> Row {
        vec![
            ("event_type".into(), Value::Text(kind.into())),
            ("of_execution".into(), Value::Integer(of_execution)),
            ("sequence_num".into(), Value::Integer(number)),
        ]
    };
    assert_eq!(history[0], row("execution.created", 1, 1));
    assert_eq!(history[1], row("task.created", 0, 2));
    assert_eq!(history.len(), 8);

    let task: Row = vec![
        ("task_name".into(), Value::Text("only".into())),
        ("status".into(), Value::Text("Completed".into())),
        ("sub_status".into(), Value::Null),
    ];
    assert_eq!(tasks, [task]);
}
