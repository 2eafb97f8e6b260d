//! How deep a payload may be nested: the same wherever it comes from, so that whatever was written can
//! be read.

use abide::{Context, GraphOf, Input, RunError, TaskBuilder, TaskError, TaskHandle};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::common::{Home, function};

const LIMIT: usize = 100;
const SAYS: &str = "nested deeper than 100";

/// Arrays that stand in each other.
fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, _| json!([inner]))
}

/// An error whose value is nested.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Deep(Value);

impl std::fmt::Display for Deep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("too deep for me")
    }
}

impl std::error::Error for Deep {}

#[tokio::test]
async fn a_payload_as_deep_as_the_limit_goes_everywhere_and_a_deeper_one_nowhere() {
    let home = Home::new();
    let echo = function("echo", async |Input(value): Input<Value>| {
        Ok::<_, TaskError>(value)
    });
    let grow = function("grow", async |Input(depth): Input<usize>| {
        Ok::<_, TaskError>(nested(depth))
    });
    let step = function(
        "step",
        async |Input(depth): Input<usize>, handle: TaskHandle| {
            let body = async || Ok::<_, TaskError>(nested(depth));
            handle.step("deep", body).await
        },
    );
    let context = function(
        "context",
        async |context: &mut Context, Input(depth): Input<usize>| {
            context.insert("deep", nested(depth))?;
            Ok::<_, TaskError>(Value::Null)
        },
    );
    let waits = function("waits", async |handle: TaskHandle| {
        handle.signal::<Value>("deep").await
    });
    let fails = function("fails", async |Input(depth): Input<usize>| {
        Err::<Value, _>(TaskError::typed(Deep(nested(depth))))
    });
    let engine = home.engine();
    let specs = [&echo, &grow, &step, &context, &waits, &fails];
    let engine = specs
        .into_iter()
        .fold(engine, |engine, spec| engine.register_spec(spec.clone()));
    let engine = engine.start().await.expect("starts");

    // A start, a node's input, a signal.
    let start = async |depth| {
        let instance = format!("echo {depth}");
        let run = engine
            .start_named("echo", &instance, &nested(depth))
            .await?;
        Ok::<_, abide::EngineError>(run.result().await.expect("completes"))
    };
    assert_eq!(start(LIMIT).await.expect("fits"), nested(LIMIT));
    let error = start(LIMIT + 1).await.expect_err("refused");
    assert!(error.to_string().contains(SAYS), "{error}");

    let size = TaskBuilder::new("size", async |Input(_): Input<Value>| Ok::<_, TaskError>(1));
    let sizes = abide::WorkflowBuilder::new("sizes").task(size).build();
    let sizes = sizes.expect("a workflow without mistakes");
    let node = |depth| {
        GraphOf::spec(&sizes)
            .add("n", "size", &nested(depth))
            .build()
    };
    node(LIMIT).expect("fits");
    let error = node(LIMIT + 1).expect_err("refused");
    assert!(error.to_string().contains(SAYS), "{error}");

    let waiting = engine.start_named("waits", "waits", &()).await;
    let waiting = waiting.expect("a durable start");
    let deep = engine.signal("waits", "deep", &nested(LIMIT + 1)).await;
    let error = deep.expect_err("refused");
    assert!(error.to_string().contains(SAYS), "{error}");
    let fits = engine.signal("waits", "deep", &nested(LIMIT)).await;
    fits.expect("fits");
    assert_eq!(waiting.result().await.expect("completes"), nested(LIMIT));

    // What a task leaves behind.
    for workflow in ["grow", "step", "context"] {
        let run = async |depth: usize| {
            let instance = format!("{workflow} {depth}");
            let run = engine.start_named(workflow, &instance, &depth).await;
            run.expect("a durable start").result().await
        };
        run(LIMIT).await.expect(workflow);
        match run(LIMIT + 1).await.expect_err(workflow) {
            RunError::Failed { error, .. } => {
                assert_eq!(error.kind(), "payload_invalid", "{workflow}: {error}");
                assert!(error.message().contains(SAYS), "{workflow}: {error}");
            }
            other => panic!("{workflow}: {other}"),
        }
    }
    // The error is recorded, whatever it says; only its value is left out.
    for (depth, value) in [(LIMIT, Some(Deep(nested(LIMIT)))), (LIMIT + 1, None)] {
        let run = engine
            .start_named("fails", &format!("fails {depth}"), &depth)
            .await;
        match run.expect("a durable start").result().await {
            Err(RunError::Failed { error, .. }) => {
                assert_eq!(error.message(), "too deep for me");
                assert_eq!(error.downcast::<Deep>(), value);
                let told = format!("{error:?}").contains("nested too deeply");
                assert_eq!(told, value.is_none(), "{error:?}");
            }
            other => panic!("it fails: {other:?}"),
        }
    }
    engine.shutdown().await;
}
