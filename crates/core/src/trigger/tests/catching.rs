//! Whose failure a rule catches.

use super::*;

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
