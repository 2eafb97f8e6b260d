use std::cell::Cell;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::graph::tests::arbitrary::{self, TASKS, shapes};
use crate::graph::{GraphBuilder, TaskSpec};
use serde_json::Map;

use Ending::{Abandoned, Cancelled, Completed, Failed, Skipped};

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
fn reason_names_the_first_declared_dependency() {
    let reason = reason(None, [Completed, Skipped, Failed, Failed], json!({}));
    assert_eq!(reason.because, "b: Skipped");
    assert_eq!(reason.saw.len(), 3);
}

#[test]
fn reason_names_the_first_declared_node_of_a_task() {
    let because = |first: Ending, second: Ending| {
        reason(
            Some(success("file")),
            [Completed, Completed, first, second],
            json!({}),
        )
        .because
    };
    assert_eq!(because(Failed, Failed), "f1: Failed");
    assert_eq!(because(Failed, Skipped), "f1: Failed");
    assert_eq!(because(Skipped, Failed), "f1: Skipped");
    assert_eq!(because(Completed, Cancelled), "f2: Cancelled");
}

#[test]
fn reason_says_what_decided() {
    let endings = [Completed, Skipped, Abandoned, Completed];
    let check = |rule: Trigger, because: &str| {
        let reason = reason(
            Some(rule.clone()),
            endings,
            json!({"n": 3, "deep": {"list": [1, "x"]}}),
        );
        assert_eq!(reason.because, because, "{rule}");
        assert_eq!(reason.rule, rule.to_string());
    };
    let never = || Trigger::Any(vec![]);
    let always = || Trigger::All(vec![]);
    check(success("b"), "b: Skipped");
    check(success("file"), "f1: Abandoned");
    check(skipped("file"), "file: 1 Completed, 1 Abandoned");
    check(failed("a"), "a: Completed");
    check(
        Trigger::All(vec![success("a"), skipped("b"), success("file")]),
        "f1: Abandoned",
    );
    check(
        Trigger::Any(vec![failed("a"), success("b")]),
        "a: Completed",
    );
    check(
        Trigger::None(vec![failed("a"), failed("file")]),
        "f1: Abandoned",
    );
    check(
        Trigger::None(vec![success("b"), skipped("b")]),
        "b: Skipped",
    );
    check(Trigger::None(vec![success("a")]), "a: Completed");
    check(
        Trigger::None(vec![Trigger::None(vec![failed("a")])]),
        "a: Completed",
    );
    check(
        Trigger::None(vec![Trigger::All(vec![success("a"), skipped("b")])]),
        "a: Completed",
    );
    check(context("n", ContextOp::Gt, json!(3)), "context(n): 3");
    check(
        context("deep.list.0", ContextOp::Eq, json!("x")),
        "context(deep.list.0): 1",
    );
    check(
        context("gone", ContextOp::Exists, Value::Null),
        "context(gone): missing",
    );
    check(never(), "any(): false");
    check(Trigger::None(vec![always()]), "all(): true");
}

