//! The bridge between [`TaskError`] and other catch-all error types, which take only types that
//! implement `std::error::Error` and hide them behind a type of their own.

use std::any::{TypeId, type_name};
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;

use abide_core::failure::Failure;

use super::task_error::{BoxError, TaskError, chain, kind_of_type};

/// A [`TaskError`] that implements `std::error::Error`, so that `?` converts it to an
/// `anyhow::Error` or a similar type; see [`TaskError::into_std`]. If a task then fails with that
/// error, it keeps the `TaskError`'s kind, whatever context was added.
pub struct StandardError(Kept);

impl StandardError {
    pub(super) fn new(error: TaskError) -> StandardError {
        StandardError(Kept(error))
    }

    /// The error of the task.
    pub fn into_task_error(self) -> TaskError {
        self.0.0
    }
}

impl fmt::Display for StandardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.0, f)
    }
}

impl fmt::Debug for StandardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.0, f)
    }
}

impl Error for StandardError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// The same error again, as the first source of a [`StandardError`]. Other error types give access
/// only to the sources of the error that they hide.
struct Kept(TaskError);

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an error of kind `{}`", self.0.kind())
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Error for Kept {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.error()?.source()
    }
}

/// The failure that is hidden in an error, together with the context that was added. Its kind,
/// value and retry instruction are kept, and its message becomes a cause.
pub(super) fn hidden(error: &(dyn Error + 'static)) -> Option<Failure> {
    let mut around: Vec<String> = Vec::new();
    for cause in chain(error) {
        let Some(Kept(kept)) = cause.downcast_ref::<Kept>() else {
            around.push(cause.to_string());
            continue;
        };
        let mut failure = kept.failure().clone();
        // The last of these is the failure's own message.
        around.pop();
        if !around.is_empty() {
            let inner = std::mem::replace(&mut failure.message, around.remove(0));
            around.push(inner);
            around.append(&mut failure.chain);
            failure.chain = around;
        }
        return Some(failure);
    }
    None
}

/// The error types of a task, a step or a condition: a [`TaskError`], any `std::error::Error`, a
/// text, and catch-all types such as `anyhow::Error` and `Box<dyn Error + Send + Sync>`.
///
/// Implemented for every type that converts to a `Box<dyn Error + Send + Sync>`.
#[diagnostic::on_unimplemented(
    message = "a task can't fail with a `{Self}`",
    label = "not an error",
    note = "a task fails with a `TaskError`, with any `std::error::Error` that is Send and Sync, or with what \
            converts to a `Box<dyn Error + Send + Sync>`"
)]
pub trait IntoTaskError {
    /// The error of the task.
    fn into_task_error(self) -> TaskError;
}

impl<E: Into<BoxError> + 'static> IntoTaskError for E {
    fn into_task_error(self) -> TaskError {
        let error: BoxError = self.into();
        match tells_its_type::<E>(&*error) {
            true => TaskError::with_causes(kind_of_type(type_name::<E>()), error),
            false => TaskError::from_boxed(error),
        }
    }
}

/// Whether the box contains the error itself, so that the error's type is its kind. An ordinary
/// error converts to a box of itself. A catch-all type converts to a box of another type, which has
/// another size, except for the types of the standard library that are listed here.
fn tells_its_type<E: 'static>(boxed: &dyn Error) -> bool {
    let is_catch_all = [
        TypeId::of::<TaskError>(),
        TypeId::of::<io::Error>(),
        TypeId::of::<BoxError>(),
        TypeId::of::<String>(),
        TypeId::of::<&'static str>(),
        TypeId::of::<Cow<'static, str>>(),
    ]
    .contains(&TypeId::of::<E>());
    !is_catch_all && size_of_val(boxed) == size_of::<E>()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use abide_core::failure::RetryHint;
    use anyhow::Context;

    use super::*;

    #[derive(Debug)]
    struct Declined;

    impl fmt::Display for Declined {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("declined")
        }
    }

    impl Error for Declined {}

    fn kind_of(error: impl IntoTaskError) -> String {
        error.into_task_error().kind().to_owned()
    }

    #[test]
    fn an_error_s_kind_is_the_same_whichever_way_it_comes() {
        assert_eq!(kind_of(Declined), TaskError::from(Declined).kind());
        let parse = || "x".parse::<u8>().expect_err("not a number");
        assert_eq!(kind_of(parse()), "ParseIntError");
        let io = || io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(kind_of(io()), TaskError::from(io()).kind());
        assert_eq!(kind_of(TaskError::new("mine", "x")), "mine");
        assert_eq!(kind_of("a text"), "error");
        assert_eq!(kind_of("a text".to_owned()), "error");
        assert_eq!(kind_of(Cow::Borrowed("a text")), "error");
        let boxed = |error: BoxError| kind_of(error);
        assert_eq!(boxed(Box::new(Declined)), "error");
        assert_eq!(boxed(Box::new(io())), "io::NotFound");
        assert_eq!(boxed(TaskError::new("mine", "x").into()), "mine");
    }

    #[test]
    fn what_a_catch_all_error_hides_keeps_its_kind() {
        assert_eq!(kind_of(anyhow::anyhow!("no luck")), "error");
        let io = io::Error::from(io::ErrorKind::TimedOut);
        let error = anyhow::Error::from(io).context("asking the bank");
        let error = error.into_task_error();
        assert_eq!(
            (error.kind(), error.message()),
            ("io::TimedOut", "asking the bank")
        );
    }

    #[test]
    fn a_task_s_error_comes_back_from_a_catch_all_as_it_was() {
        let busy = || {
            let busy = TaskError::from(io::Error::other("line busy")).with_kind("busy");
            TaskError::retry_after(busy, Duration::from_secs(7))
        };
        let failure = busy().into_failure();
        let through = |error: anyhow::Error| error.into_task_error().into_failure();
        assert_eq!(through(anyhow::Error::from(busy().into_std())), failure);
        let back = busy().into_std().into_task_error();
        assert_eq!(back.into_failure(), failure);
        // What was read back from the store has no error any more, but its texts.
        let stored = TaskError::of_failure(failure.clone()).into_std();
        assert_eq!(through(stored.into()), failure);

        let charge = || -> anyhow::Result<()> {
            Err(busy().into_std()).context("charging")?;
            Ok(())
        };
        let kept = through(charge().context("order 7").expect_err("always"));
        assert_eq!(kept.kind, "busy");
        assert_eq!(kept.message, "order 7");
        assert_eq!(kept.chain, ["charging", "line busy"]);
        assert_eq!(kept.retry, RetryHint::After(7_000_000));
    }

    #[test]
    fn a_standard_error_shows_message_kind_and_causes() {
        let error = TaskError::from(Declined).into_std();
        assert_eq!(error.to_string(), "declined");
        assert_eq!(format!("{error:?}"), "Declined: declined");
        let error = anyhow::Error::from(error);
        assert_eq!(
            format!("{error:#}"),
            "declined: an error of kind `Declined`"
        );
    }
}
