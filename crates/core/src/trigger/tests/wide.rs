//! Rules over many dependencies.

use std::cell::Cell;

use super::*;
use crate::graph::tests::arbitrary;

#[test]
fn wide_rules_ask_about_each_dependency_a_bounded_number_of_times() {
    let mut builder = GraphBuilder::new();
    let ids: Vec<String> = (0..20_000).map(|at| format!("f{at}")).collect();
    let each = ids.iter().map(|id| Trigger::None(vec![failed(id)]));
    let rule = Trigger::All(
        [
            success("hash"),
            Trigger::None(vec![skipped("hash"), failed("hash")]),
        ]
        .into_iter()
        .chain(each)
        .collect(),
    );
    builder.task(TaskSpec::new("hash")).task(TaskSpec {
        trigger: Some(rule),
        ..TaskSpec::new("join")
    });
    builder.node("join", "join");
    for id in &ids {
        builder.node(id.clone(), "hash").edge(id, "join");
    }
    let graph = builder.build().unwrap();
    let asked = Cell::new(0_usize);
    let last = graph.len();
    let ending_of = |failing: u32| {
        let asked = &asked;
        move |number: u32| {
            asked.set(asked.get() + 1);
            if number == failing { Failed } else { Completed }
        }
    };
    assert_eq!(decide(&graph, 1, &ending_of(0), &Map::new), Decision::Run);
    assert_eq!(asked.replace(0), 2 * ids.len());
    let Decision::Skip(reason) = decide(&graph, 1, &ending_of(last), &Map::new) else {
        panic!("a failure skips the node");
    };
    assert_eq!(reason.because, "f19999: Failed");
    assert_eq!(reason.saw.len(), MAX_SAW);
    assert_eq!(
        reason.saw[0],
        ("hash".into(), "19999 Completed, 1 Failed".into())
    );
    assert!(reason.rule.len() < 600);
    assert!(asked.get() < 3 * ids.len());
}

#[test]
fn widest_default_rule_keeps_few_entries() {
    let mut builder = GraphBuilder::new();
    builder.task(TaskSpec::new("t")).node("join", "t");
    for number in 2..=100_000_u32 {
        let id = arbitrary::id(number);
        builder.node(id.as_str(), "t").edge(&id, "join");
    }
    let graph = builder.build().unwrap();
    let Decision::Skip(reason) = decide(&graph, 1, &|_| Failed, &Map::new) else {
        panic!("a failure skips the node");
    };
    assert_eq!(reason.saw.len(), MAX_SAW);
    assert_eq!(decide(&graph, 1, &|_| Completed, &Map::new), Decision::Run);
}
