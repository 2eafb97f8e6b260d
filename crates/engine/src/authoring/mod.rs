//! Writing workflows: tasks and workflows as types, parameters found by type, builders, and the
//! form without types that the runtime uses. Most programs need only the items at the crate's root.
//! This module contains the other types that public signatures name.

// A `Task` or `Workflow` has a builder (`task_builder`, `workflow_builder`; `backoff` and `trigger` are
// options). A task's body is a `handler`: `function` says which functions are one. Its parameters
// (`input`, `output`, `state`, `context`) declare `needs` and are taken out of a `call` by `extract`,
// from what the attempt was `given`. The body returns what the attempt `produced`, or a `task_error`
// (`standard_error`: made of other errors). `erased` and `workflow_spec` are the forms without types.
// `graph_of` and `placement` build graphs at run time. `expansion` is what the attributes call,
// `authoring_error` what registration refuses.

mod authoring_error;
mod backoff;
mod box_future;
mod call;
mod context;
mod erased;
mod expansion;
mod extract;
mod function;
mod given;
mod graph_of;
mod handler;
mod input;
mod needs;
mod output;
mod placement;
mod produced;
mod result;
mod standard_error;
mod state;
mod task;
mod task_builder;
mod task_error;
pub mod trigger;
mod type_info;
mod workflow;
mod workflow_builder;
mod workflow_spec;

pub use authoring_error::AuthoringError;
pub use backoff::Backoff;
pub use box_future::BoxFuture;
#[doc(hidden)]
pub use call::Call;
pub use context::Context;
#[doc(hidden)]
pub use erased::{DependencyOutput, ErasedTask, Invocation};
pub use extract::Extract;
#[doc(hidden)]
pub use function::{AsyncFunction, ByBoth, ByContext, ByHandle, ExtractAll, Plain};
#[doc(hidden)]
pub use given::{MISSING_OUTPUT, MISSING_STATE};
#[doc(hidden)]
pub use graph_of::BuiltGraph;
pub use graph_of::GraphOf;
pub use handler::Handler;
pub use input::Input;
#[doc(hidden)]
pub use needs::Needs;
pub use output::{Output, Outputs};
#[doc(hidden)]
pub use produced::{Produced, UNENCODABLE};
pub use result::{Ok, Result};
pub use standard_error::{IntoTaskError, StandardError};
pub use state::{State, StateMap};
pub use task::Task;
pub use task_builder::TaskBuilder;
pub use task_error::TaskError;
#[doc(hidden)]
pub use type_info::TypeInfo;
pub use workflow::{NodesOnly, PartOf, Workflow};
pub use workflow_builder::WorkflowBuilder;
pub use workflow_spec::{WorkflowKind, WorkflowSpec};

/// The guide's examples are compiled with the crate's own.
#[cfg(doctest)]
#[doc = include_str!("../../../../docs/authoring.md")]
mod guide {}

/// For the attributes' expansions only.
pub(crate) mod private {
    pub use super::box_future::BoxFuture;
    pub use super::expansion::{AContext, AHandle, TaskReturn, convert, part_of, produced, task};
    pub use super::extract::Extract;
    pub use super::needs::Needs;
    pub use serde_json::json;
}
