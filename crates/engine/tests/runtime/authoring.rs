//! What a task gets when it really runs, and what it leaves behind: every kind of parameter,
//! every way to fail, through the engine and its store.

use std::collections::BTreeMap;
use std::io;

use abide::{
    Context, Ending, Input, Output, Outputs, RunError, State, TaskBuilder, TaskError, TaskHandle,
    WorkflowBuilder, task, trigger, workflow,
};
use abide_store::{Store, StoreOptions, VerifyOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::common::Home;

struct Factor {
    by: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Summary {
    sum: u32,
    by_node: BTreeMap<String, u32>,
    missing: Vec<String>,
    skipped: bool,
    trail: Vec<String>,
    node: String,
}

#[workflow(output = summary)]
mod numbers {
    #[task]
    pub(crate) async fn scale(
        Input(n): Input<u32>,
        factor: State<Factor>,
    ) -> Result<u32, Negative> {
        match n {
            13 => Err(Negative { n }),
            n => Ok(n * factor.by),
        }
    }

    #[task(trigger = context("go") == true)]
    pub(crate) async fn never() -> Result<u32, TaskError> {
        Ok(1)
    }

    #[task]
    pub(crate) async fn left(context: &mut Context<Value>) -> Result<(), TaskError> {
        context.insert("trail", ["left"])
    }

    #[task(dependencies = [left])]
    pub(crate) async fn right(
        context: &mut Context<Value>,
        handle: &TaskHandle,
    ) -> Result<(), TaskError> {
        let node = handle.node_id().to_owned();
        context.update("trail", |trail: Option<Vec<String>>| {
            trail.into_iter().flatten().chain([node]).collect()
        })
    }

    #[task(
        dependencies = [right],
        trigger = all(success(right), skipped(never), any(success(scale), failed(scale)))
    )]
    pub(crate) async fn summary(
        context: &mut Context<Value>,
        scaled: Outputs<scale>,
        never: Option<Output<never>>,
        handle: TaskHandle,
    ) -> Result<Summary, TaskError> {
        Ok(Summary {
            sum: scaled.values().sum(),
            missing: scaled
                .others()
                .map(|(node, ending)| format!("{node} {ending}"))
                .collect(),
            by_node: scaled.into_iter().collect(),
            skipped: never.is_none(),
            trail: context.require("trail")?,
            node: handle.node_id().to_owned(),
        })
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Negative {
    n: u32,
}

impl std::fmt::Display for Negative {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is unlucky", self.n)
    }
}

impl std::error::Error for Negative {}

#[tokio::test]
async fn every_parameter_arrives_in_a_graph_built_at_run_time() {
    let home = Home::new();
    let engine = home
        .engine()
        .state(Factor { by: 10 })
        .register::<numbers::Workflow>()
        .start()
        .await
        .expect("starts");
    let graph = numbers::graph()
        .node::<numbers::scale>("two", &2)
        .node::<numbers::scale>("unlucky", &13)
        .node::<numbers::scale>("one", &1);
    let run = engine.start_graph("a", graph).await.expect("is started");
    let summary = run.result().await.expect("the failure was caught");
    assert_eq!(
        summary,
        Summary {
            sum: 30,
            by_node: BTreeMap::from([("one".to_owned(), 10), ("two".to_owned(), 20)]),
            missing: vec![format!("unlucky {}", Ending::Failed)],
            skipped: true,
            trail: vec!["left".to_owned(), "right".to_owned()],
            node: "summary".to_owned(),
        }
    );
    engine.shutdown().await;
    // What contexts, outputs and the worker left behind agrees.
    let store = Store::open(&home.url(), StoreOptions::default()).await;
    let report = store.expect("opens").verify(VerifyOptions::default()).await;
    let report = report.expect("reads");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn a_static_start_gives_every_task_the_workflow_s_input() {
    let home = Home::new();
    let engine = home
        .engine()
        .state(Factor { by: 3 })
        .register::<numbers::Workflow>()
        .start()
        .await
        .expect("starts");
    let run = engine
        .start::<numbers::Workflow>("a", &5)
        .await
        .expect("is started");
    assert_eq!(
        run.result().await.expect("completes").by_node,
        BTreeMap::from([("scale".to_owned(), 15)])
    );
    engine.shutdown().await;
}

/// The error of a workflow that fails.
async fn failure<W: abide::Workflow<Input = ()>>() -> TaskError {
    let home = Home::new();
    let engine = home.engine().register::<W>().start().await.expect("starts");
    let run = engine.start::<W>("a", &()).await.expect("is started");
    let Err(RunError::Failed { node, error }) = run.result().await else {
        panic!("it can't complete")
    };
    assert_eq!(node, W::NAME);
    engine.shutdown().await;
    error
}

#[workflow]
async fn typed() -> Result<(), Negative> {
    Err(Negative { n: 7 })
}

#[workflow]
async fn untyped() -> Result<(), TaskError> {
    Err(Negative { n: 7 })?;
    Ok(())
}

#[workflow]
async fn of_io() -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::NotFound, "no such file"))
}

