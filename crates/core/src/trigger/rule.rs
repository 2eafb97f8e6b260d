//! A rule as it is written and stored.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::payload::is_shallow;
use crate::text::is_default;

/// How deep rules may be nested.
pub const MAX_DEPTH: usize = 32;

/// How deep a value in a rule may be nested. Both limits together keep a stored graph readable.
pub const MAX_VALUE_DEPTH: usize = 32;

/// The rule that decides whether a node runs: a condition on its dependencies and its context.
///
/// Stored as JSON: `{"any":[{"success":"marker"},{"skipped":"marker"}]}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Every part holds.
    All(Vec<Trigger>),
    /// At least one part holds.
    Any(Vec<Trigger>),
    /// No part holds.
    None(Vec<Trigger>),
    /// Every node of this name completed.
    Success(String),
    /// At least one node of this name failed or was abandoned.
    Failed(String),
    /// At least one node of this name was skipped.
    Skipped(String),
    /// The comparison with a context value is true.
    Context {
        /// The value's key: a key of the context, or a path of keys and array positions joined by
        /// dots. A context key that contains the dots itself takes precedence.
        key: String,
        /// The comparison.
        op: ContextOp,
        /// The value to compare with. [`ContextOp::Exists`] and its negation ignore it.
        #[serde(default, skip_serializing_if = "is_default")]
        value: Value,
    },
}

/// How a context value is compared with a rule's value.
///
/// Numbers compare by value, whole or not (`1` equals `1.0`), also inside arrays and objects.
/// Strings compare by code points. `Ne`, `NotContains` and `NotExists` are true exactly when their
/// opposites are false, so they are also true for a missing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContextOp {
    /// The key exists and its value is equal. A missing key equals nothing, `null` included.
    Eq,
    /// Not [`ContextOp::Eq`].
    Ne,
    /// Both are numbers or both are strings, and the context's value is less. False for other
    /// types, different types or a missing key; so both `Lt` and `Ge` may be false.
    Lt,
    /// Like [`ContextOp::Lt`], less or equal.
    Le,
    /// Like [`ContextOp::Lt`], greater.
    Gt,
    /// Like [`ContextOp::Lt`], greater or equal.
    Ge,
    /// The context's value is a string that contains the rule's string, an array that contains an
    /// equal element, or an object that has the rule's string as a key. False otherwise.
    Contains,
    /// Not [`ContextOp::Contains`].
    NotContains,
    /// The key exists; its value may be `null`.
    Exists,
    /// Not [`ContextOp::Exists`].
    NotExists,
}

impl Trigger {
    /// Whether the rule needs the context, so that the context must be read before the decision.
    pub fn uses_context(&self) -> bool {
        self.parts()
            .any(|(part, _)| matches!(part, Self::Context { .. }))
    }

    /// The names of nodes and tasks in the rule, in reading order, with repetitions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts().filter_map(|(part, _)| match part {
            Self::Success(name) | Self::Failed(name) | Self::Skipped(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The names whose failure the rule catches: see [`catches`](super::catches).
    pub(crate) fn caught(&self) -> impl Iterator<Item = &str> {
        self.parts().filter_map(|(part, at)| match part {
            Self::Failed(name) if !at.negated => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether the rule and the values in it are within [`MAX_DEPTH`] and [`MAX_VALUE_DEPTH`].
    pub(crate) fn is_shallow(&self) -> bool {
        self.parts().all(|(part, at)| {
            let value_is_shallow = match part {
                Self::Context { value, .. } => is_shallow(value, MAX_VALUE_DEPTH),
                _ => true,
            };
            at.depth < MAX_DEPTH && value_is_shallow
        })
    }

    /// Sorts the keys of values, so that equal rules have equal JSON whatever features `serde_json`
    /// was built with.
    pub(crate) fn sort_values(&mut self) {
        match self {
            Self::All(parts) | Self::Any(parts) | Self::None(parts) => {
                parts.iter_mut().for_each(Self::sort_values);
            }
            Self::Context { value, .. } => value.sort_all_objects(),
            Self::Success(_) | Self::Failed(_) | Self::Skipped(_) => {}
        }
    }

    /// The rule and all its parts, in reading order. A loop instead of recursion, because the check
    /// of the depth uses it.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&Self, Position)> {
        let mut stack = vec![(self, Position::default())];
        std::iter::from_fn(move || {
            let (part, at) = stack.pop()?;
            if let Self::All(inner) | Self::Any(inner) | Self::None(inner) = part {
                let negates = matches!(part, Self::None(_));
                let inside = Position {
                    depth: at.depth + 1,
                    negated: at.negated != negates,
                };
                stack.extend(inner.iter().rev().map(|part| (part, inside)));
            }
            Some((part, at))
        })
    }
}

/// The position of a part in its rule.
#[derive(Clone, Copy, Default)]
pub(super) struct Position {
    depth: usize,
    /// Inside an odd number of `none`.
    negated: bool,
}

/// The rule as it is written in code: `any(success(marker), context(mode) = "fast")`.
impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, parts) = match self {
            Self::All(parts) => ("all", parts),
            Self::Any(parts) => ("any", parts),
            Self::None(parts) => ("none", parts),
            Self::Success(name) => return write!(f, "success({name})"),
            Self::Failed(name) => return write!(f, "failed({name})"),
            Self::Skipped(name) => return write!(f, "skipped({name})"),
            Self::Context { key, op, value } => {
                return match op {
                    ContextOp::Exists | ContextOp::NotExists => write!(f, "context({key}) {op}"),
                    _ => write!(f, "context({key}) {op} {value}"),
                };
            }
        };
        write!(f, "{word}(")?;
        for (at, part) in parts.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{part}")?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for ContextOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Contains => "contains",
            Self::NotContains => "not contains",
            Self::Exists => "exists",
            Self::NotExists => "not exists",
        })
    }
}
