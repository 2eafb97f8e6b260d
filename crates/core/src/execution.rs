//! Execution lifecycle. Pure: callers pass the time.

use std::sync::Arc;

use serde_json::json;

use crate::event::Event;
use crate::graph::Graph;
use crate::ids::{ExecutionId, Timestamp, VersionId};
use crate::payload::Digest;
use crate::status::{ExecutionStatus, Phase};
use crate::table::{self, ExecutionMove, Illegal};
use crate::texts;
use crate::transition::{Cause, Stream, Transition};

texts! {
    /// Why an execution stops, or stopped, before its tasks had ended.
    StopCause {
        /// A user cancelled it.
        Cancel = "cancel",
        /// Its deadline passed.
        Deadline = "deadline",
    }
}

/// The part of an execution's row that transitions read and write. Payloads are apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    /// Its id.
    pub id: ExecutionId,
    /// The instance: the stable id that its user chose.
    pub instance: Arc<str>,
    /// Its place among the instance's executions, from 1. None while a large graph is still being
    /// written: the execution is not visible then.
    pub generation: Option<u32>,
    /// The workflow version it is pinned to, and the queue of its tasks.
    pub workflow: VersionId,
    /// Its status.
    pub status: ExecutionStatus,
    /// Why it ended, or is ending, in words. Nothing is decided by them.
    pub reason: Option<String>,
    /// What made it stop, if it was stopped.
    pub stop_cause: Option<StopCause>,
    /// The number of the task that failed it: the first whose failure was not caught.
    pub failed_task: Option<u32>,
    /// Tasks that have not ended.
    pub open: u32,
    /// Tasks that Failed or were Abandoned.
    pub failed: u32,
    /// Added to the priority of its tasks; higher goes first.
    pub priority: i16,
    /// The earliest time at which it may start, if it was given one.
    pub start_at: Option<Timestamp>,
    /// When it times out.
    pub deadline_at: Option<Timestamp>,
    /// Once it is Cancelling: until when running tasks may take to stop.
    pub grace_until: Option<Timestamp>,
    /// Whether it has its own graph, built at run time, instead of the graph of its workflow
    /// version.
    pub own_graph: bool,
    /// Number of its last event.
    pub version: u32,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// When it was Running for the first time.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub closed_at: Option<Timestamp>,
    /// Time of its last event.
    pub changed_at: Timestamp,
}

/// The facts with which an execution is recorded.
#[derive(Clone, Debug)]
pub struct NewExecution {
    /// Its id.
    pub id: ExecutionId,
    /// The instance: the stable id that its user chose.
    pub instance: Arc<str>,
    /// See [`Execution::generation`].
    pub generation: Option<u32>,
    /// The workflow version.
    pub workflow: VersionId,
    /// Number of tasks.
    pub tasks: u32,
    /// Digest of its input.
    pub input: Option<Digest>,
    /// See [`Execution::priority`].
    pub priority: i16,
    /// See [`Execution::start_at`].
    pub start_at: Option<Timestamp>,
    /// See [`Execution::deadline_at`].
    pub deadline_at: Option<Timestamp>,
    /// See [`Execution::own_graph`].
    pub own_graph: bool,
}

/// The failure that failed an execution: the task whose failure was not caught, and how that task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedBy<'a> {
    /// The task's number.
    pub task: u32,
    /// Its node.
    pub node: &'a str,
    /// Failed or Abandoned.
    pub phase: Phase,
}

/// Where the result of an ended execution is: what callers that wait for its end get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultSource {
    /// The output of its graph's output task.
    Output,
    /// The error of the task with this number, which was not caught.
    Error(u32),
}

impl ResultSource {
    /// The number of the task whose output or error it is.
    pub fn task(self, graph: &Graph) -> Option<u32> {
        match self {
            ResultSource::Output => graph.output(),
            ResultSource::Error(number) => (1..=graph.len()).contains(&number).then_some(number),
        }
    }
}

