//! The types that represent tasks, so that the compiler checks dependencies and results. `#[task]`
//! implements the trait, and you can implement it too.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::authoring_error::AuthoringError;
use super::task_builder::TaskBuilder;
use super::type_info::TypeInfo;

/// A task's types. `#[task]` implements it for a type with the function's name.
///
/// You can also implement it yourself:
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
    /// The task's id in graphs, in the store and in history. Unique within a workflow.
    const ID: &'static str;

    /// The type of its input; `()` if it takes none.
    type Input: Serialize + DeserializeOwned + Send + 'static;

    /// The type of its output.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// The type of its error.
    type Error;

    /// The task with its options and its function.
    fn builder() -> TaskBuilder;
}

/// Whether a [`Task`] implementation and its builder agree.
pub(super) fn check<T: Task>(task: &TaskBuilder) -> Result<(), AuthoringError> {
    if task.spec.id != T::ID {
        return Err(AuthoringError::Id {
            said: T::ID.to_owned(),
            is: task.spec.id.clone(),
        });
    }
    let input = task.needs.input.unwrap_or(TypeInfo::of::<()>());
    AuthoringError::check_type(T::ID, "input", TypeInfo::of::<T::Input>(), input)?;
    AuthoringError::check_type(T::ID, "output", TypeInfo::of::<T::Output>(), task.output)
}
