//! Cancelling one task: it leaves the queue or the timer that holds it, and counts as ended.

use crate::ids::TaskKey;
use crate::status::Phase;
use crate::timer::{NEVER, Timer, TimerKind};
use crate::transition::Cause;

use super::need::Stop;
use super::working::Working;

impl Working {
    /// Cancels one open task. The caller looks after the execution's end.
    pub(super) fn cancel_task(&mut self, key: TaskKey, cause: &Cause) -> Result<(), Stop> {
        let reason = self
            .execution(key.execution)?
            .reason
            .clone()
            .unwrap_or_default();
        match self.task(key)?.phase {
            Phase::Ready => {
                let row = self.outbox_row(key)?;
                // A retry that fell due a moment ago may still have its timer.
                self.remove_timer(Timer::of_task(row.ready_at, TimerKind::Retry, key, 0));
                self.remove_from_outbox(row);
            }
            Phase::Evicted => self.disarm_wait(key)?,
            _ => {}
        }
        self.change_task(key, |task, log| task.cancel(&reason, cause, log))?;
        self.change_execution(key.execution, |execution, _| {
            execution.open = execution.open.saturating_sub(1);
            Ok(())
        })
    }

    /// Removes the timer of an evicted task.
    pub(super) fn disarm_wait(&mut self, key: TaskKey) -> Result<(), Stop> {
        let Some(at) = self.task(key)?.wake_at else {
            return Ok(());
        };
        let kind = if at == NEVER {
            TimerKind::Code
        } else {
            TimerKind::Wait
        };
        self.remove_timer(Timer::of_task(at, kind, key, 0));
        Ok(())
    }
}
