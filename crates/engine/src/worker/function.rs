//! The user's function while it runs: polled and dropped behind a catch.

use std::task::{Context, Poll};

use abide_core::failure::Failure;

use crate::authoring::{BoxFuture, Produced, TaskError};
use crate::handle::place::Place;
use crate::panics::{caught, drop_caught};

/// A task's function, as far as it has run.
pub(super) struct Function {
    future: Option<BoxFuture<'static, Result<Produced, TaskError>>>,
    place: Place,
}

/// What a function returned. A panic is a failure as well.
pub(super) type Returned = Result<Produced, Failure>;

impl Function {
    pub(super) fn new(
        future: BoxFuture<'static, Result<Produced, TaskError>>,
        place: Place,
    ) -> Function {
        let future = Some(future);
        Function { future, place }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Returned> {
        let Some(future) = &mut self.future else {
            return Poll::Pending;
        };
        match caught(|| self.place.run(|| future.as_mut().poll(cx))) {
            Ok(polled) => polled.map(|result| result.map_err(TaskError::into_failure)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }

    /// Drops it, and with it all that it owns.
    pub(super) fn discard(&mut self) {
        drop_caught(self.future.take());
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        self.discard();
    }
}
