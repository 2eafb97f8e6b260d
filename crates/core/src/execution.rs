//! Execution lifecycle. Pure: callers bring the time.

use std::sync::Arc;

use serde_json::json;

use crate::event::Event;
use crate::graph::Graph;
use crate::ids::{ExecutionId, Timestamp, VersionId};
use crate::payload::Digest;
use crate::status::{ExecutionStatus, Phase};
use crate::table::{self, ExecutionMove, Illegal};
use crate::transition::{Cause, Stream, Transition};

/// The part of an execution's row that transitions read and write. Payloads are apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    /// Its id.
    pub id: ExecutionId,
    /// The stable id its user gave.
    pub instance: Arc<str>,
    /// Its place among the instance's executions, from 1. None while a large graph is still being
    /// written: the execution is not visible then.
    pub generation: Option<u32>,
    /// The workflow version it is pinned to, and the queue of its tasks.
    pub workflow: VersionId,
    /// Where it stands.
    pub status: ExecutionStatus,
    /// Why it ended, or is ending, as a short code with words.
    pub reason: Option<String>,
    /// Tasks that have not ended.
    pub open: u32,
    /// Tasks that Failed or were Abandoned.
    pub failed: u32,
    /// Added to the priority of its tasks; higher goes first.
    pub priority: i16,
    /// When it may start, if later than it was recorded.
    pub start_at: Option<Timestamp>,
    /// When it times out.
    pub deadline_at: Option<Timestamp>,
    /// Until when running tasks may take to stop, once it is Cancelling.
    pub grace_until: Option<Timestamp>,
    /// Whether its graph is its own, built at run time, rather than its workflow version's.
    pub own_graph: bool,
    /// Number of its last event.
    pub version: u32,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// When its first task was claimed.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub closed_at: Option<Timestamp>,
    /// Time of its last event.
    pub changed_at: Timestamp,
}

/// Reason code of executions that their deadline ended.
pub const REASON_DEADLINE: &str = "deadline";

/// What is known of an execution when it is recorded.
#[derive(Clone, Debug)]
pub struct NewExecution {
    /// Its id.
    pub id: ExecutionId,
    /// The stable id its user gave.
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

/// Why an execution failed: the node whose end nothing caught, and how that ended.
pub(crate) fn failed_by(node: &str, phase: Phase) -> String {
    format!("task `{node}`: {phase}")
}

/// The node that a reason made by the engine names. Its id may hold any sign.
fn failed_node(reason: &str) -> Option<&str> {
    let (node, _) = reason.strip_prefix("task `")?.rsplit_once("`: ")?;
    Some(node)
}

/// What an execution that has ended gives to those who wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given<'a> {
    /// The output of its graph's output task.
    Output,
    /// The error of this node's task, which nothing caught.
    Error(&'a str),
}

impl Given<'_> {
    /// The number of the task that has it.
    pub fn task(self, graph: &Graph) -> Option<u32> {
        match self {
            Given::Output => graph.output(),
            Given::Error(node) => graph.number_of(node),
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
            to: row.to.as_str(),
        };
        for &kind in row.events {
            transition.record(&mut execution.stream(), kind, Some(data.to_string()), log);
        }
        Ok(execution)
    }

    /// Its first task was claimed. Does nothing if an earlier one was.
    pub fn start(&mut self, cause: &Cause, log: &mut Vec<Event>) -> Result<(), Illegal> {
        if self.status != ExecutionStatus::Pending {
            return Ok(());
        }
        self.make(ExecutionMove::Start, cause, None, log)?;
        self.started_at = Some(self.changed_at);
        Ok(())
    }

    /// It is asked to stop: running tasks may take until `grace_until`, when force takes over.
    pub fn request_stop(
        &mut self,
        reason: &str,
        by_deadline: bool,
        grace_until: Timestamp,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let code = if by_deadline { REASON_DEADLINE } else { reason };
        let data = json!({ "reason": code }).to_string();
        self.make(ExecutionMove::RequestCancel, cause, Some(data), log)?;
        self.grace_until = Some(grace_until);
        self.reason = Some(code.to_owned());
        Ok(())
    }

    /// It is stopped before anything was claimed, and ends with that.
    pub fn stop_before_start(
        &mut self,
        reason: &str,
        by_deadline: bool,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let name = if by_deadline {
            ExecutionMove::TimeOutPending
        } else {
            ExecutionMove::CancelPending
        };
        self.make(
            name,
            cause,
            Some(json!({ "reason": reason }).to_string()),
            log,
        )?;
        self.reason = Some(reason.to_owned());
        self.closed_at = Some(self.changed_at);
        Ok(())
    }

    /// Its last task ended: it ends as it stands. `failure` names the failed task that nothing
    /// caught, if there is one.
    pub fn finish(
        &mut self,
        failure: Option<String>,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let name = match (self.status, &failure) {
            (ExecutionStatus::Cancelling, _) if self.stopped_by_deadline() => {
                ExecutionMove::FinishTimedOut
            }
            (ExecutionStatus::Cancelling, _) => ExecutionMove::FinishCancelled,
            (_, None) => ExecutionMove::Complete,
            (_, Some(_)) => ExecutionMove::Fail,
        };
        let data = match name {
            ExecutionMove::Fail => failure
                .as_ref()
                .map(|reason| json!({ "reason": reason }).to_string()),
            _ => None,
        };
        self.make(name, cause, data, log)?;
        if name == ExecutionMove::Fail {
            self.reason = failure;
        }
        self.closed_at = Some(self.changed_at);
        self.grace_until = None;
        Ok(())
    }

    /// Whether it is ending, or ended, because its deadline passed.
    pub fn stopped_by_deadline(&self) -> bool {
        self.reason.as_deref() == Some(REASON_DEADLINE)
    }

    /// What it gives, if it has ended with something to give: stopped ones give nothing.
    pub fn given(&self) -> Option<Given<'_>> {
        match self.status {
            ExecutionStatus::Completed => Some(Given::Output),
            ExecutionStatus::Failed => {
                let node = self.reason.as_deref().and_then(failed_node);
                node.map(Given::Error)
            }
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
        let transition = Transition {
            cause,
            from: Some(self.status.as_str()),
            to: row.to.as_str(),
        };
        for &kind in row.events {
            transition.record(&mut self.stream(), kind, data.clone(), log);
        }
        self.status = row.to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_node_is_found_whatever_its_id() {
        for node in ["hash", "a`b", "`: ", "task `x`: Failed", "Ünïcode 日本"] {
            let reason = failed_by(node, Phase::Abandoned);
            assert_eq!(failed_node(&reason), Some(node), "{reason}");
        }
        assert_eq!(failed_node("somebody asked"), None);
    }
}