impl Execution {
    /// A new execution: Pending, all its tasks open.
    pub fn create(
        new: NewExecution,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<Execution, Illegal> {
        let mut execution = Execution {
            id: new.id,
            instance: new.instance,
            generation: new.generation,
            workflow: new.workflow,
            status: ExecutionStatus::Pending,
            reason: None,
            stop_cause: None,
            failed_task: None,
            open: new.tasks,
            failed: 0,
            priority: new.priority,
            start_at: new.start_at,
            deadline_at: new.deadline_at,
            grace_until: None,
            own_graph: new.own_graph,
            version: 0,
            created_at: cause.at,
            started_at: None,
            closed_at: None,
            changed_at: cause.at,
        };
        let mut data = json!({
            "instance": &*execution.instance,
            "workflow": execution.workflow,
            "tasks": new.tasks,
        });
        for (name, value) in [
            ("input", json!(new.input)),
            ("start_at", json!(new.start_at)),
            ("deadline_at", json!(new.deadline_at)),
            (
                "priority",
                if new.priority == 0 {
                    json!(null)
                } else {
                    json!(new.priority)
                },
            ),
        ] {
            if !value.is_null() {
                data[name] = value;
            }
        }
        let row = table::find(table::EXECUTIONS, ExecutionMove::Create, None, cause.by)?;
        let transition = Transition {
            cause,
            from: None,
            to: row.target(None).as_str(),
        };
        for &kind in row.events {
            transition.record(&mut execution.stream(), kind, Some(data.to_string()), log);
        }
        Ok(execution)
    }

    /// Whether tasks of it may be claimed.
    pub fn may_claim(&self) -> bool {
        matches!(
            self.status,
            ExecutionStatus::Pending | ExecutionStatus::Running
        )
    }

    /// Its first task was claimed. Does nothing if a task was claimed before.
    pub fn start(&mut self, cause: &Cause, log: &mut Vec<Event>) -> Result<(), Illegal> {
        if self.status != ExecutionStatus::Pending {
            return Ok(());
        }
        self.make(ExecutionMove::Start, cause, None, log)
    }

    /// A cancellation was requested. Running tasks may take until `grace_until`; then they are
    /// stopped by force.
    pub fn request_stop(
        &mut self,
        reason: &str,
        why: StopCause,
        grace_until: Timestamp,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let data = stopped(reason, why);
        self.make(ExecutionMove::RequestCancel, cause, Some(data), log)?;
        self.grace_until = Some(grace_until);
        self.reason = Some(reason.to_owned());
        self.stop_cause = Some(why);
        Ok(())
    }

    /// Its tasks get another priority.
    pub fn set_priority(
        &mut self,
        priority: i16,
        reason: &str,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let data = json!({ "reason": reason, "from": self.priority, "to": priority }).to_string();
        self.make(ExecutionMove::SetPriority, cause, Some(data), log)?;
        self.priority = priority;
        Ok(())
    }

    /// It is stopped before any task was claimed, and ends at once.
    pub fn stop_before_start(
        &mut self,
        reason: &str,
        why: StopCause,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let name = match why {
            StopCause::Deadline => ExecutionMove::TimeOutPending,
            StopCause::Cancel => ExecutionMove::CancelPending,
        };
        self.make(name, cause, Some(stopped(reason, why)), log)?;
        self.reason = Some(reason.to_owned());
        self.stop_cause = Some(why);
        self.closed_at = Some(self.changed_at);
        Ok(())
    }

    /// Its last task ended, so it ends. `failure` names the failed task that was not caught, if
    /// there is one.
    pub fn finish(
        &mut self,
        failure: Option<FailedBy<'_>>,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        match (self.status, failure) {
            (ExecutionStatus::Cancelling, _) => {
                let name = match self.stop_cause {
                    Some(StopCause::Deadline) => ExecutionMove::FinishTimedOut,
                    Some(StopCause::Cancel) | None => ExecutionMove::FinishCancelled,
                };
                self.make(name, cause, None, log)?;
            }
            (_, None) => self.make(ExecutionMove::Complete, cause, None, log)?,
            (_, Some(FailedBy { task, node, phase })) => {
                let reason = format!("task `{node}`: {phase}");
                let data = json!({ "reason": reason, "failed_task": task }).to_string();
                self.make(ExecutionMove::Fail, cause, Some(data), log)?;
                self.reason = Some(reason);
                self.failed_task = Some(task);
            }
        }
        self.closed_at = Some(self.changed_at);
        self.grace_until = None;
        Ok(())
    }

