//! Rules as they are written: their names, their words, their stored form.

use proptest::prelude::*;

use super::*;
use crate::graph::tests::arbitrary::TASKS;

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

/// Rules over the tasks and some nodes of a random graph, and the context.
pub(super) fn rules() -> impl Strategy<Value = Trigger> {
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

proptest! {
    #[test]
    fn rules_come_back_from_json(rule in rules()) {
        let json = serde_json::to_string(&rule).unwrap();
        prop_assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), rule);
    }
}
