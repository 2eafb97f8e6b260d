//! Trigger rules as expressions, spelt as in `#[task(trigger = ..)]`.
//!
//! ```
//! use abide::trigger::{any, context, none, skipped, success};
//!
//! let rule = any([success("marker"), skipped("marker"), none([context("mode").eq("dry")])]);
//! assert_eq!(rule.to_string(), r#"any(success(marker), skipped(marker), none(context(mode) = "dry"))"#);
//! ```

use abide_core::trigger::{ContextOp, Trigger};
use serde_json::Value;

/// Every part holds; also if there is none.
pub fn all(parts: impl IntoIterator<Item = Trigger>) -> Trigger {
    Trigger::All(parts.into_iter().collect())
}

/// Some part holds; so not if there is none.
pub fn any(parts: impl IntoIterator<Item = Trigger>) -> Trigger {
    Trigger::Any(parts.into_iter().collect())
}

/// No part holds; also if there is none.
pub fn none(parts: impl IntoIterator<Item = Trigger>) -> Trigger {
    Trigger::None(parts.into_iter().collect())
}

/// Every node of this task completed.
pub fn success(task: impl Into<String>) -> Trigger {
    Trigger::Success(task.into())
}

/// At least one node of this task failed or was abandoned. A task whose rule says so and that then
/// completes has caught the failure: the execution doesn't fail for it.
pub fn failed(task: impl Into<String>) -> Trigger {
    Trigger::Failed(task.into())
}

/// At least one node of this task was skipped.
pub fn skipped(task: impl Into<String>) -> Trigger {
    Trigger::Skipped(task.into())
}

/// A value of the context, to be compared. The key may be a path of keys and array positions
/// joined by dots.
pub fn context(key: impl Into<String>) -> ContextValue {
    ContextValue { key: key.into() }
}

/// A value of the context; its methods make rules of it.
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
    /// It exists and equals `value`.
    pub fn eq(self, value: impl Into<Value>) -> Trigger {
        self.rule(ContextOp::Eq, value)
    }

    /// It doesn't equal `value`, or doesn't exist.
    pub fn ne(self, value: impl Into<Value>) -> Trigger {
        self.rule(ContextOp::Ne, value)
    }

    /// It is a number or string like `value`, and less.
    pub fn lt(self, value: impl Into<Value>) -> Trigger {
        self.rule(ContextOp::Lt, value)
    }

    /// It is a number or string like `value`, and not greater.
    pub fn le(self, value: impl Into<Value>) -> Trigger {
        self.rule(ContextOp::Le, value)
    }

    /// It is a number or string like `value`, and greater.
    pub fn gt(self, value: impl Into<Value>) -> Trigger {
        self.rule(ContextOp::Gt, value)
    }

    /// It is a number or string like `value`, and not less.
    pub fn ge(self, value: impl Into<Value>) -> Trigger {
        self.rule(ContextOp::Ge, value)
    }

    /// It is a string with this part, an array with this element or an object with this key.
    pub fn contains(self, value: impl Into<Value>) -> Trigger {
        self.rule(ContextOp::Contains, value)
    }

    /// It doesn't contain `value`, or doesn't exist.
    pub fn not_contains(self, value: impl Into<Value>) -> Trigger {
        self.rule(ContextOp::NotContains, value)
    }

    /// It exists; it may be `null`.
    pub fn exists(self) -> Trigger {
        self.rule(ContextOp::Exists, Value::Null)
    }

    /// It doesn't exist.
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
