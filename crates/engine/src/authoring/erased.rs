//! The form in which the runtime gets a task: without its types. Values are passed as JSON text. A
//! task sees nothing of the store, and the runtime sees nothing of the user's types.

use std::sync::Arc;

use abide_core::graph::TaskSpec;
use abide_core::trigger::Ending;
use serde_json::{Map, Value};

use super::box_future::BoxFuture;
use super::produced::Produced;
use super::state::StateMap;
use super::task_error::TaskError;
use super::type_info::TypeInfo;
use crate::handle::TaskHandle;

/// One task of a registered workflow, without its types.
pub trait ErasedTask: Send + Sync + 'static {
    /// The task's id, rules and options, and what it reads ([`TaskSpec::uses`]). The runtime puts
    /// only what the task reads into an [`Invocation`].
    fn spec(&self) -> &TaskSpec;

    /// The types of shared state that the task takes. Registration refuses the task unless all of
    /// them were given.
    fn required_state(&self) -> &[TypeInfo];

    /// Runs one attempt. The future is the user's code: it may panic, never end, or be dropped at
    /// any `await`.
    fn call(&self, invocation: Invocation) -> BoxFuture<'static, Result<Produced, TaskError>>;
}

/// Everything an attempt is given.
pub struct Invocation {
    /// The input's JSON text; none means `null`.
    pub input: Option<Arc<str>>,
    /// The combined changes of the ancestors, if the task uses the context.
    pub context: Option<Map<String, Value>>,
    /// How each direct dependency ended and its output, in declared order, if the task uses
    /// outputs.
    pub outputs: Vec<DependencyOutput>,
    /// The shared state of the engine.
    pub state: Arc<StateMap>,
    /// The handle for durable operations.
    pub handle: TaskHandle,
}

/// A direct dependency that has ended.
#[derive(Clone, Debug)]
pub struct DependencyOutput {
    /// The id of its node.
    pub node: Arc<str>,
    /// The id of its task.
    pub task: Arc<str>,
    /// How it ended.
    pub ending: Ending,
    /// The JSON text of its output if it completed; none means `null`.
    pub output: Option<Arc<str>>,
}
