//! What queries answer: plain data, as the store has it.

use std::sync::Arc;

use abide_core::execution::{Execution, Given};
use abide_core::failure::Failure;
use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::payload::Payload;
use abide_core::status::ExecutionStatus;
use abide_core::task::Task;
use abide_core::texts;
use abide_core::trigger::Ending;

texts! {
    /// How a workflow was written.
    WorkflowKind {
        /// As a graph of tasks.
        Graph = "graph",
        /// As one durable function: a graph with one task.
        Function = "function",
    }
}

/// A stored workflow version.
#[derive(Clone, Debug)]
pub struct VersionInfo {
    /// Its id, and the queue of its tasks.
    pub id: VersionId,
    /// The workflow's name.
    pub name: String,
    /// The version its author gave.
    pub version: String,
    /// How it was written.
    pub kind: WorkflowKind,
    /// Its graph; for graphs built at run time, that of its task definitions.
    pub graph: Arc<Graph>,
    /// How many open executions it has.
    pub open_executions: u32,
}

/// An execution as a reader sees it.
#[derive(Clone, Debug)]
pub struct ExecutionView {
    /// The row.
    pub execution: Execution,
    /// The workflow's name.
    pub workflow: String,
    /// The workflow's version.
    pub workflow_version: String,
    /// Labels.
    pub tags: Vec<String>,
    /// How many tasks it has, ended ones included.
    pub tasks: u32,
}

/// A task as a reader sees it.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// The row.
    pub task: Task,
    /// Its node's id.
    pub node: String,
    /// Its last error.
    pub error: Option<Failure>,
    /// Its latest progress, as JSON.
    pub progress: Option<String>,
}

/// A recorded event as a reader sees it.
#[derive(Clone, Debug)]
pub struct EventView {
    /// Its place among all events of the store.
    pub position: i64,
    /// The execution.
    pub execution: ExecutionId,
    /// The task's number; 0 for the execution itself.
    pub task: u32,
    /// Its place in its stream, from 1.
    pub n: u32,
    /// The type's name.
    pub kind: &'static str,
    /// When.
    pub at: Timestamp,
    /// The worker that did it or held the task.
    pub worker: Option<WorkerId>,
    /// The attempt, for task events.
    pub attempt: Option<u32>,
    /// The fencing number, for task events.
    pub epoch: Option<u32>,
    /// Who asked.
    pub actor: Option<String>,
    /// The status before.
    pub from: Option<String>,
    /// The status after.
    pub to: String,
    /// What else changed, as a JSON object.
    pub data: Option<String>,
}

/// How an execution ended, with what it gave.
#[derive(Clone, Debug)]
pub struct EndView {
    /// Its status; not terminal if it has not ended.
    pub status: ExecutionStatus,
    /// Why, in words.
    pub reason: Option<String>,
    /// The output of its output task.
    pub output: Option<Payload>,
    /// The error of the task that failed it.
    pub error: Option<Failure>,
    /// The node whose error that is.
    pub failed_node: Option<String>,
}

impl EndView {
    /// How an execution stands, but for what is read from a task of it: what it gave.
    pub(crate) fn of(execution: &Execution) -> EndView {
        let failed_node = match execution.given() {
            Some(Given::Error(node)) => Some(node.to_owned()),
            Some(Given::Output) | None => None,
        };
        EndView {
            status: execution.status,
            reason: execution.reason.clone(),
            output: None,
            error: None,
            failed_node,
        }
    }
}

/// What a claimed task is given to work with.
#[derive(Clone, Debug, Default)]
pub struct TaskInputs {
    /// Its own input, or the workflow's.
    pub input: Option<Payload>,
    /// The context it sees, if it asked for it.
    pub context: Option<ContextView>,
    /// Its dependencies in declared order, how they ended and what they gave, if it asked for it.
    pub outputs: Vec<(u32, Ending, Option<Payload>)>,
}

/// The context that a task sees, with what is needed to decide whether a checkpoint is due after
/// it.
#[derive(Clone, Debug, Default)]
pub struct ContextView {
    /// The map.
    pub map: serde_json::Map<String, serde_json::Value>,
    /// The context the execution began with.
    pub base: serde_json::Map<String, serde_json::Value>,
    /// Bytes of the changes since the last checkpoint that this task's checkpoint would pay for.
    pub charged_bytes: usize,
}

/// A worker that begins.
#[derive(Clone, Debug)]
pub struct NewWorker {
    /// Its id.
    pub id: WorkerId,
    /// The host it runs on, for people.
    pub host: String,
    /// Its process, for people.
    pub pid: u32,
}

/// A worker's row.
#[derive(Clone, Debug)]
pub struct WorkerRow {
    /// Its id.
    pub id: WorkerId,
    /// The host it runs on.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started_at: Timestamp,
    /// Until when its lease lasts.
    pub lease_until: Timestamp,
}

/// Which executions to list. Everything that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct ExecutionFilter {
    /// One of these statuses; empty for any.
    pub statuses: Vec<ExecutionStatus>,
    /// Of this workflow.
    pub workflow: Option<String>,
    /// With an instance id that begins so.
    pub instance_prefix: Option<String>,
    /// Labelled so.
    pub tag: Option<String>,
    /// Created at or after.
    pub created_from: Option<Timestamp>,
    /// Created before.
    pub created_before: Option<Timestamp>,
}

/// Which events to read.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Of this execution.
    pub execution: Option<ExecutionId>,
    /// Of this task of it.
    pub task: Option<TaskKey>,
}
