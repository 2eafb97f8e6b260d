//! What a workflow declares of a task.

use serde::{Deserialize, Serialize};

use crate::retry::RetryPolicy;
use crate::text::is_default;
use crate::trigger::Trigger;

/// One task of a workflow: the options that all its nodes share.
///
/// Stored as JSON with defaults left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskSpec {
    /// The name under which workers register the task's function.
    pub id: String,
    /// The rule that decides, once a node's dependencies have ended, whether the node runs.
    /// Default: it runs if all completed.
    #[serde(skip_serializing_if = "is_default")]
    pub trigger: Option<Trigger>,
    /// Whether and when a failed attempt is repeated. Default: never.
    #[serde(skip_serializing_if = "is_default")]
    pub retry: RetryPolicy,
    /// The longest active time of an attempt in microseconds, more than 0. Default: no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout_us: Option<i64>,
    /// Ready tasks with a higher number run first. Default 0.
    #[serde(skip_serializing_if = "is_default")]
    pub priority: i16,
    /// What the task's function needs.
    #[serde(skip_serializing_if = "is_default")]
    pub uses: Uses,
}

impl TaskSpec {
    /// A task with defaults for everything but its id.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            ..Self::default()
        }
    }
}

/// What a task's function needs, so that nothing else is read or prepared for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Uses {
    /// The input of its node or of the execution.
    #[serde(skip_serializing_if = "is_default")]
    pub input: bool,
    /// The context with its ancestors' changes.
    #[serde(skip_serializing_if = "is_default")]
    pub context: bool,
    /// Its dependencies' outputs.
    #[serde(skip_serializing_if = "is_default")]
    pub outputs: bool,
    /// The handle for durable operations.
    #[serde(skip_serializing_if = "is_default")]
    pub handle: bool,
}
