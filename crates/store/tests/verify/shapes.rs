//! Random graphs: small ones, whose rules and retries meet many things.

use abide_core::graph::{Graph, GraphBuilder, TaskSpec};
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::trigger::{ContextOp, Trigger};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::fixture::SECOND;

/// A random graph: for each node its dependencies (as bits over the nodes before it), rule,
/// retries and priority.
#[derive(Clone, Debug)]
pub(crate) struct Shape(pub(crate) Vec<(u16, u8, u8, i8)>);

pub(crate) fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let node = (any::<u16>(), 0..10_u8, 0..3_u8, -2..3_i8);
    // Small ones too, so that the same task meets many things.
    let nodes = prop_oneof![2 => 1..=2_usize, 2 => 3..=4_usize, 1 => 5..=12_usize];
    let shape = nodes
        .prop_flat_map(move |nodes| vec(node.clone(), nodes))
        .prop_map(Shape);
    vec(shape, 1..4)
}

pub(crate) fn build(shape: &Shape) -> Graph {
    let mut builder = GraphBuilder::new();
    for (at, (bits, rule, retries, priority)) in shape.0.iter().enumerate() {
        let id = format!("n{at}");
        let dependencies: Vec<String> = (0..at)
            .filter(|bit| bits >> bit & 1 == 1)
            .map(|bit| format!("n{bit}"))
            .collect();
        builder.task(TaskSpec {
            trigger: trigger(*rule, &dependencies),
            retry: retry(u32::from(*retries), *bits >> 13),
            priority: i16::from(*priority),
            ..TaskSpec::new(&id)
        });
        builder.node(&id, &id);
        for dependency in &dependencies {
            builder.edge(dependency, &id);
        }
    }
    builder.build().expect("edges lead forward")
}

/// Most wait for the same time, or not at all.
fn retry(retries: u32, which: u16) -> RetryPolicy {
    let delay_us = if retries == 2 { SECOND } else { 0 };
    let plain = RetryPolicy {
        retries,
        backoff: Backoff::Fixed { delay_us },
        ..RetryPolicy::default()
    };
    let delay_us = SECOND / 3;
    match which {
        0 => RetryPolicy {
            retry_if: vec!["net".into()],
            ..plain
        },
        1 => RetryPolicy {
            retry_if: vec!["net".into(), "io".into()],
            ..plain
        },
        2 => RetryPolicy {
            backoff: Backoff::Linear { delay_us },
            ..plain
        },
        3 => RetryPolicy {
            retries: retries + 2,
            backoff: Backoff::Exponential {
                delay_us,
                factor: 1.5,
            },
            max_delay_us: Some(2 * delay_us),
            ..plain
        },
        _ => plain,
    }
}

fn trigger(rule: u8, dependencies: &[String]) -> Option<Trigger> {
    let first = dependencies.first()?.clone();
    let last = dependencies.last()?.clone();
    let context = |op| Trigger::Context {
        key: "n".into(),
        op,
        value: serde_json::json!(1),
    };
    Some(match rule {
        0 => Trigger::Failed(first),
        1 => Trigger::Any(vec![Trigger::Success(first), Trigger::Failed(last)]),
        2 => Trigger::None(vec![Trigger::Failed(first), Trigger::Skipped(last)]),
        3 => Trigger::Skipped(last),
        4 => Trigger::Any(vec![context(ContextOp::Gt), Trigger::Failed(first)]),
        5 => Trigger::All(vec![context(ContextOp::Exists), Trigger::Success(first)]),
        6 => Trigger::None(vec![Trigger::None(vec![
            Trigger::Failed(first),
            Trigger::Failed(last),
        ])]),
        7 => Trigger::Success(first),
        _ => return None,
    })
}
