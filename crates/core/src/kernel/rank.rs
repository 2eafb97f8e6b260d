//! Another priority for an execution. What stands in the outbox moves to its new place in the same
//! transaction, so that a row there always has the priority of its execution and node.

use crate::ids::ExecutionId;
use crate::timer::{Timer, TimerKind};
use crate::transition::Cause;

use super::PIECE;
use super::need::{Stop, TaskSet};
use super::outbox_row::OutboxRow;
use super::refusal::Refusal;
use super::working::Working;

impl Working {
    /// Later claims, and tasks that become ready later, take the new priority from the execution's row.
    pub(super) fn set_priority(
        &mut self,
        id: ExecutionId,
        priority: i16,
        reason: &str,
        cause: &Cause,
    ) -> Result<(), Stop> {
        let (ready, more) = self.tasks(id, TaskSet::Ready)?;
        if more || ready.len() > PIECE as usize {
            return Err(Refusal::TooManyReady {
                execution: id,
                limit: PIECE,
            }
            .into());
        }
        let rows = ready.iter().map(|key| self.outbox_row(*key));
        let rows: Vec<OutboxRow> = rows.collect::<Result<_, Stop>>()?;
        self.change_execution(id, |execution, log| {
            execution.set_priority(priority, reason, cause, log)
        })?;
        for row in rows {
            self.remove_from_outbox(row);
            // A retry that fell due a moment ago may still have its timer: now it is queued instead.
            self.remove_timer(Timer::of_task(row.ready_at, TimerKind::Retry, row.key, 0));
            self.arm_retry(row.key)?;
        }
        Ok(())
    }
}
