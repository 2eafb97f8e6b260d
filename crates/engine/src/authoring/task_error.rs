//! The error of a task: any error, its kind and its retry instruction. It is stored as a
//! [`Failure`], and crosses processes in this form. Like other catch-all error types it does not
//! implement `std::error::Error`, so that `?` can convert every type that does.

use std::any::type_name;
use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use abide_core::failure::{Failure, MAX_CHAIN, RetryHint, kinds};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::standard_error::{IntoTaskError, StandardError, hidden};
use crate::panics::drop_caught;

pub(super) type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// Why a task failed.
///
/// `?` converts every `std::error::Error` into a `TaskError`, which keeps
///
/// - the error's **kind**: the short name of its type, such as `ParseIntError`; `reqwest::Error`
///   for a type that is just called `Error`; `io::NotFound` and the like for an [`io::Error`].
///   Retry rules (`retry_if`) and lists of failed tasks use the kind.
/// - the error's **message** and the messages of its sources.
/// - the error's **value**, if the task's own error type is `Serialize`. A caller of the task gets
///   the value back with [`downcast`](TaskError::downcast).
///
/// ```
/// use abide::TaskError;
///
/// fn parse(text: &str) -> Result<i32, TaskError> {
///     Ok(text.parse::<i32>()?)
/// }
///
/// let error = parse("seven").expect_err("not a number");
/// assert_eq!(error.kind(), "ParseIntError");
/// assert_eq!(error.to_string(), "invalid digit found in string");
/// ```
///
/// A `TaskError` may carry a retry instruction: [`fatal`](TaskError::fatal) ends the retries, and
/// [`retry_after`](TaskError::retry_after) sets the wait before the next attempt. Without an
/// instruction, the task's own retry options decide.
pub struct TaskError(Box<Inner>);

struct Inner {
    failure: Failure,
    /// The error itself, while it is in the process where it was made.
    error: Option<BoxError>,
}

impl TaskError {
    /// An error with a kind and a message of your own.
    ///
    /// ```
    /// # use abide::TaskError;
    /// let error = TaskError::new("card_declined", "the bank said no");
    /// assert_eq!(error.kind(), "card_declined");
    /// assert_eq!(error.to_string(), "the bank said no");
    /// ```
    pub fn new(kind: impl Into<String>, message: impl fmt::Display) -> TaskError {
        TaskError::from_failure(Failure::new(kind, message.to_string()), None)
    }

    /// Marks the error as one that no retry can cure. The task fails now, whatever its retry
    /// options say.
    ///
    /// ```
    /// # use abide::TaskError;
    /// let error = TaskError::fatal(TaskError::new("unknown_customer", "no customer 7"));
    /// assert!(error.is_fatal());
    /// let error = TaskError::fatal("x".parse::<u8>().expect_err("not a number"));
    /// assert_eq!(error.kind(), "ParseIntError");
    /// ```
    pub fn fatal(error: impl IntoTaskError) -> TaskError {
        let mut error = error.into_task_error();
        error.0.failure.retry = RetryHint::Fatal;
        error
    }

    /// Sets how long to wait before the next attempt, instead of the task's backoff. This does not
    /// add an attempt: the task's retry options still decide whether there is one.
    ///
    /// ```
    /// # use abide::TaskError;
    /// # use std::time::Duration;
    /// let busy = TaskError::new("rate_limited", "429 Too Many Requests");
    /// let error = TaskError::retry_after(busy, Duration::from_secs(30));
    /// assert_eq!(error.kind(), "rate_limited");
    /// ```
    pub fn retry_after(error: impl IntoTaskError, delay: Duration) -> TaskError {
        let mut error = error.into_task_error();
        let delay_us = i64::try_from(delay.as_micros()).unwrap_or(i64::MAX);
        error.0.failure.retry = RetryHint::After(delay_us);
        error
    }

