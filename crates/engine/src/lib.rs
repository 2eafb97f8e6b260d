//! Durable execution: workflows are ordinary async functions, recorded in a database, resumed
//! after any crash.

pub mod authoring;
mod handle;
mod registry;

pub use abide_core::trigger::{Ending, Trigger};
pub use authoring::{
    AuthoringError, Backoff, Context, GraphOf, Input, NodesOnly, Output, Outputs, PartOf, State,
    StateMap, Task, TaskBuilder, TaskError, Workflow, WorkflowBuilder,
};
pub use handle::TaskHandle;
pub use registry::{RegistrationError, Registry};
