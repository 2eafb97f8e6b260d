//! What a [`TaskBuilder`](super::task_builder::TaskBuilder) takes as a task's body.

use std::sync::Arc;

use super::box_future::BoxFuture;
use super::call::Call;
use super::needs::Needs;
use super::produced::Produced;
use super::task_error::TaskError;

/// An async function that can be a task's body. The compiler infers `Args`.
///
/// Implemented for functions and closures that return `Result<T, E>` with a serializable `T` and
/// an `E` that converts to [`TaskError`].
#[diagnostic::on_unimplemented(
    message = "this can't be a task's function",
    label = "not a task's function",
    note = "a task is an async function that returns a `Result`; it takes `&mut Context<_>` and `&TaskHandle` first \
            (if it wants them), then `Input<_>`, `State<_>`, `Output<task>` and the like, and its future is Send"
)]
pub trait Handler<Args>: Send + Sync + 'static {
    /// What the function returns on success.
    type Output: 'static;

    /// The needs of its parameters.
    fn needs() -> Needs;

    /// Takes the parameters out of the call and runs the function.
    fn run(self: Arc<Self>, call: Call) -> BoxFuture<'static, Result<Produced, TaskError>>;
}
