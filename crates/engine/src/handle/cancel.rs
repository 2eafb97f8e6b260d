//! How a task learns that it should stop.

use std::fmt;
use std::sync::Arc;

use abide_core::failure::{Failure, kinds};

use super::TaskHandle;
use crate::attempt::Attempt;
use crate::authoring::TaskError;

/// Tells when a task should stop. Clones are the same token. You can pass a token to code that
/// knows nothing of tasks.
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

/// A task should stop when its execution is cancelled or passes its deadline, and when its worker
/// has lost the task. The task may clean up and return; it ends Cancelled, whatever it returns. If
/// the task has not returned by the end of the grace period, its future is dropped. A task that
/// only waits, on [`sleep`](TaskHandle::sleep) or [`signal`](TaskHandle::signal), is dropped at
/// once.
impl TaskHandle {
    /// Whether the task should stop.
    pub fn is_cancelled(&self) -> bool {
        self.attempt.is_cancelled()
    }

    /// Ends when the task should stop.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + use<'_> {
        self.attempt.cancelled()
    }

    /// A token that tells when the task should stop, to pass to other code.
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
