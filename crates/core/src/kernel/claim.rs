//! Claims: a Ready task becomes Active under a worker, with the next epoch. An outbox row whose
//! task may not run is dropped.

use crate::ids::{TaskKey, WorkerId};
use crate::status::{ExecutionStatus, Phase};
use crate::transition::Cause;

use super::need::Stop;
use super::request::{Claim, Claimed, Inbox, Notice};
use super::working::Working;

impl Working {
    pub(super) fn claim(&mut self, claim: &Claim) -> Result<Option<Box<Claimed>>, Stop> {
        self.remove_from_outbox(claim.row);
        let may_run = match self.find_task(claim.key)? {
            None => false,
            Some(task) => {
                task.phase == Phase::Ready
                    && task.ready_at.is_none_or(|at| at <= claim.row.ready_at)
            }
        };
        if !may_run {
            return Ok(None);
        }
        // It may have got another priority since its row was found.
        let row = self.outbox_row(claim.key)?;
        if row != claim.row {
            self.remove_from_outbox(row);
        }
        let claimed = self.claim_ready(claim.key, claim.worker, 0)?;
        Ok(claimed.map(Box::new))
    }

    /// Claims a task that is known to be Ready, whether it comes from the outbox or goes past it:
    /// none if nothing of its execution may be claimed.
    pub(super) fn claim_ready(
        &mut self,
        key: TaskKey,
        worker: WorkerId,
        hop: u8,
    ) -> Result<Option<Claimed>, Stop> {
        let now = self.now;
        let cause = Cause::worker(now, worker);
        let execution = self.execution(key.execution)?;
        if !execution.may_claim() {
            return Ok(None);
        }
        if execution.status == ExecutionStatus::Pending {
            self.change_execution(key.execution, |execution, log| execution.start(&cause, log))?;
        }
        self.change_task(key, |task, log| task.claim(worker, now, log))?;
        let execution = self.execution(key.execution)?;
        let graph = self.graph_of(execution)?;
        Ok(Some(Claimed {
            task: self.task(key)?.clone(),
            instance: execution.instance.clone(),
            workflow: execution.workflow,
            priority: self.priority_of(&graph, key)?,
            deadline_at: execution.deadline_at,
            graph,
            input: None,
            hop: hop + 1,
        }))
    }

    /// Takes a wake-up out of a worker's inbox and says what it means now.
    pub(super) fn inbox(&mut self, inbox: &Inbox) -> Result<Option<Notice>, Stop> {
        self.remove_from_outbox(inbox.row);
        let key = inbox.row.key;
        let held = self
            .find_task(key)?
            .is_some_and(|task| task.phase.is_held() && task.worker == inbox.row.worker);
        let notice = match held {
            false => Notice::Lost(key),
            true if self.execution(key.execution)?.status == ExecutionStatus::Cancelling => {
                Notice::Stop(key)
            }
            true => Notice::Wake(key),
        };
        Ok(Some(notice))
    }
}
