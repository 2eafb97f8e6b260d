//! Recovery: a dead worker's task goes back to the outbox, is abandoned when its processes died
//! under it too often, or is cancelled if its execution is stopping.

use crate::status::ExecutionStatus;
use crate::transition::Cause;

use super::need::Stop;
use super::request::{Recover, Recovered, Reply};
use super::working::Working;

impl Working {
    pub(super) fn recover(&mut self, recover: &Recover) -> Result<Reply, Stop> {
        let key = recover.key;
        let held = self
            .find_task(key)?
            .is_some_and(|task| task.phase.is_held() && task.worker == Some(recover.worker));
        if !held {
            return Ok(Reply::Recovered(Recovered::Unchanged));
        }
        let cause = Cause::engine(self.now);
        if self.execution(key.execution)?.status == ExecutionStatus::Cancelling {
            self.cancel_task(key, &cause)?;
            self.end_if_done(key.execution)?;
            return Ok(Reply::Recovered(Recovered::Cancelled));
        }
        let steps = self.step_count(key)?;
        let abandoned = self.change_task(key, |task, log| {
            task.recover(steps, recover.crash_cap, &recover.reason, &cause, log)
        })?;
        if abandoned {
            self.close_task(key, true, None)?;
            return Ok(Reply::Recovered(Recovered::Abandoned));
        }
        self.queue(key)?;
        Ok(Reply::Recovered(Recovered::Recovered))
    }
}
