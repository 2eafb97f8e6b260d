//! Whether a node runs.

use std::cell::Cell;

use proptest::prelude::*;

use super::text::rules;
use super::*;
use crate::graph::tests::arbitrary::{self, TASKS, shapes};

#[test]
fn rule_on_one_node_follows_its_ending() {
    // ending: success, failed, skipped
    let table = [
        (Completed, true, false, false),
        (Failed, false, true, false),
        (Abandoned, false, true, false),
        (Skipped, false, false, true),
        (Cancelled, false, false, false),
    ];
    for (ending, by_success, by_failure, by_skip) in table {
        let endings = [ending, Completed, Completed, Completed];
        assert_eq!(runs(success("a"), endings), by_success, "success, {ending}");
        assert_eq!(runs(failed("a"), endings), by_failure, "failed, {ending}");
        assert_eq!(runs(skipped("a"), endings), by_skip, "skipped, {ending}");
        assert!(runs(success("b"), endings), "another, {ending}");
    }
}

#[test]
fn rule_on_a_task_needs_every_success_or_one_failure_or_skip() {
    for first in Ending::ALL {
        for second in Ending::ALL {
            let endings = [Failed, Skipped, first, second];
            let pair = [first, second];
            let case = format!("{first}, {second}");
            assert_eq!(
                runs(success("file"), endings),
                pair == [Completed; 2],
                "{case}"
            );
            assert_eq!(
                runs(failed("file"), endings),
                pair.contains(&Failed) || pair.contains(&Abandoned),
                "{case}",
            );
            assert_eq!(
                runs(skipped("file"), endings),
                pair.contains(&Skipped),
                "{case}"
            );
            // One of its nodes, by its own id.
            assert_eq!(runs(success("f2"), endings), second == Completed, "{case}");
        }
    }
}

#[test]
fn all_any_and_none_combine_their_parts() {
    for bits in 0..8_u8 {
        let holds = [bits & 1 != 0, bits & 2 != 0, bits & 4 != 0];
        let part = |holds: bool| {
            Trigger::All(if holds {
                vec![]
            } else {
                vec![Trigger::Any(vec![])]
            })
        };
        let parts: Vec<Trigger> = holds.into_iter().map(part).collect();
        let endings = [Completed; 4];
        assert_eq!(
            runs(Trigger::All(parts.clone()), endings),
            bits == 7,
            "{holds:?}"
        );
        assert_eq!(
            runs(Trigger::Any(parts.clone()), endings),
            bits != 0,
            "{holds:?}"
        );
        assert_eq!(runs(Trigger::None(parts), endings), bits == 0, "{holds:?}");
    }
}

#[test]
fn rules_of_nothing_follow_logic() {
    assert!(runs(Trigger::All(vec![]), [Failed; 4]));
    assert!(!runs(Trigger::Any(vec![]), [Completed; 4]));
    assert!(runs(Trigger::None(vec![]), [Failed; 4]));
}

#[test]
fn without_a_rule_every_dependency_must_complete() {
    assert_eq!(decide_join(None, [Completed; 4], json!({})), Decision::Run);
    for at in 0..4 {
        for ending in [Failed, Abandoned, Skipped, Cancelled] {
            let mut endings = [Completed; 4];
            endings[at] = ending;
            let name = ["a", "b", "f1", "f2"][at];
            let expected = SkipReason {
                rule: "every dependency completed".into(),
                because: format!("{name}: {ending}"),
                saw: vec![(name.into(), ending.to_string())],
            };
            assert_eq!(reason(None, endings, json!({})), expected);
        }
    }
}

#[test]
fn node_without_dependencies_runs_by_default() {
    let mut builder = GraphBuilder::new();
    builder.task(TaskSpec::new("t")).node("a", "t");
    let graph = builder.build().unwrap();
    let decision = decide(&graph, 1, &|_| unreachable!(), &|| unreachable!());
    assert_eq!(decision, Decision::Run);
}

