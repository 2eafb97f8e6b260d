//! Durable execution: workflows are ordinary async functions, recorded in a database, resumed
//! after any crash.

pub mod authoring;
mod handle;
mod registry;

/// What the attributes expand to. Not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use crate::authoring::private::*;
}

pub use abide_core::trigger::{ContextOp, Ending, Trigger};
pub use abide_macros::{task, workflow};
pub use authoring::{
    AuthoringError, Backoff, Context, GraphOf, Input, NodesOnly, Output, Outputs, PartOf, State,
    StateMap, Task, TaskBuilder, TaskError, Workflow, WorkflowBuilder, trigger,
};
pub use handle::TaskHandle;
pub use registry::{RegistrationError, Registry};
