//! Panics of users' code. The engine calls and drops all users' code and values through this
//! module, so that a panic ends one attempt with a failure and nothing else. The payload of a panic
//! also belongs to the user: dropping it may panic again.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;

use abide_core::failure::{Failure, kinds};

/// Calls a user's code. A panic becomes a failure with the panic's message.
pub(crate) fn caught<R>(call: impl FnOnce() -> R) -> Result<R, Failure> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| {
        let failure = failure_of(&*payload);
        drop_payload(payload);
        failure
    })
}

/// Drops a user's value. A panic is logged.
pub(crate) fn drop_caught<T>(value: T) {
    if let Err(failure) = caught(|| drop(value)) {
        tracing::warn!(%failure, "a value of a task panicked while it was dropped");
    }
}

/// Polls a future that calls a user's code. A panic ends the future with a failure.
pub(crate) async fn caught_in<F: Future>(future: F) -> Result<F::Output, Failure> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match caught(|| future.as_mut().poll(cx)) {
        Ok(polled) => polled.map(Ok),
        Err(failure) => std::task::Poll::Ready(Err(failure)),
    })
    .await
}

fn failure_of(payload: &(dyn Any + Send)) -> Failure {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    Failure::engine(kinds::PANIC, text.unwrap_or("the task panicked"))
}

/// Drops the payload of a panic. If that drop panics too, its payload is leaked, because dropping
/// it could panic without end.
fn drop_payload(payload: Box<dyn Any + Send>) {
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics with itself, as often as it is dropped.
    struct Endless;

    impl Drop for Endless {
        fn drop(&mut self) {
            std::panic::panic_any(Endless);
        }
    }

    #[test]
    fn a_payload_that_panics_when_dropped_is_no_panic_of_the_caller() {
        let failure = caught(|| std::panic::panic_any(Endless)).expect_err("it panics");
        assert_eq!(failure, Failure::engine(kinds::PANIC, "the task panicked"));
        drop_caught(Endless);
    }

    #[test]
    fn a_panic_says_what_its_text_says() {
        for failure in [
            caught(|| panic!("disk")).expect_err("it panics"),
            caught(|| panic!("{}", "disk")).expect_err("it panics"),
        ] {
            assert_eq!(failure.message, "disk");
        }
    }
}
