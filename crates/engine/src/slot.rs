//! Slots: a worker runs at most `max_concurrent_tasks` tasks at a time. A [`SlotToken`] owns one
//! of its permits, gives it away while the task waits, and takes its turn to get it back.

use std::sync::Arc;

use abide_core::failure::{Failure, kinds};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::authoring::TaskError;

/// A task's right to run.
///
/// The engine makes one for each task it claims and handles it behind
/// [`TaskHandle`](crate::TaskHandle); it is public for code that runs tasks in its own way.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use std::sync::Arc;
/// use abide::SlotToken;
/// use tokio::sync::Semaphore;
///
/// let slots = Arc::new(Semaphore::new(1));
/// let mut token = SlotToken::new(Arc::clone(&slots));
/// token.reclaim().await.expect("the semaphore is open");
/// assert_eq!(slots.available_permits(), 0);
/// token.release();
/// assert_eq!(slots.available_permits(), 1);
/// # }
/// ```
#[derive(Debug)]
pub struct SlotToken {
    permit: Option<OwnedSemaphorePermit>,
    semaphore: Arc<Semaphore>,
}

impl SlotToken {
    /// A token without a slot yet.
    pub fn new(semaphore: Arc<Semaphore>) -> SlotToken {
        SlotToken {
            permit: None,
            semaphore,
        }
    }

    /// A token that owns `permit`, which must be of `semaphore`.
    pub fn holding(semaphore: Arc<Semaphore>, permit: OwnedSemaphorePermit) -> SlotToken {
        SlotToken {
            permit: Some(permit),
            semaphore,
        }
    }

    /// Gives the slot away at once. Does nothing if it has none.
    pub fn release(&mut self) {
        self.permit = None;
    }

    /// Gets a slot, waiting its turn if all are taken. Does nothing if it has one. Fails only if
    /// the semaphore was closed.
    pub async fn reclaim(&mut self) -> Result<(), TaskError> {
        if self.permit.is_none() {
            let permit = Arc::clone(&self.semaphore).acquire_owned().await;
            let closed = |_| {
                let failure = Failure::engine(kinds::CANCELLED, "the worker's slots are gone");
                TaskError::of_failure(failure)
            };
            self.permit = Some(permit.map_err(closed)?);
        }
        Ok(())
    }

    /// Whether it has a slot.
    pub fn is_held(&self) -> bool {
        self.permit.is_some()
    }

    /// The permit, for somebody else to run in.
    pub(crate) fn take(&mut self) -> Option<OwnedSemaphorePermit> {
        self.permit.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_never_owns_more_than_one_slot() {
        let slots = Arc::new(Semaphore::new(2));
        let mut token = SlotToken::new(Arc::clone(&slots));
        token.reclaim().await.expect("a slot is free");
        token.reclaim().await.expect("it has one");
        assert_eq!(slots.available_permits(), 1);
        token.release();
        token.release();
        assert_eq!(slots.available_permits(), 2);
    }

    #[tokio::test]
    async fn a_dropped_token_returns_its_slot() {
        let slots = Arc::new(Semaphore::new(1));
        let mut token = SlotToken::new(Arc::clone(&slots));
        token.reclaim().await.expect("a slot is free");
        assert!(token.is_held());
        drop(token);
        assert_eq!(slots.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_closed_semaphore_is_an_error() {
        let slots = Arc::new(Semaphore::new(1));
        slots.close();
        let error = SlotToken::new(slots).reclaim().await.expect_err("closed");
        assert_eq!(error.kind(), kinds::CANCELLED);
    }
}
