//! How a task learns that it should stop.

use std::fmt;
use std::sync::Arc;

use abide_core::failure::{Failure, kinds};

use super::TaskHandle;
use crate::attempt::Attempt;
use crate::authoring::TaskError;

/// Says when a task should stop. Clones are the same token; it can be handed to code that knows
/// nothing of tasks.
#[derive(Clone)]
pub struct CancellationToken {
    attempt: Arc<Attempt>,
}

impl CancellationToken {
    /// Whether the task should stop.
    pub fn is_cancelled(&self) -> bool {
        self.attempt.is_cancelled()
    }

    /// Ends when the task should stop.
    pub async fn cancelled(&self) {
        self.attempt.cancelled().await;
    }
}

impl fmt::Debug for CancellationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancellationToken")
            .field(&self.is_cancelled())
            .finish()
    }
}

/// A task is asked to stop when its execution is cancelled or runs past its deadline, and when its
/// worker has lost it. It may clean up and return; whatever it returns, it ends Cancelled. If it is
/// still there when the grace period is over, its future is dropped. A task that only waits, on
/// [`sleep`](TaskHandle::sleep) or [`signal`](TaskHandle::signal), is dropped at once.
impl TaskHandle {
    /// Whether the task should stop.
    pub fn is_cancelled(&self) -> bool {
        self.attempt.is_cancelled()
    }

    /// Ends when the task should stop.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<'_> {
        self.attempt.cancelled()
    }

    /// A token that says when the task should stop, to hand on.
    pub fn cancellation_token(&self) -> CancellationToken {
        CancellationToken {
            attempt: Arc::clone(&self.attempt),
        }
    }

    pub(super) fn cancellation_error(&self) -> TaskError {
        TaskError::of_failure(Failure::engine(
            kinds::CANCELLED,
            "the execution is stopping",
        ))
    }
}
