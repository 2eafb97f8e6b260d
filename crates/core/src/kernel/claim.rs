//! Claims: a Ready task becomes Active under a worker, with the next epoch. An outbox row whose
//! task may not run is dropped.

use crate::ids::{TaskKey, WorkerId};
use crate::status::{ExecutionStatus, Phase};
use crate::transition::Cause;

use super::need::Stop;
use super::request::{Claim, Claimed, Inbox, Notice, Reply};
use super::working::Working;

impl Working {
    pub(super) fn claim(&mut self, claim: &Claim) -> Result<Reply, Stop> {
        self.remove_from_outbox(claim.row);
        let may_run = match self.find_task(claim.key)? {
            None => false,
            Some(task) => {
                let execution = self.execution(task.key.execution)?;
                let open = matches!(
                    execution.status,
                    ExecutionStatus::Pending | ExecutionStatus::Running
                );
                open && task.phase == Phase::Ready
                    && task.ready_at.is_none_or(|at| at <= claim.row.ready_at)
            }
        };
        if !may_run {
            return Ok(Reply::Claimed(None));
        }
        let claimed = self.claim_ready(claim.key, claim.worker, 0)?;
        Ok(Reply::Claimed(Some(Box::new(claimed))))
    }

    /// Claims a task that is known to be Ready in an execution that may run.
    pub(super) fn claim_ready(
        &mut self,
        key: TaskKey,
        worker: WorkerId,
        hop: u8,
    ) -> Result<Claimed, Stop> {
        let now = self.now;
        let cause = Cause::worker(now, worker);
        if self.execution(key.execution)?.status == ExecutionStatus::Pending {
            self.change_execution(key.execution, |execution, log| execution.start(&cause, log))?;
        }
        self.change_task(key, |task, log| task.claim(worker, now, log))?;
        let execution = self.execution(key.execution)?;
        let graph = self.graph_of(execution)?;
        Ok(Claimed {
            task: self.task(key)?.clone(),
            instance: execution.instance.clone(),
            workflow: execution.workflow,
            priority: self.priority_of(&graph, key)?,
            deadline_at: execution.deadline_at,
            graph,
            input: None,
            hop: hop + 1,
        })
    }

    /// Takes a wake-up out of a worker's inbox and says what it means now.
    pub(super) fn inbox(&mut self, inbox: &Inbox) -> Result<Reply, Stop> {
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
        Ok(Reply::Notice(Some(notice)))
    }
}
