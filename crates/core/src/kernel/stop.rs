//! Stopping an execution, on request or at its deadline: tasks that nobody runs are cancelled at
//! once, in bounded pieces; those that run are told, and cut off when the grace period is over.

use crate::execution::StopCause;
use crate::ids::ExecutionId;
use crate::status::ExecutionStatus;
use crate::table::By;
use crate::timer::{Timer, TimerKind};
use crate::transition::Cause;

use super::PIECE;
use super::effects::ExecutionEnd;
use super::need::{Stop, TaskSet};
use super::working::Working;

/// How long running tasks may take to stop at a deadline.
pub(super) const DEADLINE_GRACE_US: i64 = 30_000_000;

impl Working {
    /// The deadline passed.
    pub(super) fn time_out(&mut self, id: ExecutionId) -> Result<(), Stop> {
        let status = self.execution(id)?.status;
        if status == ExecutionStatus::Cancelling || status.is_terminal() {
            return Ok(());
        }
        let cause = Cause::actor(self.now, By::Deadline, By::Deadline.as_str().into());
        let why = StopCause::Deadline;
        self.stop(id, why.as_str(), why, DEADLINE_GRACE_US, &cause)
    }

    /// It is to stop: at once if nothing of it was claimed, else within the grace period.
    pub(super) fn stop(
        &mut self,
        id: ExecutionId,
        reason: &str,
        why: StopCause,
        grace_us: i64,
        cause: &Cause,
    ) -> Result<(), Stop> {
        let execution = self.execution(id)?;
        if execution.status == ExecutionStatus::Pending && execution.open <= PIECE {
            return self.stop_before_start(id, reason, why, cause);
        }
        let grace_until = self.now.plus_us(grace_us);
        self.change_execution(id, |execution, log| {
            execution.request_stop(reason, why, grace_until, cause, log)
        })?;
        self.add_timer(Timer::of_execution(grace_until, TimerKind::Cancel, id, 0));
        self.stop_piece(id, false)
    }

    /// Nothing was claimed yet, and all of it fits into one transaction: tasks first, then the
    /// execution, so that nothing follows its last event.
    fn stop_before_start(
        &mut self,
        id: ExecutionId,
        reason: &str,
        why: StopCause,
        cause: &Cause,
    ) -> Result<(), Stop> {
        self.graph_of(self.execution(id)?)?;
        let (open, _) = self.tasks(id, TaskSet::Open)?;
        self.disarm(id)?;
        self.change_execution(id, |execution, _| {
            execution.reason = Some(reason.to_owned());
            Ok(())
        })?;
        let engine = Cause::engine(self.now);
        for key in open {
            self.cancel_task(key, &engine)?;
        }
        self.change_execution(id, |execution, log| {
            execution.stop_before_start(reason, why, cause, log)
        })?;
        let status = self.execution(id)?.status;
        self.effects.ended.push(ExecutionEnd { id, status });
        Ok(())
    }

    /// Cancels the next piece of open tasks; goes on from a timer until none is left. Past the
    /// grace period this does not spare tasks that a live worker holds. `told` says that the workers
    /// were told by an earlier piece.
    pub(super) fn stop_piece(&mut self, id: ExecutionId, told: bool) -> Result<(), Stop> {
        let execution = self.execution(id)?;
        self.graph_of(execution)?;
        let force = execution.grace_until.is_none_or(|until| until <= self.now);
        let (open, more) = self.tasks(id, TaskSet::Open)?;
        let cause = Cause::engine(self.now);
        let mut cancelled = 0;
        for key in open {
            let task = self.task(key)?;
            if let (Some(worker), true) = (task.worker, task.phase.is_held()) {
                let alive = self.worker_alive(worker)?;
                if alive && (force || !told) {
                    self.notify_holder(key)?;
                }
                if alive && !force {
                    continue;
                }
            }
            if cancelled == PIECE {
                break;
            }
            cancelled += 1;
            self.cancel_task(key, &cause)?;
        }
        if more || cancelled == PIECE {
            // Later than any timer that fires in this transaction, so that this one is not read again
            // before the rest has been written.
            let at = self.now.plus_us(1);
            self.add_timer(Timer::of_execution(at, TimerKind::Cancel, id, 1));
        }
        self.end_if_done(id)
    }
}
