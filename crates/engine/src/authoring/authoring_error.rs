//! Mistakes in a workflow that are found before it runs. Each error names the mistake and, if there
//! is one, the nearest valid name.

use abide_core::graph::GraphError;
use abide_core::text::{NameError, PayloadError};
use thiserror::Error;

use super::type_info::TypeInfo;

/// Why a workflow, or a graph built at run time, was refused.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum AuthoringError {
    /// The graph is not valid: a duplicate or unknown name, a cycle, an option out of range.
    #[error("workflow `{workflow}`: {source}")]
    Graph {
        /// The workflow.
        workflow: String,
        /// What is wrong.
        source: GraphError,
    },
    /// The workflow's name, its version or a tag is not a valid name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A durable function was given a second task.
    #[error("workflow `{workflow}` is a durable function, so it has one task; `{task}` is another")]
    FunctionWithTasks {
        /// The workflow.
        workflow: String,
        /// The second task.
        task: String,
    },
    /// A `Task` or `Workflow` implementation names other types than its functions have.
    #[error("the {what} of `{name}` is `{said}`, but its function says `{is}`")]
    Type {
        /// The task or workflow.
        name: String,
        /// `input` or `output`.
        what: &'static str,
        /// The type in the `Task` or `Workflow` implementation.
        said: &'static str,
        /// The type of the function.
        is: &'static str,
    },
    /// A `Task` or `Workflow` implementation and its builder have different names.
    #[error("the builder of `{said}` calls it `{is}`")]
    Id {
        /// The implementation's name.
        said: String,
        /// The builder's name.
        is: String,
    },
    /// A node was given an input that cannot be written as JSON.
    #[error("workflow `{workflow}`: the input of node `{node}` can't be written as JSON: {reason}")]
    Input {
        /// The workflow.
        workflow: String,
        /// The node.
        node: String,
        /// Why it cannot.
        reason: String,
    },
    /// A node was given an input that no store can keep.
    #[error("workflow `{workflow}`: the input of node `{node}`: {source}")]
    InputText {
        /// The workflow.
        workflow: String,
        /// The node.
        node: String,
        /// What is wrong with it.
        source: PayloadError,
    },
    /// A task takes the single output of a task of which no node, or several nodes, come before it.
    #[error(
        "workflow `{workflow}`: node `{node}` takes the one output of task `{task}`, which has {count} nodes before it; \
         take `Outputs<{task}>`, or add an edge from one of them"
    )]
    SingleOutput {
        /// The workflow.
        workflow: String,
        /// The node.
        node: String,
        /// The task whose output it takes.
        task: String,
        /// How many nodes of that task it depends on.
        count: usize,
    },
    /// The task that gives the workflow's output has no node or several.
    #[error(
        "workflow `{workflow}`: its output is that of task `{task}`, which has {count} nodes in this graph"
    )]
    OutputNode {
        /// The workflow.
        workflow: String,
        /// The task.
        task: String,
        /// How many nodes it has.
        count: usize,
    },
}

impl AuthoringError {
    /// Refuses an implementation that says another type than its function has. `what` is `input` or
    /// `output`.
    pub(super) fn check_type(
        name: &str,
        what: &'static str,
        said: TypeInfo,
        is: TypeInfo,
    ) -> Result<(), AuthoringError> {
        match said == is {
            true => Ok(()),
            false => Err(AuthoringError::Type {
                name: name.to_owned(),
                what,
                said: said.name,
                is: is.name,
            }),
        }
    }
}
