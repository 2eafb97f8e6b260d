//! How workflows are written: tasks and workflows as types, parameters found by type, builders,
//! and the erased form the runtime works with. What most programs need stands at the crate's
//! root; here is the rest of what public signatures speak of.

mod authoring_error;
mod backoff;
mod builder;
mod context;
mod erased;
mod expansion;
mod extract;
mod given;
mod graph_of;
mod handler;
mod input;
mod output;
mod placement;
mod state;
mod task;
mod task_error;
pub mod trigger;

pub use authoring_error::AuthoringError;
pub use backoff::Backoff;
pub use builder::{TaskBuilder, WorkflowBuilder};
pub use context::Context;
pub use erased::{
    BoxFuture, DependencyOutput, ErasedTask, Invocation, Produced, TypeInfo, WorkflowKind,
    WorkflowSpec,
};
pub use extract::{Call, Extract, Needs, UNENCODABLE};
pub use given::{MISSING_OUTPUT, MISSING_STATE};
pub use graph_of::{BuiltGraph, GraphOf};
pub use handler::{AsyncFunction, ByBoth, ByContext, ByHandle, ExtractAll, Handler, Plain};
pub use input::Input;
pub use output::{Output, Outputs};
pub use state::{State, StateMap};
pub use task::{NodesOnly, PartOf, Task, Workflow};
pub use task_error::TaskError;

/// The guide's examples are compiled with the crate's own.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/authoring.md")]
mod guide {}

/// For the attributes' expansions only.
pub(crate) mod private {
    pub use super::erased::BoxFuture;
    pub use super::expansion::{AContext, AHandle, TaskReturn, convert, part_of, produced, task};
    pub use super::extract::{Extract, Needs};
    pub use serde_json::json;
}