#[test]
fn reason_shows_what_the_rule_saw() {
    let rule = Trigger::All(vec![
        Trigger::Any(vec![success("a"), skipped("a")]),
        failed("file"),
        context("mode", ContextOp::Eq, json!("fast")),
        context("gone", ContextOp::Exists, Value::Null),
    ]);
    let expected = SkipReason {
        rule: r#"all(any(success(a), skipped(a)), failed(file), context(mode) = "fast", context(gone) exists)"#.into(),
        because: "file: 2 Completed".into(),
        saw: [
            ("a", "Completed"),
            ("file", "2 Completed"),
            ("context(mode)", r#""slow""#),
            ("context(gone)", "missing"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
    };
    assert_eq!(
        reason(Some(rule), [Completed; 4], json!({"mode": "slow"})),
        expected
    );
    let json = r#"{"rule":"x","because":"a: Failed","saw":[["a","Failed"]]}"#;
    let stored: SkipReason = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&stored).unwrap(), json);
}

#[test]
fn reason_cuts_long_values() {
    let rule = context("text", ContextOp::NotExists, Value::Null);
    let reason = reason(
        Some(rule),
        [Completed; 4],
        json!({"text": "ä".repeat(1000)}),
    );
    assert!(reason.because.len() < 600 && reason.because.ends_with("..."));
    assert!(reason.saw[0].1.len() < 600);
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

#[test]
fn context_compares_documents() {
    use ContextOp::{Contains, Eq, Exists, Ge, Gt, Le, Lt, Ne, NotContains, NotExists};
    let context = json!({
        "n": 3, "f": 2.5, "s": "abc", "null": null, "yes": true,
        "list": [1, "x", [2.0], {"k": 1}], "map": {"inner": {"deep": 7}, "0": "zero"},
        "a.b": "whole", "a": {"b": "path", "c": 1}, "big": 9_007_199_254_740_993_i64,
        "huge": u64::MAX,
    });
    let Value::Object(context) = context else {
        unreachable!()
    };
    let check = |key: &str, ops: &[ContextOp], value: Value| {
        // Exactly these hold; existence is tested apart.
        for op in [Eq, Ne, Lt, Le, Gt, Ge, Contains, NotContains] {
            let holds = compare::holds(compare::lookup(&context, key), op, &value);
            assert_eq!(holds, ops.contains(&op), "{key} {op} {value}");
        }
    };
    let (less, equal, greater) = (
        [Ne, Lt, Le, NotContains],
        [Eq, Le, Ge, NotContains],
        [Ne, Gt, Ge, NotContains],
    );
    let other = [Ne, NotContains];
    // Numbers, by value.
    check("n", &less, json!(4));
    check("n", &equal, json!(3));
    check("n", &equal, json!(3.0));
    check("n", &greater, json!(2.999));
    check("n", &greater, json!(-1e300));
    check("n", &less, json!(1e300));
    check("f", &less, json!(3));
    check("f", &greater, json!(2));
    check("f", &equal, json!(2.5));
    check("f", &greater, json!(-2.5));
    // As floats these two would be equal.
    check("big", &greater, json!(9_007_199_254_740_992.0));
    check("huge", &less, json!(18_446_744_073_709_551_616.0));
    check("huge", &greater, json!(-1));
    // Strings, by code points. A string contains itself.
    check("s", &[Eq, Le, Ge, Contains], json!("abc"));
    check("s", &[Ne, Gt, Ge, Contains], json!("ab"));
    check("s", &[Ne, Lt, Le, Contains], json!("c"));
    check("s", &less, json!("ä"));
    check("s", &[Ne, Gt, Ge, Contains], json!(""));
    // Mixed types have no order.
    check("s", &other, json!(1));
    check("n", &other, json!("3"));
    check("yes", &other, json!(false));
    check("yes", &[Eq, NotContains], json!(true));
    check("null", &[Eq, NotContains], json!(null));
    check("null", &other, json!(0));
    // Arrays and objects.
    check("list", &[Ne, Contains], json!("x"));
    check("list", &[Ne, Contains], json!(1.0));
    check("list", &[Ne, Contains], json!([2]));
    check("list", &[Ne, Contains], json!({"k": 1.0}));
    check("list", &other, json!("y"));
    check("list", &[Eq, NotContains], json!([1, "x", [2], {"k": 1}]));
    check("list", &other, json!([1, "x", [2]]));
    check("list.3", &other, json!({"k": 1, "l": 2}));
    check("list.3", &other, json!({"l": 1}));
    check("map", &[Ne, Contains], json!("inner"));
    check("map", &other, json!("deep"));
    check("map", &other, json!(0));
    // Paths.
    check("map.inner.deep", &equal, json!(7));
    check("map.0", &[Eq, Le, Ge, Contains], json!("zero"));
    check("list.1", &[Eq, Le, Ge, Contains], json!("x"));
    check("list.2.0", &equal, json!(2));
    check("a.b", &[Eq, Le, Ge, Contains], json!("whole"));
    check("a.c", &equal, json!(1));
    // Missing keys equal nothing, null included.
    for key in [
        "gone", "n.x", "map.gone", "list.9", "list.01", "list.+1", "list.-1", "list.", "", ".",
    ] {
        check(key, &other, json!(null));
        check(key, &other, json!(""));
        assert!(
            !compare::holds(compare::lookup(&context, key), Exists, &json!(1)),
            "{key}"
        );
        assert!(
            compare::holds(compare::lookup(&context, key), NotExists, &json!(1)),
            "{key}"
        );
    }
    for key in ["null", "n", "list.0", "map.inner"] {
        assert!(
            compare::holds(compare::lookup(&context, key), Exists, &json!(1)),
            "{key}"
        );
        assert!(
            !compare::holds(compare::lookup(&context, key), NotExists, &json!(1)),
            "{key}"
        );
    }
}

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

#[test]
fn failure_is_caught_by_a_rule_that_names_it_positively() {
    let check = |rule: Option<Trigger>, expected: [bool; 4]| {
        let graph = join(rule.clone());
        let caught = [1, 2, 3, 4].map(|failed| catches(&graph, 5, failed));
        assert_eq!(caught, expected, "{rule:?}");
        assert!(!catches(&graph, 1, 5) && !catches(&graph, 5, 5));
    };
    let none = |part: Trigger| Trigger::None(vec![part]);
    let nobody = [false; 4];
    let only_a = [true, false, false, false];
    check(None, nobody);
    check(Some(failed("a")), only_a);
    check(Some(failed("file")), [false, false, true, true]);
    check(Some(failed("f2")), [false, false, false, true]);
    check(Some(success("a")), nobody);
    check(Some(skipped("a")), nobody);
    check(Some(Trigger::All(vec![])), nobody);
    check(Some(context("k", ContextOp::Exists, Value::Null)), nobody);
    check(Some(Trigger::Any(vec![success("a"), failed("a")])), only_a);
    check(Some(Trigger::All(vec![success("b"), failed("a")])), only_a);
    check(Some(none(failed("a"))), nobody);
    check(Some(none(success("a"))), nobody);
    check(Some(none(none(failed("a")))), only_a);
    check(
        Some(none(Trigger::Any(vec![failed("b"), none(failed("a"))]))),
        only_a,
    );
    check(
        Some(Trigger::Any(vec![failed("a"), none(failed("a"))])),
        only_a,
    );
    check(
        Some(Trigger::Any(vec![failed("b"), failed("a"), failed("b")])),
        [true, true, false, false],
    );
}

#[test]
fn only_dependencies_are_caught() {
    let mut builder = GraphBuilder::new();
    builder
        .task(TaskSpec::new("file"))
        .task(TaskSpec {
            trigger: Some(failed("file")),
            ..TaskSpec::new("join")
        })
        .node("f1", "file")
        .node("f2", "file")
        .node("join", "join")
        .edge("f1", "join");
    let graph = builder.build().unwrap();
    assert!(catches(&graph, 3, 1));
    assert!(!catches(&graph, 3, 2));
}

#[test]
fn rule_lists_its_names_in_reading_order() {
    let rule = Trigger::Any(vec![
        Trigger::All(vec![
            success("a"),
            context("k", ContextOp::Eq, json!(1)),
            failed("b"),
        ]),
        Trigger::None(vec![skipped("a")]),
    ]);
    assert_eq!(rule.names().collect::<Vec<_>>(), ["a", "b", "a"]);
    assert!(rule.uses_context());
    assert!(!Trigger::Any(vec![success("a")]).uses_context());
}

#[test]
fn operators_are_shown_as_they_are_written() {
    use ContextOp::{Contains, Eq, Exists, Ge, Gt, Le, Lt, Ne, NotContains, NotExists};
    let ops = [
        Eq,
        Ne,
        Lt,
        Le,
        Gt,
        Ge,
        Contains,
        NotContains,
        Exists,
        NotExists,
    ];
    let shown = ops.map(|op| context("k", op, json!("v")).to_string());
    assert_eq!(
        shown,
        [
            r#"context(k) = "v""#,
            r#"context(k) != "v""#,
            r#"context(k) < "v""#,
            r#"context(k) <= "v""#,
            r#"context(k) > "v""#,
            r#"context(k) >= "v""#,
            r#"context(k) contains "v""#,
            r#"context(k) not contains "v""#,
            "context(k) exists",
            "context(k) not exists",
        ],
    );
    assert_eq!(
        Trigger::None(vec![success("a"), failed("b")]).to_string(),
        "none(success(a), failed(b))"
    );
}

fn values() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        (-3..3_i64).prop_map(Value::from),
        (-6..6_i32).prop_map(|halves| json!(f64::from(halves) / 2.0)),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(|whole| json!(whole as f64)),
        any::<f64>().prop_map(Value::from),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        "[a-c]{0,2}".prop_map(Value::from)
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Rules over the tasks and some nodes of a random graph, and the context.
fn rules() -> impl Strategy<Value = Trigger> {
    let name = (0..TASKS).prop_map(|task| format!("t{task}"));
    let leaf = prop_oneof![
        name.clone().prop_map(Trigger::Success),
        name.clone().prop_map(Trigger::Failed),
        name.prop_map(Trigger::Skipped),
        (0..3_i64).prop_map(|value| context("k", ContextOp::Lt, json!(value))),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let parts = prop::collection::vec(inner, 0..4);
        prop_oneof![
            parts.clone().prop_map(Trigger::All),
            parts.clone().prop_map(Trigger::Any),
            parts.prop_map(Trigger::None),
        ]
    })
}

/// The meaning of rules, as the table in the module's header says it.
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

    #[test]
    fn comparisons_agree_with_each_other(a in values(), b in values()) {
        let holds = |op: ContextOp| compare::holds(Some(&a), op, &b);
        let turned = |op: ContextOp| compare::holds(Some(&b), op, &a);
        prop_assert!(compare::holds(Some(&a), ContextOp::Eq, &a));
        prop_assert_eq!(holds(ContextOp::Eq), turned(ContextOp::Eq));
        prop_assert_eq!(holds(ContextOp::Eq), !holds(ContextOp::Ne));
        prop_assert_eq!(holds(ContextOp::Contains), !holds(ContextOp::NotContains));
        prop_assert_eq!(holds(ContextOp::Lt), turned(ContextOp::Gt));
        prop_assert_eq!(holds(ContextOp::Le), turned(ContextOp::Ge));
        let comparable = (a.is_number() && b.is_number()) || (a.is_string() && b.is_string());
        prop_assert_eq!(holds(ContextOp::Le) || holds(ContextOp::Ge), comparable);
        if comparable {
            prop_assert_eq!(holds(ContextOp::Lt), !holds(ContextOp::Ge));
            prop_assert_eq!(holds(ContextOp::Eq), holds(ContextOp::Le) && holds(ContextOp::Ge));
        }
    }

    #[test]
    fn whole_numbers_and_floats_compare_exactly(whole in any::<i64>(), near in -3..=3_i64, half in any::<bool>()) {
        // A float near the whole number, and its exact value in halves.
        let float = whole.saturating_add(near) as f64 + if half { 0.5 } else { 0.0 };
        let halves = (float * 2.0) as i128;
        let expected = (i128::from(whole) * 2).cmp(&halves);
        let holds = |op: ContextOp| compare::holds(Some(&json!(whole)), op, &json!(float));
        prop_assert_eq!(holds(ContextOp::Lt), expected.is_lt());
        prop_assert_eq!(holds(ContextOp::Eq), expected.is_eq());
        prop_assert_eq!(holds(ContextOp::Gt), expected.is_gt());
    }

    #[test]
    fn rules_come_back_from_json(rule in rules()) {
        let json = serde_json::to_string(&rule).unwrap();
        prop_assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), rule);
    }
}