    /// An error whose value callers can get back with [`downcast`](TaskError::downcast). A
    /// `#[task]` that returns such an error does this automatically.
    ///
    /// ```
    /// # use abide::TaskError;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Debug, PartialEq, Serialize, Deserialize)]
    /// struct OutOfStock { left: u32 }
    /// # impl std::fmt::Display for OutOfStock {
    /// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "{} left", self.left) }
    /// # }
    /// impl std::error::Error for OutOfStock {}
    ///
    /// let error = TaskError::typed(OutOfStock { left: 2 });
    /// assert_eq!(error.kind(), "OutOfStock");
    /// assert_eq!(error.downcast::<OutOfStock>(), Some(OutOfStock { left: 2 }));
    /// ```
    pub fn typed<E: Error + Serialize + Send + Sync + 'static>(error: E) -> TaskError {
        // An error whose value cannot be serialized keeps its kind and message.
        let payload = serde_json::to_value(&error).ok();
        let mut error = TaskError::from(error);
        error.0.failure.payload = payload;
        error
    }

    /// An error from a box, as other catch-all types give it (`anyhow::Error::into`). The error's
    /// type is no longer known, so its kind is the kind of the [`io::Error`] that it wraps, or else
    /// `error`. An error that was boxed by [`into_error`](TaskError::into_error) comes back
    /// unchanged. An error that was made by [`into_std`](TaskError::into_std) keeps its kind
    /// through any catch-all type.
    ///
    /// ```
    /// # use abide::TaskError;
    /// let error = TaskError::from_boxed("out of luck".into());
    /// assert_eq!((error.kind(), error.message()), ("error", "out of luck"));
    /// ```
    pub fn from_boxed(error: BoxError) -> TaskError {
        match error.downcast::<Opaque>() {
            Ok(opaque) => opaque.0,
            Err(error) => {
                if let Some(failure) = hidden(&*error) {
                    return TaskError::from_failure(failure, Some(error));
                }
                let io = chain(&*error).find_map(|cause| cause.downcast_ref::<io::Error>());
                let kind = io.map_or_else(|| kinds::ERROR.to_owned(), io_kind);
                TaskError::with_causes(kind, error)
            }
        }
    }

    /// The same error with another kind.
    ///
    /// ```
    /// # use abide::TaskError;
    /// let error = TaskError::from("x".parse::<u8>().expect_err("not a number"));
    /// assert_eq!(error.with_kind("bad_row").kind(), "bad_row");
    /// ```
    #[must_use]
    pub fn with_kind(mut self, kind: impl Into<String>) -> TaskError {
        self.0.failure.kind = kind.into();
        self
    }

    /// The error's kind; see the documentation of this type.
    pub fn kind(&self) -> &str {
        &self.0.failure.kind
    }

    /// The error's message, without its causes.
    pub fn message(&self) -> &str {
        &self.0.failure.message
    }

    /// The messages of the error's sources, the nearest first. If the task was not retried although
    /// it had an attempt left, the last message says why.
    ///
    /// ```
    /// # use abide::TaskError;
    /// # #[derive(Debug)] struct Unreadable(std::io::Error);
    /// # impl std::fmt::Display for Unreadable {
    /// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("unreadable") }
    /// # }
    /// # impl std::error::Error for Unreadable {
    /// #     fn source(&self) -> Option<&(dyn std::error::Error + 'static)> { Some(&self.0) }
    /// # }
    /// let error = TaskError::from(Unreadable(std::io::Error::other("disk on fire")));
    /// assert_eq!(error.causes().collect::<Vec<_>>(), ["disk on fire"]);
    /// assert_eq!(format!("{error:#}"), "unreadable: disk on fire");
    /// ```
    pub fn causes(&self) -> impl Iterator<Item = &str> {
        self.0.failure.chain.iter().map(String::as_str)
    }

    /// Whether the error is marked [`fatal`](TaskError::fatal), so that no retry follows.
    pub fn is_fatal(&self) -> bool {
        self.0.failure.retry == RetryHint::Fatal
    }

    /// The failed task's own error, if it is an `E` and was serialized (see
    /// [`typed`](TaskError::typed)). Also works for an error that was read back from the store.
    pub fn downcast<E: DeserializeOwned + 'static>(&self) -> Option<E> {
        if self.kind() != kind_of_type(type_name::<E>()) {
            return None;
        }
        E::deserialize(self.payload()?).ok()
    }

    /// The original error, if it is an `E` and is still in the process where it was made. An error
    /// that was read back from the store has none.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.error.as_ref()?.downcast_ref()
    }

    /// The serialized value of the failed task's own error, if it has one.
    pub fn payload(&self) -> Option<&Value> {
        self.0.failure.payload.as_ref()
    }

    /// This error as a `std::error::Error`, for code that needs one. `?` does the same where a
    /// `Box<dyn Error>` is expected.
    ///
    /// ```
    /// # use abide::TaskError;
    /// fn run() -> Result<(), Box<dyn std::error::Error>> {
    ///     Err(TaskError::new("late", "too late"))?
    /// }
    /// assert_eq!(run().expect_err("always").to_string(), "too late");
    /// ```
    pub fn into_error(self) -> BoxError {
        Box::new(Opaque(self))
    }

    /// This error in a form that `?` converts into other catch-all types, such as `anyhow::Error`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use abide::{TaskError, TaskHandle, workflow};
    ///
    /// #[workflow]
    /// async fn remind(handle: &TaskHandle) -> anyhow::Result<()> {
    ///     handle.sleep(Duration::from_secs(3600)).await.map_err(TaskError::into_std)?;
    ///     Ok(())
    /// }
    /// # fn main() {}
    /// ```
    ///
    /// The conversion is explicit because of a rule of Rust: a type to which `?` converts every
    /// error, such as `TaskError` or `anyhow::Error`, cannot implement `std::error::Error` itself.
    pub fn into_std(self) -> StandardError {
        StandardError::new(self)
    }

    /// The error itself, while it is in the process where it was made.
    pub(super) fn error(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.0.error.as_deref()
    }

    pub(super) fn failure(&self) -> &Failure {
        &self.0.failure
    }

    pub(super) fn with_causes(kind: String, error: BoxError) -> TaskError {
        TaskError::from_failure(Failure::from_error(kind, &*error), Some(error))
    }

    fn from_failure(failure: Failure, error: Option<BoxError>) -> TaskError {
        TaskError(Box::new(Inner { failure, error }))
    }
}

