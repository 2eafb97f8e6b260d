//! An execution, as in a list and in a description.

use abide_core::ids::{ExecutionId, Timestamp};
use abide_core::status::ExecutionStatus;
use abide_store::{BlockedOn, ExecutionSubStatus, ExecutionView};
use serde::Serialize;

use super::status_text;
use crate::client::name;
use crate::client::time::{Time, time};

/// The facts of an execution that its own row tells, and its derived sub-status.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ExecutionRecord {
    /// Its id.
    pub id: ExecutionId,
    /// The stable id it was started with.
    pub instance: String,
    /// Its number among the executions of its instance.
    pub generation: u32,
    /// The generation that the bare instance id stands for.
    pub latest_generation: u32,
    /// The workflow's name.
    pub workflow: String,
    /// The workflow's version.
    pub workflow_version: String,
    /// Its status.
    pub status: ExecutionStatus,
    /// What refines the status, if it is Pending or Running.
    pub sub_status: Option<ExecutionSubStatus>,
    /// What has to happen before it goes on; empty while a task runs, and once it has ended.
    pub blocked_on: Vec<BlockedOn>,
    /// Why it ended or stops, in words.
    pub reason: Option<String>,
    /// How many tasks it has.
    pub tasks: u32,
    /// How many of them have ended.
    pub tasks_ended: u32,
    /// How many of these Failed or were Abandoned.
    pub tasks_failed: u32,
    /// Which tasks go first: those of executions with a higher one.
    pub priority: i16,
    /// Labels.
    pub tags: Vec<String>,
    /// When it was started.
    pub created_at: Time,
    /// When it may begin, if that was asked for.
    pub start_at: Option<Time>,
    /// When a worker began it.
    pub started_at: Option<Time>,
    /// When it ended.
    pub closed_at: Option<Time>,
    /// When it ends as TimedOut.
    pub deadline_at: Option<Time>,
    /// When it changed last.
    pub changed_at: Time,
    /// When its history was removed, if it was.
    pub history_pruned_at: Option<Time>,
    /// From when it could start to when it did, so far if it has not.
    pub queued_us: i64,
    /// From its start to its end, or so far. None if it never started.
    pub run_us: Option<i64>,
    /// When this was so.
    #[serde(skip)]
    pub as_of: Timestamp,
}

impl ExecutionRecord {
    /// The record of an execution, as of now.
    pub fn new(view: &ExecutionView, now: Timestamp) -> ExecutionRecord {
        let execution = &view.execution;
        let started = execution.started_at;
        let ended = execution.closed_at.unwrap_or(now);
        let could_start = execution
            .created_at
            .max(execution.start_at.unwrap_or_default());
        ExecutionRecord {
            id: execution.id,
            instance: execution.instance.to_string(),
            generation: execution.generation.unwrap_or_default(),
            latest_generation: view.latest_generation,
            workflow: view.workflow.clone(),
            workflow_version: view.workflow_version.clone(),
            status: execution.status,
            sub_status: view.sub_status,
            blocked_on: view.blocked_on.clone(),
            reason: execution.reason.clone(),
            tasks: view.tasks,
            tasks_ended: view.tasks.saturating_sub(execution.open),
            tasks_failed: execution.failed,
            priority: execution.priority,
            tags: view.tags.clone(),
            created_at: Time(execution.created_at),
            start_at: time(execution.start_at),
            started_at: time(started),
            closed_at: time(execution.closed_at),
            deadline_at: time(execution.deadline_at),
            changed_at: Time(execution.changed_at),
            history_pruned_at: time(view.history_pruned_at),
            queued_us: started.unwrap_or(ended).since_us(could_start),
            run_us: started.map(|started| ended.since_us(started)),
            as_of: now,
        }
    }

    /// A name that means this execution and no other one.
    pub fn name(&self) -> String {
        name::short(&self.instance, self.generation, self.latest_generation)
    }

    /// The same with the generation, for what was done to this execution.
    pub fn full_name(&self) -> String {
        name::full(&self.instance, self.generation)
    }

    /// The status, with the sub-status if there is one.
    pub fn status_text(&self) -> String {
        status_text(self.status, self.sub_status.map(ExecutionSubStatus::as_str))
    }

    /// What has to happen before it goes on, in a line; none if nothing has to.
    pub fn blocked_on_text(&self) -> Option<String> {
        let words: Vec<&str> = self.blocked_on.iter().map(|it| it.as_str()).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// Ended tasks of all.
    pub fn tasks_text(&self) -> String {
        format!("{}/{}", self.tasks_ended, self.tasks)
    }
}
