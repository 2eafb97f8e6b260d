//! An execution, as listed and as described.

use abide_core::ids::{ExecutionId, Timestamp};
use abide_core::status::ExecutionStatus;
use abide_store::{ExecutionSubStatus, ExecutionView, Rollup};
use serde::Serialize;

use crate::output::text::{self, Time, time};
use crate::output::{Cell, Record, Tone};

/// The facts of an execution that its own row tells, and its derived sub-status.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ExecutionRecord {
    pub(crate) id: ExecutionId,
    pub(crate) instance: String,
    pub(crate) generation: u32,
    pub(crate) workflow: String,
    pub(crate) workflow_version: String,
    pub(crate) status: ExecutionStatus,
    pub(crate) sub_status: Option<ExecutionSubStatus>,
    pub(crate) reason: Option<String>,
    /// All tasks, those that ended, and those of them that Failed or were Abandoned.
    pub(crate) tasks: u32,
    pub(crate) tasks_ended: u32,
    pub(crate) tasks_failed: u32,
    pub(crate) priority: i16,
    pub(crate) tags: Vec<String>,
    pub(crate) created_at: Time,
    pub(crate) start_at: Option<Time>,
    pub(crate) started_at: Option<Time>,
    pub(crate) closed_at: Option<Time>,
    pub(crate) deadline_at: Option<Time>,
    pub(crate) changed_at: Time,
    /// From when it could start to when it did, so far if it has not.
    pub(crate) queued_us: i64,
    /// From its start to its end, or so far. None if it never started.
    pub(crate) run_us: Option<i64>,
    #[serde(skip)]
    now: Timestamp,
}

impl ExecutionRecord {
    /// The record of an execution whose tasks add up to `rollup`.
    pub(crate) fn new(view: &ExecutionView, rollup: &Rollup, now: Timestamp) -> ExecutionRecord {
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
            workflow: view.workflow.clone(),
            workflow_version: view.workflow_version.clone(),
            status: execution.status,
            sub_status: rollup.sub_status(execution, now),
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
            queued_us: started.unwrap_or(ended).since_us(could_start),
            run_us: started.map(|started| ended.since_us(started)),
            now,
        }
    }

    /// The columns of a table of executions.
    pub(crate) const COLUMNS: &'static [&'static str] = &[
        "ID", "INSTANCE", "WORKFLOW", "STATUS", "TASKS", "AGE", "DURATION", "REASON",
    ];

    /// The instance, with the generation if it is not the first.
    pub(crate) fn called(&self) -> String {
        match self.generation {
            0 | 1 => self.instance.clone(),
            later => format!("{}/{later}", self.instance),
        }
    }

    /// The status, with the sub-status if there is one.
    pub(crate) fn status_text(&self) -> String {
        status_text(self.status, self.sub_status.map(ExecutionSubStatus::as_str))
    }

    /// Ended tasks of all.
    pub(crate) fn tasks_text(&self) -> String {
        format!("{}/{}", self.tasks_ended, self.tasks)
    }
}

/// A status and what refines it: `Running::Active`.
pub(crate) fn status_text(status: impl std::fmt::Display, sub_status: Option<&str>) -> String {
    match sub_status {
        Some(sub_status) => format!("{status}::{sub_status}"),
        None => status.to_string(),
    }
}

impl Record for ExecutionRecord {
    fn name(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self) -> Vec<Cell> {
        vec![
            self.id.to_string().into(),
            self.called().into(),
            (&self.workflow).into(),
            Cell::new(self.status_text(), Tone::from(self.status)),
            self.tasks_text().into(),
            text::age(self.now.since_us(self.created_at.0)).into(),
            self.run_us
                .map_or_else(|| "-".to_owned(), text::duration)
                .into(),
            self.reason.as_deref().unwrap_or_default().into(),
        ]
    }
}
