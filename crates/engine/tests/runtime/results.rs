//! Starting and waiting for results, through every layer.

use crate::common::{Home, task_events};
use abide::{TaskError, workflow};

#[workflow]
async fn greeting(name: String) -> Result<String, TaskError> {
    Ok(format!("Hello, {name}!"))
}

#[tokio::test]
async fn a_started_workflow_runs_and_gives_its_result() {
    let home = Home::new();
    let engine = home
        .engine()
        .register::<greeting>()
        .start()
        .await
        .expect("starts");
    let run = engine
        .start::<greeting>("eva", &"Eva".to_owned())
        .await
        .expect("durable");
    assert!(run.is_new());
    assert_eq!(run.result().await.expect("completes"), "Hello, Eva!");
    assert_eq!(
        task_events(&engine, run.id(), 1).await,
        [
            "task.created",
            "task.marked_ready",
            "task.claimed",
            "task.started",
            "task.completed"
        ]
    );
    engine.shutdown().await;
}
