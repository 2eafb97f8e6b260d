//! What a rule says of context values.

use proptest::prelude::*;

use super::*;

use ContextOp::{Contains, Eq, Exists, Ge, Gt, Le, Lt, Ne, NotContains, NotExists};

fn document() -> Map<String, Value> {
    let document = json!({
        "n": 3, "f": 2.5, "s": "abc", "null": null, "yes": true,
        "list": [1, "x", [2.0], {"k": 1}], "map": {"inner": {"deep": 7}, "0": "zero"},
        "a.b": "whole", "a": {"b": "path", "c": 1}, "big": 9_007_199_254_740_993_i64,
        "huge": u64::MAX,
    });
    let Value::Object(document) = document else {
        unreachable!()
    };
    document
}

fn holds(key: &str, op: ContextOp, value: &Value) -> bool {
    compare::holds(compare::lookup(&document(), key), op, value)
}

/// Exactly these operators hold between what is at the key and a value; existence is tested apart.
fn check(key: &str, ops: &[ContextOp], value: Value) {
    for op in [Eq, Ne, Lt, Le, Gt, Ge, Contains, NotContains] {
        let expected = ops.contains(&op);
        assert_eq!(holds(key, op, &value), expected, "{key} {op} {value}");
    }
}

const LESS: [ContextOp; 4] = [Ne, Lt, Le, NotContains];
const EQUAL: [ContextOp; 4] = [Eq, Le, Ge, NotContains];
const GREATER: [ContextOp; 4] = [Ne, Gt, Ge, NotContains];
const OTHER: [ContextOp; 2] = [Ne, NotContains];
/// A string contains itself.
const SAME_TEXT: [ContextOp; 4] = [Eq, Le, Ge, Contains];

#[test]
fn numbers_compare_by_value() {
    check("n", &LESS, json!(4));
    check("n", &EQUAL, json!(3));
    check("n", &EQUAL, json!(3.0));
    check("n", &GREATER, json!(2.999));
    check("n", &GREATER, json!(-1e300));
    check("n", &LESS, json!(1e300));
    check("f", &LESS, json!(3));
    check("f", &GREATER, json!(2));
    check("f", &EQUAL, json!(2.5));
    check("f", &GREATER, json!(-2.5));
    // As floats these two would be equal.
    check("big", &GREATER, json!(9_007_199_254_740_992.0));
    check("huge", &LESS, json!(18_446_744_073_709_551_616.0));
    check("huge", &GREATER, json!(-1));
}

#[test]
fn strings_compare_by_code_points() {
    check("s", &SAME_TEXT, json!("abc"));
    check("s", &[Ne, Gt, Ge, Contains], json!("ab"));
    check("s", &[Ne, Lt, Le, Contains], json!("c"));
    check("s", &LESS, json!("ä"));
    check("s", &[Ne, Gt, Ge, Contains], json!(""));
}

#[test]
fn values_of_different_types_have_no_order() {
    check("s", &OTHER, json!(1));
    check("n", &OTHER, json!("3"));
    check("yes", &OTHER, json!(false));
    check("yes", &[Eq, NotContains], json!(true));
    check("null", &[Eq, NotContains], json!(null));
    check("null", &OTHER, json!(0));
}

#[test]
fn arrays_contain_values_and_objects_contain_keys() {
    check("list", &[Ne, Contains], json!("x"));
    check("list", &[Ne, Contains], json!(1.0));
    check("list", &[Ne, Contains], json!([2]));
    check("list", &[Ne, Contains], json!({"k": 1.0}));
    check("list", &OTHER, json!("y"));
    check("list", &[Eq, NotContains], json!([1, "x", [2], {"k": 1}]));
    check("list", &OTHER, json!([1, "x", [2]]));
    check("list.3", &OTHER, json!({"k": 1, "l": 2}));
    check("list.3", &OTHER, json!({"l": 1}));
    check("map", &[Ne, Contains], json!("inner"));
    check("map", &OTHER, json!("deep"));
    check("map", &OTHER, json!(0));
}

#[test]
fn paths_lead_into_documents_and_whole_keys_go_before_them() {
    check("map.inner.deep", &EQUAL, json!(7));
    check("map.0", &SAME_TEXT, json!("zero"));
    check("list.1", &SAME_TEXT, json!("x"));
    check("list.2.0", &EQUAL, json!(2));
    check("a.b", &SAME_TEXT, json!("whole"));
    check("a.c", &EQUAL, json!(1));
}

#[test]
fn what_is_missing_equals_nothing_null_included() {
    for key in [
        "gone", "n.x", "map.gone", "list.9", "list.01", "list.+1", "list.-1", "list.", "", ".",
    ] {
        check(key, &OTHER, json!(null));
        check(key, &OTHER, json!(""));
        assert!(!holds(key, Exists, &json!(1)), "{key}");
        assert!(holds(key, NotExists, &json!(1)), "{key}");
    }
    for key in ["null", "n", "list.0", "map.inner"] {
        assert!(holds(key, Exists, &json!(1)), "{key}");
        assert!(!holds(key, NotExists, &json!(1)), "{key}");
    }
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

proptest! {
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
}