#[test]
fn context_is_asked_for_at_most_once_and_only_if_needed() {
    let asked = Cell::new(0);
    let ask = |rule: Trigger| {
        asked.set(0);
        let decision = decide(&join(Some(rule)), 5, &|_| Completed, &|| {
            asked.set(asked.get() + 1);
            Map::new()
        });
        (decision == Decision::Run, asked.get())
    };
    let missing = || context("k", ContextOp::NotExists, Value::Null);
    assert_eq!(ask(success("a")), (true, 0));
    assert_eq!(ask(Trigger::Any(vec![success("a"), missing()])), (true, 0));
    assert_eq!(ask(Trigger::All(vec![missing(), missing()])), (true, 1));
    assert_eq!(ask(Trigger::None(vec![failed("a"), missing()])), (false, 1));
}

/// The meaning of rules, as the table in the header of `trigger` says it.
fn model(rule: &Trigger, endings: &dyn Fn(&str) -> Vec<Ending>, k: i64) -> bool {
    let holds = |part: &Trigger| model(part, endings, k);
    match rule {
        Trigger::All(parts) => parts.iter().all(holds),
        Trigger::Any(parts) => parts.iter().any(holds),
        Trigger::None(parts) => !parts.iter().any(holds),
        Trigger::Success(name) => endings(name).iter().all(|ending| *ending == Completed),
        Trigger::Failed(name) => endings(name).iter().any(|ending| ending.is_failure()),
        Trigger::Skipped(name) => endings(name).contains(&Skipped),
        Trigger::Context { value, .. } => {
            k < value.as_i64().expect("rules() compares whole numbers")
        }
    }
}

proptest! {
    #[test]
    fn rules_decide_as_the_model_does(
        rule in rules(),
        nodes in prop::collection::vec((0..TASKS, prop::sample::select(&Ending::ALL)), 0..8),
        k in 0..3_i64,
    ) {
        let mut builder = GraphBuilder::new();
        builder.task(TaskSpec { trigger: Some(rule.clone()), ..TaskSpec::new("join") }).node("join", "join");
        // Every task has a node, so that every name is a dependency.
        let nodes: Vec<(usize, Ending)> = (0..TASKS).map(|task| (task, Completed)).chain(nodes).collect();
        for task in 0..TASKS {
            builder.task(TaskSpec::new(format!("t{task}")));
        }
        for ((task, _), number) in nodes.iter().zip(2..) {
            let id = arbitrary::id(number);
            builder.node(id.as_str(), &format!("t{task}")).edge(&id, "join");
        }
        let graph = builder.build().unwrap();
        let context = Map::from_iter([("k".to_owned(), json!(k))]);
        let endings = |name: &str| -> Vec<Ending> {
            let of_task = nodes.iter().filter(|(task, _)| format!("t{task}") == name);
            of_task.map(|(_, ending)| *ending).collect()
        };
        let decision = decide(&graph, 1, &|number| nodes[number as usize - 2].1, &|| context.clone());
        let expected = model(&rule, &endings, k);
        prop_assert_eq!(decision == Decision::Run, expected);
        if let Decision::Skip(reason) = decision {
            prop_assert_eq!(reason.rule, rule.to_string());
            prop_assert!(reason.because.contains(": "));
            prop_assert!(reason.saw.len() <= MAX_SAW);
        }
    }

    #[test]
    fn default_rule_decides_as_success_of_everything(shape in shapes(8), endings in prop::collection::vec(prop::sample::select(&Ending::ALL), 8)) {
        let graph = shape.graph();
        let ending_of = |number: u32| endings[number as usize - 1];
        for number in graph.numbers() {
            let all = graph.dependencies(number).iter().all(|dependency| ending_of(*dependency) == Completed);
            prop_assert_eq!(decide(&graph, number, &ending_of, &Map::new) == Decision::Run, all);
        }
    }
}
