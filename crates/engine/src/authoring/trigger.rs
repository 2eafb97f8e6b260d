//! Trigger rules as expressions, written as in `#[task(trigger = ..)]`.
//!
//! ```
//! use abide::trigger::{any, context, none, skipped, success};
//!
//! let rule = any([success("marker"), skipped("marker"), none([context("mode").eq("dry")])]);
//! assert_eq!(rule.to_string(), r#"any(success(marker), skipped(marker), none(context(mode) = "dry"))"#);
//! ```

use abide_core::trigger::{ContextOp, Trigger};
use serde_json::Value;

/// Every part holds. Also holds without parts.
pub fn all(parts: impl IntoIterator<Item = Trigger>) -> Trigger {
    Trigger::All(parts.into_iter().collect())
}

/// At least one part holds. Does not hold without parts.
pub fn any(parts: impl IntoIterator<Item = Trigger>) -> Trigger {
    Trigger::Any(parts.into_iter().collect())
}

/// No part holds. Also holds without parts.
pub fn none(parts: impl IntoIterator<Item = Trigger>) -> Trigger {
    Trigger::None(parts.into_iter().collect())
}

/// Every node of this task completed.
pub fn success(task: impl Into<String>) -> Trigger {
    Trigger::Success(task.into())
}

/// At least one node of this task failed or was abandoned. If a task with such a rule completes, it
/// has caught the failure: the execution does not fail because of it.
pub fn failed(task: impl Into<String>) -> Trigger {
    Trigger::Failed(task.into())
}

/// At least one node of this task was skipped.
pub fn skipped(task: impl Into<String>) -> Trigger {
    Trigger::Skipped(task.into())
}

/// A context value to compare. The key may be a path of keys and array positions, joined by dots.
pub fn context(key: impl Into<String>) -> ContextValue {
    ContextValue { key: key.into() }
}

/// A context value. Its methods make rules that compare it.
///
/// ```
/// use abide::trigger::context;
///
/// assert_eq!(context("order.total").ge(100).to_string(), "context(order.total) >= 100");
/// assert_eq!(context("tags").not_contains("test").to_string(), r#"context(tags) not contains "test""#);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a key is no rule until it is compared"]
pub struct ContextValue {
    key: String,
}

impl ContextValue {
    /// The value exists and equals `value`.
    pub fn eq(self, value: impl Into<Value>) -> Trigger {
        self.rule(ContextOp::Eq, value)
    }

    /// The value does not equal `value`, or does not exist.
    pub fn ne(self, value: impl Into<Value>) -> Trigger {
        self.rule(ContextOp::Ne, value)
    }

    /// The value has the same type as `value`, number or string, and is less.
    pub fn lt(self, value: impl Into<Value>) -> Trigger {
        self.rule(ContextOp::Lt, value)
    }

    /// The value has the same type as `value`, number or string, and is not greater.
    pub fn le(self, value: impl Into<Value>) -> Trigger {
        self.rule(ContextOp::Le, value)
    }

    /// The value has the same type as `value`, number or string, and is greater.
    pub fn gt(self, value: impl Into<Value>) -> Trigger {
        self.rule(ContextOp::Gt, value)
    }

    /// The value has the same type as `value`, number or string, and is not less.
    pub fn ge(self, value: impl Into<Value>) -> Trigger {
        self.rule(ContextOp::Ge, value)
    }

    /// The value is a string with this part, an array with this element or an object with this key.
    pub fn contains(self, value: impl Into<Value>) -> Trigger {
        self.rule(ContextOp::Contains, value)
    }

    /// The value does not contain `value`, or does not exist.
    pub fn not_contains(self, value: impl Into<Value>) -> Trigger {
        self.rule(ContextOp::NotContains, value)
    }

    /// The value exists. It may be `null`.
    pub fn exists(self) -> Trigger {
        self.rule(ContextOp::Exists, Value::Null)
    }

    /// The value does not exist.
    pub fn not_exists(self) -> Trigger {
        self.rule(ContextOp::NotExists, Value::Null)
    }

    fn rule(self, op: ContextOp, value: impl Into<Value>) -> Trigger {
        Trigger::Context {
            key: self.key,
            op,
            value: value.into(),
        }
    }
}
