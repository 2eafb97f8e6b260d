//! Graphs: what a task's end makes ready is run, in order, within the slots.

use std::time::Duration;

use abide::authoring::WorkflowSpec;
use abide::{
    Context, Engine, EngineError, GraphOf, Input, RunError, StoreError, TaskBuilder, TaskError,
    WorkflowBuilder, trigger,
};
use serde_json::{Value, json};

use crate::common::{Home, begin, function, history};

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
    let tasks = engine
        .store()
        .tasks(run.id(), 0, 10)
        .await
        .expect("three tasks");
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

/// `flow`, version 1: `first`, and these after it.
fn flow(after: &[&str]) -> WorkflowSpec {
    flow_of(
        TaskBuilder::new("first", async || Ok::<_, TaskError>(1)),
        after,
    )
}

fn flow_of(first: TaskBuilder, after: &[&str]) -> WorkflowSpec {
    let flow = WorkflowBuilder::new("flow").task(first);
    let add = |flow: WorkflowBuilder, id: &&str| {
        flow.task(TaskBuilder::new(*id, async || Ok::<_, TaskError>(2)).after("first"))
    };
    after.iter().fold(flow, add).build().expect("sound")
}

#[tokio::test]
async fn a_changed_graph_under_the_same_version_is_refused_at_start_up() {
    let home = Home::new();
    let client = home.engine().register_spec(flow(&["pay"])).connect().await;
    let client = client.expect("opens");
    let run = begin(&client, "flow").await;
    for (after, difference) in [
        (&["ship"][..], "task `ship` is new"),
        (&[], "task `pay` is gone"),
        (&["pay", "ship"], "task `ship` is new"),
    ] {
        let changed = || home.engine().register_spec(flow(after));
        let refused = changed().start().await.expect_err("another graph");
        let EngineError::Store(StoreError::OtherGraph { workflow, .. }) = &refused else {
            panic!("{refused}")
        };
        assert_eq!(workflow, "flow");
        let said = refused.to_string();
        for part in [
            "workflow `flow` version `1` is recorded in this store with another graph",
            difference,
            "another `version`",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        // Whoever only starts executions hears of it when one is started.
        let other = changed().connect().await.expect("opens");
        let refused = other.start_named("flow", "another", &()).await;
        assert_eq!(refused.expect_err("another graph").to_string(), said);
        let refused = other.start_named("flow", "flow", &()).await;
        assert_eq!(refused.expect_err("another graph").to_string(), said);
    }
    let function = function("flow", async || Ok::<_, TaskError>(()));
    let refused = home.engine().register_spec(function).start().await;
    let refused = refused.expect_err("another form").to_string();
    assert!(
        refused.contains("it is a function instead of a graph"),
        "{refused}"
    );
    // What was started goes on, beside the changed workflow under a version of its own.
    let engine = home.engine().register_spec(flow(&["pay"]));
    let mut second = flow(&["pay", "ship"]);
    second.version = "2".to_owned();
    let engine = engine.register_spec(second).start().await.expect("starts");
    run.result().await.expect("completes");
    let run = begin_another(&engine).await;
    run.result().await.expect("completes");
    let tasks = engine.store().tasks(run.id(), 0, 10).await.expect("reads");
    assert_eq!(tasks.len(), 3);
}

async fn begin_another(engine: &Engine) -> abide::Run<Value> {
    let started = engine.start_named("flow", "another", &()).await;
    started.expect("a durable start")
}

#[tokio::test]
async fn options_may_change_under_the_same_version() {
    let home = Home::new();
    let client = home
        .engine()
        .register_spec(flow(&["a", "b"]))
        .connect()
        .await;
    let run = begin(&client.expect("opens"), "flow").await;
    let first = TaskBuilder::new("first", async || Ok::<_, TaskError>(1));
    let first = first
        .retries(9)
        .priority(3)
        .timeout(Duration::from_secs(60));
    let engine = home.engine().register_spec(flow_of(first, &["b", "a"]));
    let engine = engine.start().await.expect("the same graph");
    run.result().await.expect("completes");
    begin_another(&engine)
        .await
        .result()
        .await
        .expect("completes");
}

#[tokio::test]
async fn of_two_processes_that_record_different_graphs_at_once_one_is_refused() {
    for _ in 0..8 {
        let home = Home::new();
        let open = async |after: &[&str]| {
            let engine = home.engine().register_spec(flow(after)).connect().await;
            engine.expect("opens")
        };
        let (one, other) = (open(&["pay"]).await, open(&["ship"]).await);
        let start = async |engine: &Engine, instance: &str| {
            engine.start_named("flow", instance, &()).await.map(drop)
        };
        let (one, other) = tokio::join!(start(&one, "one"), start(&other, "other"));
        assert_ne!(one.is_ok(), other.is_ok(), "{one:?} {other:?}");
    }
}
