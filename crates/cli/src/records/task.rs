//! A task, as listed and as described.

use abide_core::failure::Failure;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, WorkerId};
use abide_core::status::{Phase, SubStatus, TaskStatus};
use abide_store::{TaskTimes, TaskView};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::status_text;
use crate::output::text::{self, Time, time};
use crate::output::{Cell, Record, Tone, json};

/// What is known of a task. Times count up to now.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TaskRecord {
    pub(crate) execution: ExecutionId,
    pub(crate) number: u32,
    pub(crate) node: String,
    pub(crate) status: TaskStatus,
    pub(crate) sub_status: Option<SubStatus>,
    pub(crate) attempt: u32,
    pub(crate) epoch: u32,
    pub(crate) worker: Option<WorkerId>,
    /// What has to happen before it goes on, in words.
    pub(crate) waits_for: Option<String>,
    pub(crate) ready_at: Option<Time>,
    pub(crate) wake_at: Option<Time>,
    pub(crate) created_at: Time,
    pub(crate) started_at: Option<Time>,
    pub(crate) closed_at: Option<Time>,
    pub(crate) changed_at: Time,
    pub(crate) queued_us: i64,
    pub(crate) active_us: i64,
    pub(crate) deferred_us: i64,
    pub(crate) retry_wait_us: i64,
    pub(crate) progress: Option<Box<RawValue>>,
    pub(crate) error: Option<Failure>,
}

/// The part of a reported progress that is shown to people.
#[derive(Default, Deserialize)]
struct Report {
    percent: f64,
    completed: Option<u64>,
    total: Option<u64>,
    step: Option<String>,
}

impl TaskRecord {
    /// The record of a task.
    pub(crate) fn new(view: &TaskView, now: Timestamp) -> TaskRecord {
        let task = &view.task;
        let (status, sub_status) = task.phase.status();
        let mut times = TaskTimes {
            queued_us: task.queued_us,
            active_us: task.active_us,
            deferred_us: task.deferred_us,
            retry_wait_us: task.retry_wait_us,
        };
        times.add_current(status, sub_status, task.changed_at, task.ready_at, now);
        TaskRecord {
            execution: task.key.execution,
            number: task.key.number,
            node: view.node.clone(),
            status,
            sub_status,
            attempt: task.attempt,
            epoch: task.epoch,
            worker: task.worker,
            waits_for: waits_for(view, now),
            ready_at: time(task.ready_at),
            wake_at: time(task.wake_at),
            created_at: Time(task.created_at),
            started_at: time(task.started_at),
            closed_at: time(task.closed_at),
            changed_at: Time(task.changed_at),
            queued_us: times.queued_us,
            active_us: times.active_us,
            deferred_us: times.deferred_us,
            retry_wait_us: times.retry_wait_us,
            progress: view.progress.as_deref().map(json::raw),
            error: view.error.clone(),
        }
    }

    /// The columns of a table of tasks.
    pub(crate) const COLUMNS: &'static [&'static str] = &[
        "NUMBER", "NODE", "STATUS", "ATTEMPT", "QUEUED", "ACTIVE", "DEFERRED", "PROGRESS", "DETAIL",
    ];

    /// The status, with the sub-status if there is one.
    pub(crate) fn status_text(&self) -> String {
        status_text(self.status, self.sub_status.map(SubStatus::as_str))
    }

    fn report(&self) -> Option<Report> {
        let progress = self.progress.as_ref()?;
        serde_json::from_str(progress.get()).ok()
    }

    /// The reported progress in a few words.
    pub(crate) fn progress_text(&self) -> Option<String> {
        let report = self.report()?;
        let mut words = vec![text::percent(report.percent)];
        if let (Some(completed), Some(total)) = (report.completed, report.total) {
            words.push(format!("({completed}/{total})"));
        }
        words.extend(report.step);
        Some(words.join(" "))
    }

    /// What it waits for, or else its last error.
    fn detail(&self) -> Option<String> {
        let error = || self.error.as_ref().map(ToString::to_string);
        match &self.waits_for {
            Some(wait) if self.status == TaskStatus::Ready => match error() {
                Some(error) => Some(format!("{wait}, after {error}")),
                None => Some(wait.clone()),
            },
            Some(wait) => Some(wait.clone()),
            None => error(),
        }
    }
}

/// What has to happen before the task goes on.
fn waits_for(view: &TaskView, now: Timestamp) -> Option<String> {
    let task = &view.task;
    match task.phase {
        Phase::Pending => match task.waiting {
            0 => Some("its execution's start".to_owned()),
            open => Some(text::count(open, "dependency", "dependencies")),
        },
        Phase::Ready => match task.ready_at {
            Some(due) if due > now => Some(format!(
                "attempt {} in {}",
                task.attempt,
                text::age(due.since_us(now))
            )),
            _ => Some("a worker's free slot".to_owned()),
        },
        Phase::Deferred | Phase::Evicted => {
            let wait = task.wait.clone().unwrap_or_else(|| "a wake-up".to_owned());
            match task.wake_at {
                Some(at) if at > now => {
                    Some(format!("{wait} (in {})", text::age(at.since_us(now))))
                }
                _ => Some(wait),
            }
        }
        _ => None,
    }
}

impl Record for TaskRecord {
    fn name(&self) -> String {
        TaskKey::new(self.execution, self.number).to_string()
    }

    fn cells(&self) -> Vec<Cell> {
        let since = |us: i64| match us {
            0 => "-".to_owned(),
            us => text::duration(us),
        };
        vec![
            self.number.to_string().into(),
            (&self.node).into(),
            Cell::new(self.status_text(), Tone::from(self.status)),
            self.attempt.to_string().into(),
            since(self.queued_us).into(),
            since(self.active_us).into(),
            since(self.deferred_us).into(),
            self.progress_text()
                .unwrap_or_else(|| "-".to_owned())
                .into(),
            self.detail().unwrap_or_default().into(),
        ]
    }
}