/// The error and its sources. Bounded, because a chain of sources could be a circle.
pub(super) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    fn source<'a>(error: &&'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
        (*error).source()
    }
    std::iter::successors(Some(error), source).take(MAX_CHAIN)
}

fn io_kind(error: &io::Error) -> String {
    format!("io::{:?}", error.kind())
}

/// `a::b::Wrapped<c::Inner>` becomes `Wrapped<Inner>`. `a::b::Error` becomes `a::Error`, because
/// the name `Error` alone does not identify a type.
pub(super) fn kind_of_type(type_name: &str) -> String {
    let mut short = String::new();
    let mut path = String::new();
    for c in type_name.chars() {
        if c.is_alphanumeric() || c == '_' || c == ':' {
            path.push(c);
        } else {
            short.push_str(last_segment(&path));
            short.push(c);
            path.clear();
        }
    }
    short.push_str(last_segment(&path));
    match type_name.split_once("::") {
        Some((krate, _)) if short == "Error" => format!("{krate}::Error"),
        _ => short,
    }
}

fn last_segment(path: &str) -> &str {
    path.rsplit("::").next().unwrap_or(path)
}

impl<E: Error + Send + Sync + 'static> From<E> for TaskError {
    fn from(error: E) -> TaskError {
        let any: &dyn std::any::Any = &error;
        let kind = match any.downcast_ref::<io::Error>() {
            Some(error) => io_kind(error),
            None => kind_of_type(type_name::<E>()),
        };
        TaskError::with_causes(kind, Box::new(error))
    }
}

impl TaskError {
    /// The stored form of this error. A panic while the error is dropped is logged and stops here.
    pub fn into_failure(self) -> Failure {
        let Inner { failure, error } = *self.0;
        drop_caught(error);
        failure
    }

    /// The error of which this is the stored form.
    pub fn of_failure(failure: Failure) -> TaskError {
        TaskError::from_failure(failure, None)
    }
}

/// The message alone; `{:#}` adds the causes, each after a colon.
impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())?;
        if f.alternate() {
            for cause in self.causes() {
                write!(f, ": {cause}")?;
            }
        }
        Ok(())
    }
}

/// Kind, message and causes in words. A `main` that returns this error prints this text.
impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self:#}", self.kind())
    }
}

impl From<TaskError> for BoxError {
    fn from(error: TaskError) -> BoxError {
        error.into_error()
    }
}

impl From<TaskError> for Box<dyn Error> {
    fn from(error: TaskError) -> Box<dyn Error> {
        error.into_error()
    }
}