#[workflow]
async fn boxed() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    Err("just words".into())
}

#[tokio::test]
async fn a_caller_gets_the_task_s_own_error_back() {
    let error = failure::<typed>().await;
    assert_eq!(
        (error.kind(), error.message()),
        ("Negative", "7 is unlucky")
    );
    assert_eq!(error.downcast::<Negative>(), Some(Negative { n: 7 }));

    let error = failure::<untyped>().await;
    assert_eq!(
        (error.kind(), error.downcast::<Negative>()),
        ("Negative", None)
    );
}

#[tokio::test]
async fn any_error_keeps_kind_and_message() {
    let error = failure::<of_io>().await;
    assert_eq!(
        (error.kind(), error.message()),
        ("io::NotFound", "no such file")
    );
    let error = failure::<boxed>().await;
    assert_eq!((error.kind(), error.message()), ("error", "just words"));
}

#[tokio::test]
async fn an_engine_without_a_task_s_state_does_not_start() {
    let home = Home::new();
    let refused = home
        .engine()
        .register::<numbers::Workflow>()
        .start()
        .await
        .map(drop);
    assert_eq!(
        refused.expect_err("nobody brought a factor").to_string(),
        format!(
            "task `scale` of workflow `numbers` takes `State<{}>`, but the engine has no such state",
            std::any::type_name::<Factor>()
        )
    );
}

mod by_hand {
    use super::*;

    /// The workflow `numbers` without attributes, in small.
    pub(super) struct Sum;

    impl abide::Workflow for Sum {
        const NAME: &'static str = "sum";
        type Input = u32;
        type Output = Value;
        type Error = TaskError;

        fn builder() -> WorkflowBuilder {
            let double = TaskBuilder::new(
                "double",
                async |Input(n): Input<u32>, factor: State<Factor>| {
                    Ok::<u32, TaskError>(n * factor.by)
                },
            );
            let note = TaskBuilder::new(
                "note",
                async |context: &mut Context, handle: &TaskHandle| {
                    context.insert("note", handle.task_id())
                },
            )
            .after("double");
            let sum = TaskBuilder::new("sum", async |context: &mut Context<Value>| {
                Ok::<Value, TaskError>(json!({ "note": context.require::<String>("note")? }))
            })
            .after("note")
            .after("double")
            .trigger(trigger::all([
                trigger::success("note"),
                trigger::context("note").eq("note"),
            ]));
            WorkflowBuilder::new("sum")
                .task(double)
                .task(note)
                .task(sum)
                .output("sum")
        }
    }
}

#[tokio::test]
async fn a_workflow_made_by_builders_runs() {
    let home = Home::new();
    let engine = home
        .engine()
        .state(Factor { by: 2 })
        .register::<by_hand::Sum>()
        .start()
        .await
        .expect("starts");
    let run = engine
        .start::<by_hand::Sum>("a", &4)
        .await
        .expect("is started");
    assert_eq!(
        run.result().await.expect("completes"),
        json!({ "note": "note" })
    );
    engine.shutdown().await;
}
