//! What a skipped node says of why.

use super::*;

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
