//! Timers that fell due. Each is removed by the transaction that acts on it.

use crate::status::{ExecutionStatus, Phase};
use crate::table::By;
use crate::timer::{NEVER, Timer, TimerKind};
use crate::transition::Cause;

use super::need::Stop;
use super::propagate::Spread;
use super::working::Working;

impl Working {
    pub(super) fn fire(&mut self, timer: &Timer) -> Result<(), Stop> {
        let timer = *timer;
        self.remove_timer(timer);
        let key = timer.key();
        let id = timer.execution;
        let timer_cause = Cause::actor(self.now, By::Timer, By::Timer.as_str().into());
        match timer.kind {
            TimerKind::Start => {
                let status = self.execution(id)?.status;
                if matches!(
                    status,
                    ExecutionStatus::Pending | ExecutionStatus::Running | ExecutionStatus::Paused
                ) {
                    self.start_roots(id, timer.from, None)?;
                }
            }
            TimerKind::Deadline => self.time_out(id)?,
            TimerKind::Retry => {
                let task = self.task(key)?;
                if task.phase == Phase::Ready && task.ready_at == Some(timer.due_at) {
                    self.queue(key)?;
                }
            }
            TimerKind::Wait | TimerKind::Code => {
                let task = self.task(key)?;
                let waits_for_it =
                    task.phase == Phase::Evicted && task.wake_at == Some(timer.due_at);
                let waits_for_code = timer.due_at == NEVER;
                if waits_for_it && waits_for_code == (timer.kind == TimerKind::Code) {
                    self.end_wait(key, &timer_cause)?;
                }
            }
            // A task that has not ended has nothing to tell.
            TimerKind::Propagate if !self.task(key)?.phase.is_terminal() => {}
            TimerKind::Propagate => {
                let graph = self.graph_of(self.execution(id)?)?;
                let mut spread = Spread::new(id, graph, None);
                spread.ended(key.number, timer.from);
                self.spread(&mut spread)?;
                self.end_if_done(id)?;
            }
            TimerKind::Cancel => {
                if self.execution(id)?.status == ExecutionStatus::Cancelling {
                    self.stop_piece(id, timer.from > 0)?;
                }
            }
        }
        Ok(())
    }
}
