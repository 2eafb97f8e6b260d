//! Why the kernel refuses a request.

use crate::ids::{ExecutionId, TaskKey};
use crate::status::ExecutionStatus;
use crate::table::Illegal;

/// Why a request was refused. Nothing was written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The table says no.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// The instance exists with another input.
    #[error(
        "instance `{instance}` already exists as execution {execution} with another input; use another instance id, or start a new generation once it has ended"
    )]
    DifferentInput {
        /// The instance.
        instance: String,
        /// Its latest execution.
        execution: ExecutionId,
    },
    /// The instance exists and is one of another workflow.
    #[error(
        "instance `{instance}` already exists as execution {execution} of workflow `{found}`, not of `{asked}`: all workflows of a store share its instance ids, so give the new one an id of its own, such as `{asked}-{instance}`"
    )]
    OtherWorkflow {
        /// The instance.
        instance: String,
        /// Its latest execution.
        execution: ExecutionId,
        /// The workflow of that.
        found: String,
        /// The workflow that was to be started.
        asked: String,
    },
    /// The instance exists, and the caller asked to be refused.
    #[error("instance `{instance}` already exists as execution {execution} ({status})")]
    InstanceExists {
        /// The instance.
        instance: String,
        /// Its latest execution.
        execution: ExecutionId,
        /// Where that stands.
        status: ExecutionStatus,
    },
    /// No such instance.
    #[error("no instance `{0}` in this store")]
    UnknownInstance(String),
    /// No such execution.
    #[error("no execution {0} in this store")]
    UnknownExecution(ExecutionId),
    /// The instance's latest execution has ended.
    #[error("instance `{instance}` has ended ({status}): nothing will read this signal")]
    InstanceEnded {
        /// The instance.
        instance: String,
        /// How it ended.
        status: ExecutionStatus,
    },
    /// The execution has ended.
    #[error("execution {execution} is {status}: an ended execution can't be {action}")]
    Ended {
        /// The execution.
        execution: ExecutionId,
        /// How it ended.
        status: ExecutionStatus,
        /// What was asked.
        action: &'static str,
    },
    /// The execution's status does not allow an action.
    #[error("execution {execution} is {status}: {}", not_allowed(*status, action, allowed))]
    NotAllowed {
        /// The execution.
        execution: ExecutionId,
        /// Where it stands.
        status: ExecutionStatus,
        /// What would have been done to it, such as `cancelled`.
        action: &'static str,
        /// The actions that its status allows, by name.
        allowed: Vec<&'static str>,
    },
    /// More of its tasks are ready than one transaction can give another place in the queue.
    #[error(
        "execution {execution} has more than {limit} ready tasks, which is too many to give them another priority at once; try again when fewer of them wait"
    )]
    TooManyReady {
        /// The execution.
        execution: ExecutionId,
        /// How many it may have.
        limit: u32,
    },
    /// The execution has changed since the caller saw it.
    #[error(
        "execution {execution} is at version {version} ({status}), not at {expected}: it has changed meanwhile; look again"
    )]
    Stale {
        /// The execution.
        execution: ExecutionId,
        /// The version that the caller saw.
        expected: u32,
        /// Its version now.
        version: u32,
        /// Its status now.
        status: ExecutionStatus,
    },
    /// The sender no longer holds the task.
    #[error("task {key} is no longer held with epoch {epoch}: its lease was lost")]
    LeaseLost {
        /// The task.
        key: TaskKey,
        /// The stale epoch.
        epoch: u32,
    },
    /// Another record stands where this one should go.
    #[error("task {key} has already recorded operation {number} as {recorded}")]
    StepTaken {
        /// The task.
        key: TaskKey,
        /// The operation.
        number: u32,
        /// What is recorded there.
        recorded: String,
    },
}

/// Why an execution in this status can't be, say, `cancelled`, and what can be done instead.
pub fn not_allowed(status: ExecutionStatus, action: &str, allowed: &[&str]) -> String {
    let kind = match status.is_terminal() {
        true => "an ended execution",
        false => "it",
    };
    match allowed {
        [] => format!("{kind} can't be {action}"),
        allowed => format!("{kind} can't be {action}; allowed: {}", allowed.join(", ")),
    }
}
