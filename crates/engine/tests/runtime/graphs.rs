//! Graphs: what a task's end makes ready is run, in order, within the slots.

use abide::{Context, GraphOf, Input, RunError, TaskBuilder, TaskError, WorkflowBuilder, trigger};
use serde_json::{Value, json};

use crate::common::{Home, begin, history};

/// The most tasks that were Active at a time.
fn most_active(events: &[abide::EventView]) -> usize {
    let (mut active, mut most) = (0, 0);
    for event in events {
        match event.kind {
            "task.started" => active += 1,
            "task.completed" | "task.failed" => active -= 1,
            _ => {}
        }
        most = most.max(active);
    }
    most
}

#[tokio::test]
async fn a_chain_runs_in_order_and_hands_its_context_on() {
    const LENGTH: usize = 40;
    let home = Home::new();
    let mut chain = WorkflowBuilder::new("chain");
    for number in 0..LENGTH {
        let link = TaskBuilder::new(
            format!("t{number}"),
            async |context: &mut Context<Value>| {
                let so_far: u32 = context.get("links")?.unwrap_or(0);
                context.insert("links", so_far + 1)?;
                Ok::<_, TaskError>(so_far + 1)
            },
        );
        chain = chain.task(match number {
            0 => link,
            _ => link.after(format!("t{}", number - 1)),
        });
    }
    let spec = chain
        .output(format!("t{}", LENGTH - 1))
        .build()
        .expect("a chain");
    let engine = home
        .engine()
        .max_concurrent_tasks(1)
        .register_spec(spec)
        .start()
        .await;
    let engine = engine.expect("starts");
    let before = engine.store().stats().commits;
    let run = begin(&engine, "chain").await;
    assert_eq!(run.result().await.expect("completes"), json!(LENGTH));
    // A link's end and the next one's claim are one transaction, but for a turn of the outbox.
    let commits = engine.store().stats().commits - before;
    assert!(commits < 2 * LENGTH as u64, "{commits} commits");
    assert_eq!(most_active(&history(&engine, run.id()).await), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fan_out_uses_every_slot_and_not_more() {
    const NODES: u32 = 100;
    let home = Home::new();
    let part = TaskBuilder::new("part", async |Input(number): Input<u32>| {
        tokio::task::yield_now().await;
        Ok::<_, TaskError>(number)
    });
    let spec = WorkflowBuilder::new("fan")
        .task(part)
        .build()
        .expect("a workflow");
    let engine = home
        .engine()
        .max_concurrent_tasks(3)
        .register_spec(spec.clone())
        .start()
        .await;
    let engine = engine.expect("starts");
    let mut graph = GraphOf::<()>::spec(&spec);
    for number in 0..NODES {
        graph = graph.add(format!("part:{number}"), "part", &number);
    }
    let run = engine
        .start_named("fan", "fan", &())
        .graph(graph)
        .await
        .expect("a durable start");
    run.result().await.expect("completes");
    let events = history(&engine, run.id()).await;
    assert_eq!(most_active(&events), 3);
    let completed = events
        .iter()
        .filter(|event| event.kind == "task.completed")
        .count();
    assert_eq!(completed, NODES as usize);
}

#[abide::workflow(output = total)]
mod sums {
    use abide::{Outputs, TaskError, task};

    #[task]
    pub(super) async fn square(number: u64) -> Result<u64, TaskError> {
        if number == 13 {
            return Err(TaskError::fatal(TaskError::new("unlucky", "thirteen")));
        }
        Ok(number * number)
    }

    #[task(trigger = any(success(square), failed(square)))]
    pub(super) async fn total(squares: Outputs<square>) -> Result<(u64, usize), TaskError> {
        Ok((squares.values().sum(), squares.others().count()))
    }
}

#[tokio::test]
async fn a_graph_built_at_run_time_gives_its_nodes_their_inputs_and_catches_failures() {
    let home = Home::new();
    let engine = home
        .engine()
        .register::<sums::Workflow>()
        .start()
        .await
        .expect("starts");
    let graph = |numbers: std::ops::Range<u64>| {
        numbers.fold(sums::graph(), |graph, number| {
            graph.node::<sums::square>(format!("square:{number}"), &number)
        })
    };
    let run = engine
        .start_graph("lucky", graph(0..10))
        .await
        .expect("a durable start");
    assert_eq!(run.result().await.expect("completes"), (285, 0));
    let again = engine
        .start_graph("lucky", graph(0..10))
        .await
        .expect("finds it");
    assert_eq!(again.id(), run.id());
    engine
        .start_graph("lucky", graph(0..11))
        .await
        .expect_err("another graph");
    let run = engine
        .start_graph("unlucky", graph(12..15))
        .await
        .expect("a durable start");
    assert_eq!(
        run.result().await.expect("the failure is caught"),
        (144 + 196, 1)
    );
}

#[tokio::test]
async fn a_failure_that_nothing_catches_skips_what_depends_on_it_and_names_its_node() {
    let home = Home::new();
    let fails = TaskBuilder::new("fails", async || {
        Err::<(), _>(TaskError::new("broken", "no"))
    });
    let never = TaskBuilder::new("never", async || Ok::<_, TaskError>(())).after("fails");
    let anyway = TaskBuilder::new("anyway", async || Ok::<_, TaskError>(()))
        .after("never")
        .trigger(trigger::skipped("never"));
    let spec = WorkflowBuilder::new("w")
        .task(fails)
        .task(never)
        .task(anyway)
        .build();
    let engine = home
        .engine()
        .register_spec(spec.expect("a workflow"))
        .start()
        .await;
    let engine = engine.expect("starts");
    let run = begin(&engine, "w").await;
    let error = run.result().await.expect_err("fails");
    let RunError::Failed { node, error } = error else {
        panic!("{error}")
    };
    assert_eq!((node.as_str(), error.kind()), ("fails", "broken"));
    let tasks = engine.tasks(run.id(), 0, 10).await.expect("three tasks");
    let statuses: Vec<_> = tasks.iter().map(|view| view.task.phase.as_str()).collect();
    assert_eq!(statuses, ["Failed", "Skipped", "Completed"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diamonds_context_does_not_depend_on_who_is_first() {
    let home = Home::new();
    let top = TaskBuilder::new("top", async |context: &mut Context<Value>| {
        context.insert("shared", 0)?;
        context.insert("kept", "as it was")
    });
    let left = TaskBuilder::new("left", async |context: &mut Context<Value>| {
        for _ in 0..7 {
            tokio::task::yield_now().await;
        }
        context.insert("left", true)?;
        context.insert("shared", 7)
    });
    let right = TaskBuilder::new("right", async |context: &mut Context<Value>| {
        context.insert("right", true)?;
        context.insert("shared", 3)
    });
    let bottom = TaskBuilder::new("bottom", async |context: &mut Context<Value>| {
        Ok::<_, TaskError>(
            context
                .iter()
                .map(|(key, value)| (key.to_owned(), value.clone()))
                .collect(),
        )
        .map(|map: serde_json::Map<String, Value>| map)
    })
    .after("left")
    .after("right");
    let spec = WorkflowBuilder::new("diamond")
        .task(top)
        .task(left.after("top"))
        .task(right.after("top"))
        .task(bottom)
        .output("bottom");
    let engine = home
        .engine()
        .register_spec(spec.build().expect("a diamond"))
        .start()
        .await;
    let engine = engine.expect("starts");
    let expected = json!({"shared": 3, "kept": "as it was", "left": true, "right": true});
    for number in 0..20 {
        let run = engine
            .start_named("diamond", &format!("d{number}"), &())
            .await;
        let result = run.expect("a durable start").result().await;
        assert_eq!(result.expect("completes"), expected);
    }
}
