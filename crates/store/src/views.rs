//! The results of queries: plain data, as stored.

use std::ops::RangeInclusive;
use std::sync::Arc;

use abide_core::execution::Execution;
use abide_core::failure::Failure;
use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::payload::Payload;
use abide_core::status::ExecutionStatus;
use abide_core::task::Task;
use abide_core::texts;
use abide_core::trigger::Ending;

use crate::activity::{BlockedOn, ExecutionSubStatus};

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
    /// Its graph. If executions bring their own graphs, the graph of its task definitions.
    pub graph: Arc<Graph>,
    /// How many open executions it has.
    pub open_executions: u32,
}

/// An execution as a reader sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExecutionView {
    /// The row.
    pub execution: Execution,
    /// The workflow's name.
    pub workflow: String,
    /// The workflow's version.
    pub workflow_version: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// How many tasks it has, including ended ones.
    pub tasks: u32,
    /// The latest generation of its instance, which the bare instance id means.
    pub latest_generation: u32,
    /// What refines its status, if it is Pending or Running.
    pub sub_status: Option<ExecutionSubStatus>,
    /// What has to happen before it goes on; empty while one of its tasks runs, and once it has ended.
    pub blocked_on: Vec<BlockedOn>,
    /// When its history was removed, if it was: see [`Store::prune_history`](crate::Store::prune_history).
    pub history_pruned_at: Option<Timestamp>,
}

/// A task as a reader sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskView {
    /// The row.
    pub task: Task,
    /// Its node's id.
    pub node: String,
    /// The error of its last failed attempt, also if a later attempt succeeded.
    pub error: Option<Failure>,
    /// Its latest progress, as JSON.
    pub progress: Option<String>,
}

/// A recorded event as a reader sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EventView {
    /// Its position among all events of the store.
    pub position: i64,
    /// The execution.
    pub execution: ExecutionId,
    /// The task's number; 0 for the execution itself.
    pub task: u32,
    /// Its number in its stream, from 1.
    pub n: u32,
    /// The type's name.
    pub kind: &'static str,
    /// When it happened.
    pub at: Timestamp,
    /// The worker that caused it or held the task.
    pub worker: Option<WorkerId>,
    /// The attempt, for task events.
    pub attempt: Option<u32>,
    /// The fencing number, for task events.
    pub epoch: Option<u32>,
    /// The actor.
    pub actor: Option<String>,
    /// The status before.
    pub from: Option<String>,
    /// The status after.
    pub to: String,
    /// Other changes, as a JSON object.
    pub data: Option<String>,
}

/// How an execution ended, with its output or error.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EndView {
    /// Its status; not terminal if it has not ended.
    pub status: ExecutionStatus,
    /// Why, in words.
    pub reason: Option<String>,
    /// The output of its output task.
    pub output: Option<Payload>,
    /// The error of the task that failed it. None if that task was abandoned.
    pub error: Option<Failure>,
    /// The node of that task.
    pub failed_node: Option<String>,
}

impl EndView {
    /// How an execution stands, but for what is read from a task of it: what it gave, and which task
    /// that is.
    pub(crate) fn of(execution: &Execution) -> EndView {
        EndView {
            status: execution.status,
            reason: execution.reason.clone(),
            output: None,
            error: None,
            failed_node: None,
        }
    }
}

/// The inputs of a claimed task.
#[derive(Clone, Debug, Default)]
pub struct TaskInputs {
    /// Its own input, or the workflow's.
    pub input: Option<Payload>,
    /// The context that it sees, if it uses the context.
    pub context: Option<ContextView>,
    /// Its dependencies in declared order, with their endings and outputs, if it uses outputs.
    pub outputs: Vec<(u32, Ending, Option<Payload>)>,
}

/// The context that a task sees, and the values that decide whether a checkpoint is due after the
/// task.
#[derive(Clone, Debug, Default)]
pub struct ContextView {
    /// The map.
    pub map: serde_json::Map<String, serde_json::Value>,
    /// The context with which the execution began.
    pub base: serde_json::Map<String, serde_json::Value>,
    /// Bytes of the changes since the last checkpoint that this task's checkpoint would pay for.
    pub charged_bytes: usize,
}

/// A new worker.
#[derive(Clone, Debug)]
pub struct NewWorker {
    /// Its id.
    pub id: WorkerId,
    /// The name of its host, for people.
    pub host: String,
    /// The id of its process, for people.
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
    /// When its lease ends.
    pub lease_until: Timestamp,
}

/// The executions to list. Every condition that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct ExecutionFilter {
    /// One of these statuses or sub-statuses; both empty for any.
    pub statuses: Vec<ExecutionStatus>,
    /// One of these sub-statuses, or of the statuses.
    pub sub_statuses: Vec<ExecutionSubStatus>,
    /// Blocked on one of these, perhaps among others; empty for any.
    pub blocked_on: Vec<BlockedOn>,
    /// Of this workflow.
    pub workflow: Option<String>,
    /// With an instance id that begins with this.
    pub instance_prefix: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// With a priority in this range.
    pub priority: Option<RangeInclusive<i16>>,
    /// Created at or after.
    pub created_from: Option<Timestamp>,
    /// Created before.
    pub created_before: Option<Timestamp>,
}

/// The events to read.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Of this execution.
    pub execution: Option<ExecutionId>,
    /// Of this task of it.
    pub task: Option<TaskKey>,
}
