//! What can be wrong with a workflow before it ever runs. Each error names the culprit and, where
//! one is near, the valid name.

use abide_core::graph::GraphError;
use abide_core::text::{NameError, PayloadError};
use thiserror::Error;

use super::builder::TaskBuilder;
use super::erased::{TypeInfo, WorkflowSpec};
use super::task::{NodesOnly, Task, Workflow};

/// Why a workflow, or a graph built at run time, was refused.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum AuthoringError {
    /// Its graph can't be: a duplicate or unknown name, a cycle, an option out of range.
    #[error("workflow `{workflow}`: {source}")]
    Graph {
        /// The workflow.
        workflow: String,
        /// What is wrong.
        source: GraphError,
    },
    /// The workflow's name, version or a tag isn't a valid name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A durable function was given a second task.
    #[error("workflow `{workflow}` is a durable function, so it has one task; `{task}` is another")]
    FunctionWithTasks {
        /// The workflow.
        workflow: String,
        /// The task that is too many.
        task: String,
    },
    /// The types said of a task or workflow are not those of its functions.
    #[error("the {what} of `{name}` is `{said}`, but its function says `{is}`")]
    Type {
        /// The task or workflow.
        name: String,
        /// `input` or `output`.
        what: &'static str,
        /// The type its `Task` or `Workflow` implementation says.
        said: &'static str,
        /// The type of the function.
        is: &'static str,
    },
    /// The name in a `Task` or `Workflow` implementation is not that of its builder.
    #[error("the builder of `{said}` calls it `{is}`")]
    Id {
        /// The implementation's name.
        said: String,
        /// The builder's.
        is: String,
    },
    /// A node was given an input that can't be stored.
    #[error("workflow `{workflow}`: the input of node `{node}` can't be written as JSON: {reason}")]
    Input {
        /// The workflow.
        workflow: String,
        /// The node.
        node: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A node was given an input that holds what no store can keep.
    #[error("workflow `{workflow}`: the input of node `{node}`: {source}")]
    InputText {
        /// The workflow.
        workflow: String,
        /// The node.
        node: String,
        /// What is wrong with it.
        source: PayloadError,
    },
    /// A task takes the one output of a task that has none or several nodes before it.
    #[error(
        "workflow `{workflow}`: node `{node}` takes the one output of task `{task}`, which has {count} nodes before it; \
         take `Outputs<{task}>`, or add an edge from one of them"
    )]
    SingleOutput {
        /// The workflow.
        workflow: String,
        /// The node.
        node: String,
        /// The task it reads from.
        task: String,
        /// How many nodes of that task it depends on.
        count: usize,
    },
    /// The task whose output is the workflow's has none or several nodes.
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
    /// Whether a [`Task`] implementation and its builder agree.
    pub(super) fn check_task<T: Task>(task: &TaskBuilder) -> Result<(), AuthoringError> {
        if task.spec.id != T::ID {
            return Err(AuthoringError::Id {
                said: T::ID.to_owned(),
                is: task.spec.id.clone(),
            });
        }
        let input = task.needs.input.unwrap_or(TypeInfo::of::<()>());
        check_type(T::ID, "input", TypeInfo::of::<T::Input>(), input)?;
        check_type(T::ID, "output", TypeInfo::of::<T::Output>(), task.output)
    }

    /// Whether a [`Workflow`] implementation and its builder agree.
    pub(super) fn check_workflow<W: Workflow>(spec: &WorkflowSpec) -> Result<(), AuthoringError> {
        if spec.name != W::NAME {
            return Err(AuthoringError::Id {
                said: W::NAME.to_owned(),
                is: spec.name.clone(),
            });
        }
        let said = TypeInfo::of::<W::Input>();
        // Started by graphs only, it may say so even if its tasks share their input's type.
        if said != TypeInfo::of::<NodesOnly>() {
            check_type(
                W::NAME,
                "input",
                said,
                spec.input.unwrap_or(TypeInfo::of::<NodesOnly>()),
            )?;
        }
        check_type(
            W::NAME,
            "output",
            TypeInfo::of::<W::Output>(),
            spec.output_type,
        )
    }
}

fn check_type(
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
