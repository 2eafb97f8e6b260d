//! Writing workflows: tasks and workflows as types, parameters found by type, builders, and the
//! form without types that the runtime uses. Most programs need only the items at the crate's root.
//! This module contains the other types that public signatures name.

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
mod result;
mod standard_error;
mod state;
mod task;
mod task_error;
pub mod trigger;

pub use authoring_error::AuthoringError;
pub use backoff::Backoff;
pub use builder::{TaskBuilder, WorkflowBuilder};
pub use context::Context;
pub use erased::{BoxFuture, WorkflowKind, WorkflowSpec};
#[doc(hidden)]
pub use erased::{DependencyOutput, ErasedTask, Invocation, Produced, TypeInfo};
pub use extract::Extract;
#[doc(hidden)]
pub use extract::{Call, Needs, UNENCODABLE};
#[doc(hidden)]
pub use given::{MISSING_OUTPUT, MISSING_STATE};
#[doc(hidden)]
pub use graph_of::BuiltGraph;
pub use graph_of::GraphOf;
pub use handler::Handler;
#[doc(hidden)]
pub use handler::{AsyncFunction, ByBoth, ByContext, ByHandle, ExtractAll, Plain};
pub use input::Input;
pub use output::{Output, Outputs};
pub use result::{Ok, Result};
pub use standard_error::{IntoTaskError, StandardError};
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
