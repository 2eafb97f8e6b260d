//! Actions. Stopping: on request, at the deadline, and by force when the grace period is over.

use abide_core::event::EventType;
use abide_core::ids::{ExecutionId, TaskKey};
use abide_core::kernel::{Act, Action, Refusal, Subject};
use abide_core::status::{ExecutionStatus, Phase};
use serde_json::json;

use super::said::Said;
use super::state::{Told, Who};
use super::{Oracle, Outcome};

/// How long running tasks may take to stop at a deadline.
const DEADLINE_GRACE_US: i64 = 30_000_000;

impl Oracle {
    pub(super) fn act(&mut self, act: &Act) -> Outcome {
        let Subject::Execution(id) = act.subject else {
            unreachable!("worlds act on executions");
        };
        let (status, may_run) = (self.run(id).status, self.run(id).may_run());
        let refuse = |action| Refusal::NotAllowed {
            execution: id,
            status,
            action,
            allowed: Vec::new(),
        };
        let who = Who::actor(act.actor.clone());
        let changed = match act.action {
            Action::Cancel { grace_us } if may_run => {
                self.stop(id, &act.reason, "cancel", grace_us, who);
                true
            }
            Action::Cancel { .. } => match status {
                ExecutionStatus::Cancelling | ExecutionStatus::Cancelled => false,
                _ => return Err(refuse("cancelled")),
            },
            Action::SetPriority { priority } if may_run => {
                self.set_priority(id, priority, &act.reason, who)
            }
            Action::SetPriority { .. } => return Err(refuse("given another priority")),
        };
        let status = self.run(id).status;
        Ok(Said::Acted { status, changed })
    }

    /// Answers whether it is another one. The queue follows from it, and takes the retries that are due.
    fn set_priority(&mut self, id: ExecutionId, priority: i16, reason: &str, who: Who) -> bool {
        let now = self.now;
        let run = self.run(id);
        let (status, from) = (run.status, run.priority);
        if from == priority {
            return false;
        }
        let kind = EventType::ExecutionPriorityChanged;
        let data = Told::Value(json!({ "reason": reason, "from": from, "to": priority }));
        run.becomes(status, kind, data, who, now);
        run.priority = priority;
        for node in run
            .nodes
            .iter_mut()
            .filter(|node| node.phase == Phase::Ready)
        {
            node.waits_to_retry &= node.ready_at > Some(now);
        }
        true
    }

    pub(super) fn time_out(&mut self, id: ExecutionId) {
        if self.run(id).may_run() {
            let who = Who::actor(Some("deadline".into()));
            self.stop(id, "deadline", "deadline", DEADLINE_GRACE_US, who);
        }
    }

    fn stop(
        &mut self,
        id: ExecutionId,
        reason: &str,
        cause: &'static str,
        grace_us: i64,
        who: Who,
    ) {
        let now = self.now;
        let run = self.run(id);
        run.reason = Some(reason.to_owned());
        run.stop_cause = Some(cause);
        let data = Told::Value(json!({ "reason": reason, "stop_cause": cause }));
        if run.status == ExecutionStatus::Pending {
            for key in self.open(id) {
                self.cancel_node(key, Who::engine());
            }
            let (status, kind) = match cause == "deadline" {
                true => (ExecutionStatus::TimedOut, EventType::ExecutionTimedOut),
                false => (ExecutionStatus::Cancelled, EventType::ExecutionCancelled),
            };
            self.run(id).becomes(status, kind, data, who, now);
            return;
        }
        let kind = EventType::ExecutionCancelling;
        run.becomes(ExecutionStatus::Cancelling, kind, data, who, now);
        run.grace_until = Some(now.plus_us(grace_us));
        self.cancel_open(id, grace_us <= 0);
    }

    /// The grace period is over.
    pub(super) fn cut_off(&mut self, id: ExecutionId) {
        self.cancel_open(id, true);
    }

    /// Cancels what nobody runs, and tells the living who run the rest; with force that too.
    fn cancel_open(&mut self, id: ExecutionId, force: bool) {
        for key in self.open(id) {
            let worker = self.node(key).worker;
            let lives = worker.is_some_and(|worker| !self.dead.contains(&worker));
            if lives {
                self.notify(key);
            }
            if force || !lives {
                self.cancel_node(key, Who::engine());
            }
        }
        self.end_if_over(id);
    }

    fn open(&mut self, id: ExecutionId) -> Vec<TaskKey> {
        let run = self.run(id);
        let open = run.nodes.iter().filter(|node| !node.phase.is_terminal());
        open.map(|node| run.key(node.number)).collect()
    }

    /// The epoch rises under a worker that didn't say so itself: nothing it still does counts.
    pub(super) fn cancel_node(&mut self, key: TaskKey, who: Who) {
        let now = self.now;
        let reason = self.run(key.execution).reason.clone();
        let node = self.node(key);
        let fenced = node.phase.is_held() && who.worker.is_none();
        let data = Told::Value(json!({ "reason": reason }));
        node.becomes(Phase::Cancelled, EventType::TaskCancelled, data, who, now);
        node.epoch += u32::from(fenced);
    }
}
