//! A task, as in a list and in a description.

use abide_core::failure::Failure;
use abide_core::ids::{ExecutionId, Timestamp, WorkerId};
use abide_core::status::{Phase, SubStatus, TaskStatus};
use abide_store::{TaskTimes, TaskView};
use serde::Serialize;
use serde_json::value::RawValue;

use super::status_text;
use crate::client::time::{Time, age, comes, raw, time};
use crate::handle::Report;

/// Everything known about a task. Times count up to now.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TaskRecord {
    /// Its execution.
    pub execution: ExecutionId,
    /// Its number in the graph, from 1.
    pub number: u32,
    /// Its node's id.
    pub node: String,
    /// Its status.
    pub status: TaskStatus,
    /// What refines the status, if it is Running.
    pub sub_status: Option<SubStatus>,
    /// The attempt it is at.
    pub attempt: u32,
    /// How often it was claimed.
    pub epoch: u32,
    /// The worker that holds it.
    pub worker: Option<WorkerId>,
    /// What must happen before it continues, in words.
    pub waits_for: Option<String>,
    /// When it can be, or could be, claimed.
    pub ready_at: Option<Time>,
    /// When its wait is over at the latest.
    pub wake_at: Option<Time>,
    /// When it was made.
    pub created_at: Time,
    /// When it was first claimed.
    pub started_at: Option<Time>,
    /// When it ended.
    pub closed_at: Option<Time>,
    /// When it changed last.
    pub changed_at: Time,
    /// Time it was ready and due.
    pub queued_us: i64,
    /// Time it held a slot.
    pub active_us: i64,
    /// Time it waited.
    pub deferred_us: i64,
    /// Time until its retries fell due.
    pub retry_wait_us: i64,
    /// What it reported last.
    pub progress: Option<Box<RawValue>>,
    /// The error with which it ended, or with which an earlier attempt ended. None if it has
    /// completed.
    pub error: Option<Failure>,
}

impl TaskRecord {
    /// The record of a task.
    pub fn new(view: &TaskView, now: Timestamp) -> TaskRecord {
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
            progress: progress(view, status),
            error: view
                .error
                .clone()
                .filter(|_| status != TaskStatus::Completed),
        }
    }

    /// The status, with the sub-status if there is one.
    pub fn status_text(&self) -> String {
        status_text(self.status, self.sub_status.map(SubStatus::as_str))
    }

    fn report(&self) -> Option<Report> {
        let progress = self.progress.as_ref()?;
        serde_json::from_str(progress.get()).ok()
    }

    /// The reported progress in a few words.
    pub fn progress_text(&self) -> Option<String> {
        let report = self.report()?;
        let mut words = vec![format!("{}%", report.percent.floor())];
        if let (Some(completed), Some(total)) = (report.completed, report.total) {
            words.push(format!("({completed}/{total})"));
        }
        words.extend(report.step);
        Some(words.join(" "))
    }

    /// What it waits for, or its error. An error of an earlier attempt is marked as such.
    pub fn detail(&self) -> Option<String> {
        let error = self.error.as_ref().map(ToString::to_string);
        let before = error.as_ref().map(|error| format!("after {error}"));
        match &self.waits_for {
            Some(wait) if self.status == TaskStatus::Ready => match before {
                Some(before) => Some(format!("{wait}, {before}")),
                None => Some(wait.clone()),
            },
            Some(wait) => Some(wait.clone()),
            None if self.status == TaskStatus::Failed => error,
            None => before,
        }
    }
}

/// The last progress that it reported. While a task runs, its share stays below 100; when it has
/// completed, its share is 100.
fn progress(view: &TaskView, status: TaskStatus) -> Option<Box<RawValue>> {
    let reported = view.progress.as_deref()?;
    if status != TaskStatus::Completed {
        return Some(raw(reported));
    }
    match serde_json::from_str::<Report>(reported) {
        Ok(report) => serde_json::value::to_raw_value(&Report {
            percent: 100.0,
            ..report
        })
        .ok(),
        Err(_) => Some(raw(reported)),
    }
}

/// What must happen before the task continues.
fn waits_for(view: &TaskView, now: Timestamp) -> Option<String> {
    let task = &view.task;
    match task.phase {
        Phase::Pending => match task.waiting {
            0 => Some("its execution's start".to_owned()),
            1 => Some("1 dependency".to_owned()),
            open => Some(format!("{open} dependencies")),
        },
        Phase::Ready => match task.ready_at {
            Some(due) if due > now => Some(format!(
                "attempt {} in {}",
                task.attempt,
                age(due.since_us(now))
            )),
            _ => Some("a worker's free slot".to_owned()),
        },
        Phase::Deferred | Phase::Evicted => {
            let wait = task.wait.clone().unwrap_or_else(|| "a wake-up".to_owned());
            match task.wake_at {
                Some(at) if at > now && comes(at) => {
                    Some(format!("{wait} (in {})", age(at.since_us(now))))
                }
                _ => Some(wait),
            }
        }
        _ => None,
    }
}