    /// What it returns, if it has ended with an output or an error. Stopped executions return
    /// nothing.
    pub fn result_source(&self) -> Option<ResultSource> {
        match self.status {
            ExecutionStatus::Completed => Some(ResultSource::Output),
            ExecutionStatus::Failed => self.failed_task.map(ResultSource::Error),
            _ => None,
        }
    }

    fn stream(&mut self) -> Stream<'_> {
        Stream {
            execution: self.id,
            task: 0,
            version: &mut self.version,
            changed_at: &mut self.changed_at,
            attempt: None,
            epoch: None,
        }
    }

    fn make(
        &mut self,
        name: ExecutionMove,
        cause: &Cause,
        data: Option<String>,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let row = table::find(table::EXECUTIONS, name, Some(self.status), cause.by)?;
        let target = row.target(Some(self.status));
        let transition = Transition {
            cause,
            from: Some(self.status.as_str()),
            to: target.as_str(),
        };
        for &kind in row.events {
            transition.record(&mut self.stream(), kind, data.clone(), log);
        }
        self.status = target;
        if self.status == ExecutionStatus::Running && self.started_at.is_none() {
            self.started_at = Some(self.changed_at);
        }
        Ok(())
    }
}

fn stopped(reason: &str, why: StopCause) -> String {
    json!({ "reason": reason, "stop_cause": why.as_str() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::By;

    fn running() -> Execution {
        let new = NewExecution {
            id: ExecutionId(1),
            instance: "order-42".into(),
            generation: Some(1),
            workflow: VersionId(1),
            tasks: 2,
            input: None,
            priority: 0,
            start_at: None,
            deadline_at: None,
            own_graph: false,
        };
        let user = Cause::actor(Timestamp(1), By::User, "user:eva".into());
        let mut log = Vec::new();
        let mut execution = Execution::create(new, &user, &mut log).expect("is created");
        let worker = Cause::worker(Timestamp(2), crate::ids::WorkerId(1));
        execution.start(&worker, &mut log).expect("starts");
        execution
    }

    #[test]
    fn a_stop_ends_by_its_cause_whatever_its_words() {
        for (why, by, ends) in [
            (StopCause::Cancel, By::User, ExecutionStatus::Cancelled),
            (StopCause::Deadline, By::Deadline, ExecutionStatus::TimedOut),
        ] {
            let (mut execution, mut log) = (running(), Vec::new());
            let cause = Cause::actor(Timestamp(3), by, by.as_str().into());
            let grace = Timestamp(9);
            let stop = execution.request_stop("deadline", why, grace, &cause, &mut log);
            stop.expect("stops");
            let engine = Cause::engine(Timestamp(4));
            execution.finish(None, &engine, &mut log).expect("ends");
            assert_eq!((execution.status, execution.stop_cause), (ends, Some(why)));
        }
    }

    #[test]
    fn a_failed_execution_gives_the_error_of_the_task_that_failed_it() {
        let mut execution = running();
        let failure = FailedBy {
            task: 2,
            node: "`: ",
            phase: Phase::Abandoned,
        };
        let engine = Cause::engine(Timestamp(4));
        let end = execution.finish(Some(failure), &engine, &mut Vec::new());
        end.expect("ends");
        assert_eq!(execution.result_source(), Some(ResultSource::Error(2)));
        assert_eq!(execution.reason.as_deref(), Some("task ``: `: Abandoned"));
    }
}
