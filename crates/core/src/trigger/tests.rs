//! Rules over a small graph, by subject.

use serde_json::{Map, Value, json};

use super::*;
use crate::graph::{Graph, GraphBuilder, TaskSpec};

use Ending::{Abandoned, Cancelled, Completed, Failed, Skipped};

mod catching;
mod comparisons;
mod decisions;
mod reasons;
mod text;
mod wide;

fn success(name: &str) -> Trigger {
    Trigger::Success(name.into())
}

fn failed(name: &str) -> Trigger {
    Trigger::Failed(name.into())
}

fn skipped(name: &str) -> Trigger {
    Trigger::Skipped(name.into())
}

fn context(key: &str, op: ContextOp, value: Value) -> Trigger {
    Trigger::Context {
        key: key.into(),
        op,
        value,
    }
}

/// A node `join` with this rule. It depends on `a` and `b`, nodes of their own tasks, and on `f1` and `f2`,
/// nodes of the task `file`.
fn join(rule: Option<Trigger>) -> Graph {
    let mut builder = GraphBuilder::new();
    for task in ["a", "b", "file"] {
        builder.task(TaskSpec::new(task));
    }
    builder.task(TaskSpec {
        trigger: rule,
        ..TaskSpec::new("join")
    });
    for (node, task) in [
        ("a", "a"),
        ("b", "b"),
        ("f1", "file"),
        ("f2", "file"),
        ("join", "join"),
    ] {
        builder.node(node, task);
    }
    for node in ["f2", "b", "a", "f1"] {
        builder.edge(node, "join");
    }
    builder.build().expect("the rule names dependencies")
}

/// What `join` decides if `a`, `b`, `f1` and `f2` ended like this.
fn decide_join(rule: Option<Trigger>, endings: [Ending; 4], context: Value) -> Decision {
    let Value::Object(context) = context else {
        panic!("a context is an object");
    };
    let ending_of = |number: u32| endings[number as usize - 1];
    decide(&join(rule), 5, &ending_of, &|| context.clone())
}

fn runs(rule: Trigger, endings: [Ending; 4]) -> bool {
    decide_join(Some(rule), endings, json!({})) == Decision::Run
}

fn reason(rule: Option<Trigger>, endings: [Ending; 4], context: Value) -> SkipReason {
    match decide_join(rule, endings, context) {
        Decision::Run => panic!("the node is skipped"),
        Decision::Skip(reason) => reason,
    }
}
