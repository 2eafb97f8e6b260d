//! What the store tells a worker about tasks that it holds.

use abide_core::kernel::Notice;
use abide_store::{StoreError, TaskView};

use super::Worker;
use crate::attempt::Attempt;
use crate::handle::operations::Sign;

impl Worker {
    /// Passes a notice on to its attempt. An attempt that is not in memory has ended, or was
    /// evicted and the store has woken it.
    pub(super) async fn notice(&self, notice: Notice) {
        let (Notice::Wake(key) | Notice::Stop(key) | Notice::Lost(key)) = notice;
        let Some(attempt) = self.attempts.get(key) else {
            return;
        };
        match notice {
            Notice::Wake(_) => attempt.tell(Sign::Wake),
            Notice::Stop(_) => attempt.stop(Sign::Stop),
            // It may be about an earlier claim of the same task.
            Notice::Lost(_) => match self.is_held(&attempt).await {
                Ok(true) => {}
                Ok(false) => attempt.stop(Sign::Lost),
                // The attempt's next write finds out.
                Err(error) => {
                    let key = attempt.key();
                    tracing::warn!(%key, %error, "can't tell whether this worker still holds a task");
                }
            },
        }
    }

    /// Whether the store still counts the attempt as this worker's.
    pub(super) async fn is_held(&self, attempt: &Attempt) -> Result<bool, StoreError> {
        let found = self.store.task(attempt.key()).await?;
        let is_held = |view: &TaskView| {
            view.task.epoch == attempt.held.epoch
                && view.task.worker == Some(attempt.held.worker)
                && view.task.phase.is_held()
        };
        Ok(found.as_ref().is_some_and(is_held))
    }
}
