//! The types that stand for tasks and workflows, so that dependencies, starts and results are
//! checked by the compiler. `#[task]` and `#[workflow]` implement these traits; so can you.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::authoring_error::AuthoringError;
use super::builder::{TaskBuilder, WorkflowBuilder};
use super::erased::WorkflowSpec;

/// A task's types. `#[task]` implements it for a type with the function's name.
///
/// By hand it is a few lines:
///
/// ```
/// use abide::{Input, Task, TaskBuilder, TaskError};
///
/// pub struct Double;
///
/// impl Task for Double {
///     const ID: &'static str = "double";
///     type Input = u32;
///     type Output = u32;
///     type Error = TaskError;
///
///     fn builder() -> TaskBuilder {
///         TaskBuilder::new(Self::ID, async |Input(n): Input<u32>| Ok::<u32, TaskError>(2 * n)).retries(3)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task",
    label = "not a task",
    note = "put `#[task]` on the function, or implement `abide::Task`"
)]
pub trait Task: Send + Sync + 'static {
    /// The id it has in graphs, in the store and in history. Unique within a workflow.
    const ID: &'static str;

    /// What it takes; `()` if it takes no input.
    type Input: Serialize + DeserializeOwned + Send + 'static;

    /// What it returns.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// What it fails with.
    type Error;

    /// The task with its options and its function.
    fn builder() -> TaskBuilder;
}

/// A workflow's types. `#[workflow]` implements it for `module::Workflow`, or for a type with
/// the function's name.
///
/// By hand:
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
    /// The name it is started by.
    const NAME: &'static str;

    /// What an execution is started with; `()` if none of its tasks takes an input.
    type Input: Serialize + DeserializeOwned + Send + 'static;

    /// The execution's result: the output of one of its tasks, or `()`.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// What a failed execution fails with.
    type Error;

    /// The workflow with its options and its tasks.
    fn builder() -> WorkflowBuilder;

    /// The workflow, built and checked, its functions' types against those said here too.
    fn spec() -> Result<WorkflowSpec, AuthoringError> {
        let spec = Self::builder().build()?;
        AuthoringError::check_workflow::<Self>(&spec)?;
        Ok(spec)
    }
}

/// Says that task `Self` belongs to workflow `W`, so that a run-time graph of `W` takes nodes of
/// its own tasks only. `#[workflow]` implements it for the tasks in the module.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a task of the workflow `{W}`",
    label = "a task of another workflow"
)]
pub trait PartOf<W>: Task {}

/// The input type of a workflow whose tasks take inputs of several types. It has no values: such
/// a workflow is started with a graph built at run time, where every node has its own input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub enum NodesOnly {}
