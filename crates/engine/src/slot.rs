//! Slots: a worker runs at most `max_concurrent_tasks` tasks at the same time. A [`SlotToken`] owns
//! one of the worker's permits, releases it while its task waits, and reclaims it in turn. The
//! token of a task that must run alone also keeps the other permits for a while.

use std::sync::Arc;
use std::time::Duration;

use abide_core::failure::{Failure, kinds};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::authoring::TaskError;

/// A task's right to run. The engine makes one for each task that it claims and keeps it behind
/// [`TaskHandle`](crate::TaskHandle).
#[derive(Debug)]
pub(crate) struct SlotToken {
    permit: Option<OwnedSemaphorePermit>,
    semaphore: Arc<Semaphore>,
    apart: Option<Apart>,
    /// Keeps the other slots free.
    others: Option<Others>,
}

/// How a task is made to run alone.
#[derive(Clone, Debug)]
pub(crate) struct Apart {
    /// All slots of the worker.
    pub(crate) slots: u32,
    /// A semaphore with one permit, so that no two tasks wait for each other's slot.
    pub(crate) place: Arc<Semaphore>,
    /// How long the task waits until the other slots are free, and how long it then keeps them
    /// free. The other tasks must not wait for ever for a task that may be sound and take hours.
    pub(crate) patience: Duration,
}

/// The slots that no task may use meanwhile. Dropping this frees them.
#[derive(Debug)]
struct Others(AbortHandle);

impl Others {
    fn keep(permits: [OwnedSemaphorePermit; 2], patience: Duration) -> Others {
        let keep = async move {
            tokio::time::sleep(patience).await;
            drop(permits);
        };
        Others(tokio::spawn(keep).abort_handle())
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SlotToken {
    /// A token without a slot yet.
    pub(crate) fn new(semaphore: Arc<Semaphore>) -> SlotToken {
        SlotToken {
            permit: None,
            semaphore,
            apart: None,
            others: None,
        }
    }

    /// A token that owns `permit`, which must be of `semaphore`.
    pub(crate) fn holding(semaphore: Arc<Semaphore>, permit: OwnedSemaphorePermit) -> SlotToken {
        SlotToken {
            permit: Some(permit),
            semaphore,
            apart: None,
            others: None,
        }
    }

    /// Releases the slot at once. Does nothing if the token has no slot.
    pub(crate) fn release(&mut self) {
        self.others = None;
        self.permit = None;
    }

    /// Gets a slot, and waits its turn if all slots are taken. Does nothing if the token has a
    /// slot. Fails only if the semaphore was closed.
    pub(crate) async fn reclaim(&mut self) -> Result<(), TaskError> {
        if self.permit.is_none() {
            let permit = match self.apart.clone() {
                Some(apart) => self.reclaim_apart(apart).await,
                None => Arc::clone(&self.semaphore).acquire_owned().await,
            };
            let closed = |_| {
                let failure = Failure::engine(kinds::CANCELLED, "the worker's slots are gone");
                TaskError::of_failure(failure)
            };
            self.permit = Some(permit.map_err(closed)?);
        }
        Ok(())
    }

    /// Takes a slot and, for a while, all others. After waiting long enough, one slot is
    /// sufficient.
    async fn reclaim_apart(&mut self, apart: Apart) -> Result<OwnedSemaphorePermit, AcquireError> {
        let patience = apart.patience;
        let semaphore = Arc::clone(&self.semaphore);
        let all = async {
            let place = apart.place.acquire_owned().await?;
            let all = Arc::clone(&semaphore).acquire_many_owned(apart.slots);
            Ok((place, all.await?))
        };
        let Ok(all) = timeout(patience, all).await else {
            return semaphore.acquire_owned().await;
        };
        let (place, mut others) = all?;
        let own = others.split(1);
        self.others = Some(Others::keep([place, others], patience));
        match own {
            Some(own) => Ok(own),
            None => semaphore.acquire_owned().await,
        }
    }

    /// Keeps its slot, and waits until the task runs alone: until all other slots are free, or the
    /// patience ends. `place` is a permit of `apart`'s semaphore.
    pub(crate) async fn set_apart(&mut self, apart: Apart, place: OwnedSemaphorePermit) {
        let Apart {
            slots, patience, ..
        } = apart;
        let others = Arc::clone(&self.semaphore).acquire_many_owned(slots.saturating_sub(1));
        self.apart = Some(apart);
        if let Ok(Ok(others)) = timeout(patience, others).await {
            self.others = Some(Others::keep([place, others], patience));
        }
    }

    /// Whether the token has a slot.
    pub(crate) fn is_held(&self) -> bool {
        self.permit.is_some()
    }

    /// The permit, for another task to run in.
    pub(crate) fn take(&mut self) -> Option<OwnedSemaphorePermit> {
        self.others = None;
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

    #[tokio::test(start_paused = true)]
    async fn a_task_that_runs_alone_keeps_all_slots_for_a_while_and_then_its_own() {
        let slots = Arc::new(Semaphore::new(3));
        let apart = Apart {
            slots: 3,
            place: Arc::new(Semaphore::new(1)),
            patience: Duration::from_secs(60),
        };
        let mut token = SlotToken::new(Arc::clone(&slots));
        token.reclaim().await.expect("a slot is free");
        let place = Arc::clone(&apart.place).acquire_owned().await;
        let of_another = Arc::clone(&slots).acquire_owned().await.expect("free");
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(of_another);
        });
        token.set_apart(apart, place.expect("free")).await;
        assert_eq!(slots.available_permits(), 0, "once the other has ended");
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(slots.available_permits(), 2);
        // The same after it has waited.
        token.release();
        token.reclaim().await.expect("all are free");
        assert_eq!(slots.available_permits(), 0);
        drop(token);
        let all = slots.acquire_many(3).await.expect("free by and by");
        drop(all);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_should_run_alone_does_not_wait_for_ever() {
        let slots = Arc::new(Semaphore::new(2));
        let apart = Apart {
            slots: 2,
            place: Arc::new(Semaphore::new(1)),
            patience: Duration::from_secs(60),
        };
        let for_hours = Arc::clone(&slots).acquire_owned().await.expect("free");
        let mut token = SlotToken::new(Arc::clone(&slots));
        token.reclaim().await.expect("a slot is free");
        let place = Arc::clone(&apart.place)
            .acquire_owned()
            .await
            .expect("free");
        token.set_apart(apart.clone(), place).await;
        assert_eq!(apart.place.available_permits(), 1, "others may try");
        token.release();
        token.reclaim().await.expect("one is free");
        assert!(token.is_held());
        drop(for_hours);
    }

    #[tokio::test]
    async fn a_closed_semaphore_is_an_error() {
        let slots = Arc::new(Semaphore::new(1));
        slots.close();
        let error = SlotToken::new(slots).reclaim().await.expect_err("closed");
        assert_eq!(error.kind(), kinds::CANCELLED);
    }
}
