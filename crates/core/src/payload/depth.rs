//! How deep JSON values are nested.

use serde_json::Value;

/// Whether a value is nested at most `depth` deep; a plain value is 0 deep.
pub(crate) fn is_shallow(value: &Value, depth: usize) -> bool {
    let inside = |value: &Value| depth > 0 && is_shallow(value, depth - 1);
    match value {
        Value::Array(items) => depth > 0 && items.iter().all(inside),
        Value::Object(map) => depth > 0 && map.values().all(inside),
        _ => true,
    }
}
