//! Recovery: a dead worker's task goes back to the outbox, is abandoned when its processes died
//! under it too often, or is cancelled if its execution is stopping.

use crate::status::ExecutionStatus;
use crate::task::Death;
use crate::transition::Cause;

use super::need::Stop;
use super::request::{Recover, Recovered};
use super::working::Working;

impl Working {
    pub(super) fn recover(&mut self, recover: &Recover) -> Result<Recovered, Stop> {
        let key = recover.key;
        let held = self
            .find_task(key)?
            .is_some_and(|task| task.phase.is_held() && task.worker == Some(recover.worker));
        if !held {
            return Ok(Recovered::Unchanged);
        }
        let cause = Cause::engine(self.now);
        if self.execution(key.execution)?.status == ExecutionStatus::Cancelling {
            self.cancel_task(key, &cause)?;
            self.end_if_done(key.execution)?;
            return Ok(Recovered::Cancelled);
        }
        let steps = self.step_count(key)?;
        let abandoned = self.change_task(key, |task, log| {
            let death = Death {
                alone: recover.alone,
                crash_cap: recover.crash_cap,
                reason: &recover.reason,
            };
            task.recover(steps, &death, &cause, log)
        })?;
        if abandoned {
            self.close_task(key, true, None)?;
            return Ok(Recovered::Abandoned);
        }
        self.queue(key)?;
        Ok(Recovered::Recovered)
    }
}
