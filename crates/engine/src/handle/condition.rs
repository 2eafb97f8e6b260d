//! The conditions that [`defer_until`](super::TaskHandle::defer_until) polls: a closure that
//! returns `true`, `false` or an error, directly or as a future.

use std::marker::PhantomData;

use crate::authoring::{IntoTaskError, TaskError};

/// What a condition returns.
pub trait Verdict: Send {
    /// Whether the condition is true.
    fn verdict(self) -> Result<bool, TaskError>;
}

impl Verdict for bool {
    fn verdict(self) -> Result<bool, TaskError> {
        Ok(self)
    }
}

impl<E: IntoTaskError + Send> Verdict for Result<bool, E> {
    fn verdict(self) -> Result<bool, TaskError> {
        self.map_err(IntoTaskError::into_task_error)
    }
}

/// A condition to poll. The compiler infers `Kind`, which has no meaning of its own.
///
/// Implemented for closures that return `bool` or `Result<bool, E>`, and for closures that return a
/// future of one of these.
#[diagnostic::on_unimplemented(
    message = "this is not a condition",
    label = "not a condition",
    note = "a condition is a closure that returns `bool`, `Result<bool, E>`, or a `Send` future of one of these"
)]
pub trait Condition<Kind>: Send {
    /// Checks the condition once.
    fn check(&mut self) -> impl Future<Output = Result<bool, TaskError>> + Send;
}

/// The `Kind` of closures that return their value directly.
pub struct Immediate<V>(PhantomData<fn() -> V>);

/// The `Kind` of closures that return a future.
pub struct Polled<F>(PhantomData<fn() -> F>);

impl<C, V> Condition<Immediate<V>> for C
where
    C: FnMut() -> V + Send,
    V: Verdict,
{
    async fn check(&mut self) -> Result<bool, TaskError> {
        self().verdict()
    }
}

impl<C, F> Condition<Polled<F>> for C
where
    C: FnMut() -> F + Send,
    F: Future<Output: Verdict> + Send,
{
    async fn check(&mut self) -> Result<bool, TaskError> {
        self().await.verdict()
    }
}
