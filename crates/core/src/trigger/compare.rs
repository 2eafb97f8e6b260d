//! Comparisons of JSON values: paths, equality, order, containment. [`ContextOp`] defines the
//! meanings. Nothing here knows graphs.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

use super::rule::ContextOp;

/// Whether the comparison of the value at a rule's key is true.
pub(super) fn holds(found: Option<&Value>, op: ContextOp, value: &Value) -> bool {
    let order = || found.and_then(|found| order(found, value));
    match op {
        ContextOp::Eq => found.is_some_and(|found| equal(found, value)),
        ContextOp::Ne => !holds(found, ContextOp::Eq, value),
        ContextOp::Lt => order().is_some_and(Ordering::is_lt),
        ContextOp::Le => order().is_some_and(Ordering::is_le),
        ContextOp::Gt => order().is_some_and(Ordering::is_gt),
        ContextOp::Ge => order().is_some_and(Ordering::is_ge),
        ContextOp::Contains => found.is_some_and(|found| contains(found, value)),
        ContextOp::NotContains => !holds(found, ContextOp::Contains, value),
        ContextOp::Exists => found.is_some(),
        ContextOp::NotExists => found.is_none(),
    }
}

/// The value at a key or dotted path. A key that equals the whole text takes precedence over a
/// path.
pub(super) fn lookup<'a>(context: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    if let Some(value) = context.get(key) {
        return Some(value);
    }
    let mut segments = key.split('.');
    let first = context.get(segments.next()?)?;
    segments.try_fold(first, |value, segment| match value {
        Value::Object(map) => map.get(segment),
        Value::Array(items) => items.get(position(segment)?),
        _ => None,
    })
}

/// A position in an array, written without sign or leading zeros.
fn position(segment: &str) -> Option<usize> {
    let plain = segment == "0" || !segment.starts_with(['0', '+']);
    segment.parse().ok().filter(|_| plain)
}

/// Equality with numbers by value.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b) == Some(Ordering::Equal),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same = |(key, a): (&String, &Value)| b.get(key).is_some_and(|b| equal(a, b));
            a.len() == b.len() && a.iter().all(same)
        }
        _ => a == b,
    }
}

/// The order of two numbers or two strings.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn contains(found: &Value, value: &Value) -> bool {
    match (found, value) {
        (Value::String(text), Value::String(part)) => text.contains(part),
        (Value::Array(items), value) => items.iter().any(|item| equal(item, value)),
        (Value::Object(map), Value::String(key)) => map.contains_key(key),
        _ => false,
    }
}

/// Compares by value without rounding either side. JSON numbers are finite, so there is always a
/// result.
fn compare(a: &Number, b: &Number) -> Option<Ordering> {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        (Some(a), None) => Some(compare_mixed(a, b.as_f64()?)),
        (None, Some(b)) => Some(compare_mixed(b, a.as_f64()?).reverse()),
        (None, None) => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

/// Compares a whole number with a float: first the whole parts, then the rest of the float. Beyond
/// 128 bits the conversion saturates, which no whole number in JSON reaches.
fn compare_mixed(whole: i128, float: f64) -> Ordering {
    // Adding zero makes -0.0 equal to 0.0.
    let rest = 0.0_f64.total_cmp(&(float.fract() + 0.0));
    whole.cmp(&(float.trunc() as i128)).then(rest)
}