struct Opaque(TaskError);

impl fmt::Display for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Opaque {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Error for Opaque {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.0.error.as_ref()?.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Unreadable(io::Error);

    impl fmt::Display for Unreadable {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("unreadable")
        }
    }

    impl Error for Unreadable {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct OutOfStock {
        left: Option<u32>,
    }

    impl fmt::Display for OutOfStock {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("out of stock")
        }
    }

    impl Error for OutOfStock {}

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Similar {
        left: Option<u32>,
    }

    #[test]
    fn a_kind_is_the_short_name_of_the_type() {
        let kinds = [
            ("app::IoFailure", "IoFailure"),
            (
                "app::errors::Wrapped<app::Inner, alloc::string::String>",
                "Wrapped<Inner, String>",
            ),
            ("core::num::error::ParseIntError", "ParseIntError"),
            ("reqwest::error::Error", "reqwest::Error"),
            ("serde_json::error::Error", "serde_json::Error"),
            ("app::Fail<serde_json::error::Error>", "Fail<Error>"),
            ("Error", "Error"),
        ];
        for (name, kind) in kinds {
            assert_eq!(kind_of_type(name), kind);
        }
    }

    #[test]
    fn an_io_error_keeps_its_own_kind() {
        let error = TaskError::from(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(error.kind(), "io::NotFound");
        let io = error.downcast_ref::<io::Error>().expect("still here");
        assert_eq!(io.kind(), io::ErrorKind::NotFound);
        let boxed: BoxError = Box::new(Unreadable(io::ErrorKind::TimedOut.into()));
        assert_eq!(TaskError::from_boxed(boxed).kind(), "io::TimedOut");
    }

    #[test]
    fn message_and_sources_are_kept_apart() {
        let error = TaskError::from(Unreadable(io::Error::other("disk on fire")));
        assert_eq!(error.kind(), "Unreadable");
        assert_eq!(error.message(), "unreadable");
        assert_eq!(error.to_string(), "unreadable");
        assert_eq!(format!("{error:#}"), "unreadable: disk on fire");
        assert_eq!(format!("{error:?}"), "Unreadable: unreadable: disk on fire");
        let boxed = error.into_error();
        assert_eq!(boxed.source().expect("kept").to_string(), "disk on fire");
    }

    #[test]
    fn a_typed_error_survives_being_stored() {
        let failure = TaskError::typed(OutOfStock { left: None }).into_failure();
        let json = serde_json::to_string(&failure).expect("a failure is JSON");
        let read = TaskError::of_failure(serde_json::from_str(&json).expect("reads back"));
        assert_eq!(
            read.downcast::<OutOfStock>(),
            Some(OutOfStock { left: None })
        );
        assert_eq!(
            read.downcast::<Similar>(),
            None,
            "another type of the same form"
        );
        assert!(
            read.downcast_ref::<OutOfStock>().is_none(),
            "the value itself stayed behind"
        );
    }

    #[test]
    fn an_error_that_was_not_serialized_has_no_value() {
        let error = TaskError::from(OutOfStock { left: Some(1) });
        assert_eq!(error.downcast::<OutOfStock>(), None);
        assert_eq!(
            error.downcast_ref::<OutOfStock>(),
            Some(&OutOfStock { left: Some(1) })
        );
    }

    #[test]
    fn wishes_about_retries_are_stored() {
        let error = || TaskError::new("busy", "try later");
        assert_eq!(error().into_failure().retry, RetryHint::Default);
        assert_eq!(
            TaskError::fatal(error()).into_failure().retry,
            RetryHint::Fatal
        );
        let later = TaskError::retry_after(error(), Duration::from_secs(2));
        assert_eq!(later.into_failure().retry, RetryHint::After(2_000_000));
        let never = TaskError::retry_after(error(), Duration::MAX);
        assert_eq!(never.into_failure().retry, RetryHint::After(i64::MAX));
    }

    #[test]
    fn what_was_boxed_comes_back_as_it_was() {
        let error = TaskError::fatal(TaskError::typed(OutOfStock { left: Some(2) }));
        let error = TaskError::from_boxed(error.into_error());
        assert!(error.is_fatal());
        assert_eq!(
            error.downcast::<OutOfStock>(),
            Some(OutOfStock { left: Some(2) })
        );
    }
}
