//! What [`defer_until`](super::TaskHandle::defer_until) polls: a closure that says, at once or as a
//! future, `true` or `false`, or that it failed.

use std::marker::PhantomData;

use crate::authoring::TaskError;

/// What a condition says.
pub trait Verdict: Send {
    /// Whether it holds.
    fn verdict(self) -> Result<bool, TaskError>;
}

impl Verdict for bool {
    fn verdict(self) -> Result<bool, TaskError> {
        Ok(self)
    }
}

impl<E: Into<TaskError> + Send> Verdict for Result<bool, E> {
    fn verdict(self) -> Result<bool, TaskError> {
        self.map_err(Into::into)
    }
}

/// A condition to poll. `Kind` is found by the compiler and has no meaning of its own.
///
/// Implemented for closures that return `bool` or `Result<bool, E>`, and for closures that return
/// a future of one of these.
#[diagnostic::on_unimplemented(
    message = "this is not a condition",
    label = "not a condition",
    note = "a condition is a closure that returns `bool`, `Result<bool, E>`, or a `Send` future of one of these"
)]
pub trait Condition<Kind>: Send {
    /// Looks once.
    fn check(&mut self) -> impl Future<Output = Result<bool, TaskError>> + Send;
}

/// Stands for closures that answer at once in [`Condition`]'s `Kind`.
pub struct Immediate<V>(PhantomData<fn() -> V>);

/// Stands for closures that answer with a future in [`Condition`]'s `Kind`.
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
