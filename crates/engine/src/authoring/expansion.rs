//! The functions and traits that the expansions of `#[task]` and `#[workflow]` call. Not part of
//! the API: they change with the macros, which have the same version.

use abide_core::context::Changes;

use super::box_future::BoxFuture;
use super::call::Call;
use super::context::Context;
use super::needs::Needs;
use super::produced::Produced;
use super::task_builder::TaskBuilder;
use super::task_error::TaskError;
use super::type_info::TypeInfo;
use super::workflow::PartOf;
use crate::handle::TaskHandle;

pub use super::produced::produced;

/// A task whose parameters were given one by one.
pub fn task<O: 'static>(
    id: &str,
    needs: Needs,
    body: fn(Call) -> BoxFuture<'static, Result<Produced, TaskError>>,
) -> TaskBuilder {
    TaskBuilder::from_parts(
        id.to_owned(),
        needs,
        TypeInfo::of::<O>(),
        std::sync::Arc::new(body),
    )
}

/// Compiles only if `T` is a task of `W`.
pub const fn part_of<T: PartOf<W>, W>() {}

/// Types that may follow `&mut` in a task's parameters.
#[diagnostic::on_unimplemented(
    message = "a task can't take a `&mut {Self}`",
    label = "not a context",
    note = "what a task takes by `&mut` is its context: `&mut Context<Value>`"
)]
pub trait AContext: Sized {
    /// The context of this call.
    fn take(call: &mut Call) -> Self;

    /// The task's changes to it.
    fn into_changes(self) -> Option<Changes>;
}

impl<T> AContext for Context<T> {
    fn take(call: &mut Call) -> Context<T> {
        call.context()
    }

    fn into_changes(self) -> Option<Changes> {
        Some(self.into_changes())
    }
}

/// Types that may follow `&` in a task's parameters.
#[diagnostic::on_unimplemented(
    message = "a task can't take a `&{Self}`",
    label = "not a handle",
    note = "what a task takes by `&` is its handle: `&TaskHandle`; an input is taken by value"
)]
pub trait AHandle: Sized {
    /// The handle of this call.
    fn take(call: &mut Call) -> Self;
}

impl AHandle for TaskHandle {
    fn take(call: &mut Call) -> TaskHandle {
        call.handle()
    }
}

/// The types that a task may return, under any name.
#[diagnostic::on_unimplemented(
    message = "a task can't return a `{Self}`",
    label = "not a `Result`",
    note = "a task returns a `Result`, such as `Result<(), TaskError>`"
)]
pub trait TaskReturn {
    /// The type on success.
    type Output;
    /// The type of the error.
    type Error;

    /// The underlying `Result`.
    fn into_result(self) -> Result<Self::Output, Self::Error>;
}

impl<T, E> TaskReturn for Result<T, E> {
    type Output = T;
    type Error = E;

    fn into_result(self) -> Result<T, E> {
        self
    }
}

/// How an error type becomes a [`TaskError`]. The compiler chooses:
/// `(&&&&Of(&error)).conversion_to_task_error()` takes the first of these traits that fits, because
/// each trait is implemented one reference below the one before. A user's trait is unlikely to have
/// a method of this name.
pub mod convert {
    use std::error::Error;

    use serde::Serialize;

    use crate::authoring::TaskError;

    /// The error whose conversion is chosen.
    pub struct Of<'a, E>(pub &'a E);

    /// The error is a [`TaskError`] already.
    pub struct Same;
    /// A serializable error: callers get its value back.
    pub struct Typed;
    /// Any other error.
    pub struct Plain;
    /// An error that only converts to a boxed error, as catch-all types and strings do.
    pub struct Boxed;

    /// Chooses [`Same`].
    pub trait ChooseSame {
        /// The choice.
        fn conversion_to_task_error(&self) -> Same {
            Same
        }
    }
    impl ChooseSame for &&&Of<'_, TaskError> {}

    /// Chooses [`Typed`].
    pub trait ChooseTyped {
        /// The choice.
        fn conversion_to_task_error(&self) -> Typed {
            Typed
        }
    }
    impl<E: Error + Serialize + Send + Sync + 'static> ChooseTyped for &&Of<'_, E> {}

    /// Chooses [`Plain`].
    pub trait ChoosePlain {
        /// The choice.
        fn conversion_to_task_error(&self) -> Plain {
            Plain
        }
    }
    impl<E: Error + Send + Sync + 'static> ChoosePlain for &Of<'_, E> {}

    /// Chooses [`Boxed`].
    pub trait ChooseBoxed {
        /// The choice.
        fn conversion_to_task_error(&self) -> Boxed {
            Boxed
        }
    }
    impl<E> ChooseBoxed for Of<'_, E> {}

    impl Same {
        /// Returns the error unchanged.
        pub fn convert(self, error: TaskError) -> TaskError {
            error
        }
    }

    impl Typed {
        /// Keeps the error's value.
        pub fn convert<E: Error + Serialize + Send + Sync + 'static>(self, error: E) -> TaskError {
            TaskError::typed(error)
        }
    }

    impl Plain {
        /// Keeps the error's kind, message and sources.
        pub fn convert<E: Error + Send + Sync + 'static>(self, error: E) -> TaskError {
            TaskError::from(error)
        }
    }

    impl Boxed {
        /// Keeps the error's message and sources.
        pub fn convert<E: IntoBoxed>(self, error: E) -> TaskError {
            TaskError::from_boxed(error.into_boxed())
        }
    }

    /// Types that convert to a boxed error.
    #[diagnostic::on_unimplemented(
        message = "a task can't fail with a `{Self}`",
        label = "not an error",
        note = "a task fails with a `TaskError`, with any `std::error::Error` that is Send and Sync, or with what \
                converts to a `Box<dyn Error + Send + Sync>`"
    )]
    pub trait IntoBoxed {
        /// The boxed error.
        fn into_boxed(self) -> Box<dyn Error + Send + Sync>;
    }

    impl<E: Into<Box<dyn Error + Send + Sync>>> IntoBoxed for E {
        fn into_boxed(self) -> Box<dyn Error + Send + Sync> {
            self.into()
        }
    }
}
