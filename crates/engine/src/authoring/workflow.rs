//! The types that represent workflows, so that the compiler checks starts, results and the tasks of
//! run-time graphs. `#[workflow]` implements the traits, and you can implement them too.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::authoring_error::AuthoringError;
use super::task::Task;
use super::type_info::TypeInfo;
use super::workflow_builder::WorkflowBuilder;
use super::workflow_spec::WorkflowSpec;

/// A workflow's types. `#[workflow]` implements it for `module::Workflow`, or for a type with
/// the function's name.
///
/// You can also implement it yourself:
///
/// ```
/// use abide::{Input, TaskBuilder, TaskError, Workflow, WorkflowBuilder};
///
/// pub struct Greeting;
///
/// impl Workflow for Greeting {
///     const NAME: &'static str = "greeting";
///     type Input = String;
///     type Output = String;
///     type Error = TaskError;
///
///     fn builder() -> WorkflowBuilder {
///         let greet = TaskBuilder::new("greet", async |Input(name): Input<String>| {
///             Ok::<_, TaskError>(format!("Hello, {name}!"))
///         });
///         WorkflowBuilder::new(Self::NAME).task(greet).output("greet")
///     }
/// }
/// # assert!(Greeting::builder().build().is_ok());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a workflow",
    label = "not a workflow",
    note = "`#[workflow]` on a module makes the type `module::Workflow`, on a function a type of its name"
)]
pub trait Workflow: Sized + Send + Sync + 'static {
    /// The name by which the workflow is started.
    const NAME: &'static str;

    /// The type of an execution's input; `()` if no task takes an input.
    type Input: Serialize + DeserializeOwned + Send + 'static;

    /// The execution's result: the output of one of its tasks, or `()`.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// The type of a failed execution's error.
    type Error;

    /// The workflow with its options and its tasks.
    fn builder() -> WorkflowBuilder;

    /// The workflow, built and checked. The types of its functions are compared with the types of
    /// this implementation.
    fn spec() -> Result<WorkflowSpec, AuthoringError> {
        let spec = Self::builder().build()?;
        check::<Self>(&spec)?;
        Ok(spec)
    }
}

/// Marks `Self` as a task of workflow `W`, so that a run-time graph of `W` takes only nodes of its
/// own tasks. `#[workflow]` implements it for the tasks in the module.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task of the workflow `{W}`",
    label = "a task of another workflow"
)]
pub trait PartOf<W>: Task {}

/// The input type of a workflow whose tasks take inputs of different types. It has no values. Start
/// such a workflow with a graph built at run time, in which every node has its own input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub enum NodesOnly {}

/// Whether a [`Workflow`] implementation and its builder agree.
fn check<W: Workflow>(spec: &WorkflowSpec) -> Result<(), AuthoringError> {
    if spec.name != W::NAME {
        return Err(AuthoringError::Id {
            said: W::NAME.to_owned(),
            is: spec.name.clone(),
        });
    }
    let said = TypeInfo::of::<W::Input>();
    let only_nodes = TypeInfo::of::<NodesOnly>();
    // A workflow that only graphs start may use this type even if its tasks share one input type.
    if said != only_nodes {
        let input = spec.input.unwrap_or(only_nodes);
        AuthoringError::check_type(W::NAME, "input", said, input)?;
    }
    let output = TypeInfo::of::<W::Output>();
    AuthoringError::check_type(W::NAME, "output", output, spec.output_type)
}
