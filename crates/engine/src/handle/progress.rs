//! A task's progress. The latest value is kept in memory and written at most once a second. The
//! task never waits for the write. Within an attempt the share only rises, and it stays below 100 %
//! until the task has completed.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use abide_core::kernel::Progress;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::TaskHandle;
use crate::attempt::Attempt;
use crate::worker::Worker;

/// Time between two writes of a task's progress.
const INTERVAL: Duration = Duration::from_secs(1);

/// The highest progress of a task that has not completed.
const MOST_PERCENT: f64 = 99.0;

/// Longest name of a step, in characters. The rest is cut off.
const MAX_STEP_CHARS: usize = 200;

/// Why a progress report was refused.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ProgressError {
    /// The share is not between 0 and 1.
    #[error("a progress of {0} is outside 0 to 1")]
    Share(f64),
    /// The completed part is larger than the total.
    #[error("a progress of {completed} of {total} is outside 0 to 1")]
    Steps {
        /// The completed part.
        completed: u64,
        /// The total.
        total: u64,
    },
}

/// The latest report, and whether it is written.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    latest: Report,
    unwritten: bool,
    /// The latest value is being written.
    on_its_way: bool,
    /// A writer runs, once a second.
    writer: bool,
}

/// A reported progress as it is stored. Fields that were never reported are absent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(crate) struct Report {
    pub(crate) percent: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) completed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) step: Option<String>,
}

impl TaskHandle {
    /// Reports the share of the work that is done, from 0 to 1. A share smaller than the last one
    /// is ignored. A share outside 0 to 1 is an error.
    ///
    /// The call is cheap: the latest value is written in the background, at most once a second, and
    /// when the attempt ends.
    pub fn progress(&self, share: f64) -> Result<(), ProgressError> {
        if !(0.0..=1.0).contains(&share) {
            return Err(ProgressError::Share(share));
        }
        self.report(|latest| Report {
            percent: share * 100.0,
            ..latest.clone()
        });
        Ok(())
    }

    /// Reports that `completed` of `total` parts are done, and the name of the current part.
    pub fn progress_step(
        &self,
        completed: u64,
        total: u64,
        step: &str,
    ) -> Result<(), ProgressError> {
        if completed > total {
            return Err(ProgressError::Steps { completed, total });
        }
        let share = if total == 0 {
            0.0
        } else {
            completed as f64 / total as f64
        };
        self.report(|_| Report {
            percent: share * 100.0,
            completed: Some(completed),
            total: Some(total),
            step: Some(step.chars().take(MAX_STEP_CHARS).collect()),
        });
        Ok(())
    }

    fn report(&self, next: impl FnOnce(&Report) -> Report) {
        let mut reports = self.attempt.reports();
        if !reports.raise(next) || reports.writer {
            return;
        }
        let Some(worker) = self.attempt.worker.upgrade() else {
            return;
        };
        reports.writer = true;
        drop(reports);
        let write = write_until_quiet(Arc::clone(&self.attempt), Arc::clone(&worker));
        worker.runtime.spawn(write);
    }
}

impl Reports {
    /// Takes the next report, unless its share is smaller. Returns whether it was taken.
    fn raise(&mut self, next: impl FnOnce(&Report) -> Report) -> bool {
        let mut next = next(&self.latest);
        next.percent = next.percent.min(MOST_PERCENT);
        if next.percent < self.latest.percent || next == self.latest {
            return false;
        }
        self.latest = next;
        self.unwritten = true;
        true
    }

    fn take(&mut self) -> Option<String> {
        if !std::mem::take(&mut self.unwritten) {
            return None;
        }
        Some(serde_json::to_string(&self.latest).expect("a report has string keys"))
    }

    /// Like [`take`](Reports::take) for the writer, which ends if there is no new report.
    fn take_or_end(&mut self) -> Option<String> {
        let value = self.take();
        self.writer = value.is_some();
        self.on_its_way = value.is_some();
        value
    }
}

impl Attempt {
    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The progress to write when the attempt ends, if it is not written yet.
    pub(crate) fn take_progress(&self) -> Option<Progress> {
        let mut reports = self.reports();
        // What is on its way might come too late, and is the same.
        reports.unwritten |= reports.on_its_way;
        reports.take().map(|value| self.progress_of(value))
    }

    fn progress_of(&self, value: String) -> Progress {
        let held = self.held;
        Progress { held, value }
    }
}

/// Writes now and then once a second, until a second passes without a new report.
async fn write_until_quiet(attempt: Arc<Attempt>, worker: Arc<Worker>) {
    loop {
        let Some(value) = attempt.reports().take_or_end() else {
            return;
        };
        let written = worker.store.apply(attempt.progress_of(value)).await;
        attempt.reports().on_its_way = false;
        if let Err(error) = written {
            // Only the latest value matters, and another follows, or the attempt's end writes it.
            tracing::debug!(key = %attempt.key(), %error, "the progress of a task was not written");
            attempt.reports().unwritten = true;
        }
        tokio::select! {
            () = worker.clock.sleep(INTERVAL) => {}
            () = attempt.left() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(share: f64) -> impl FnOnce(&Report) -> Report {
        move |latest| Report {
            percent: share * 100.0,
            ..latest.clone()
        }
    }

    #[test]
    fn progress_only_rises_and_stays_below_the_end() {
        let mut reports = Reports::default();
        assert!(reports.raise(percent(0.5)));
        assert!(!reports.raise(percent(0.25)));
        assert_eq!(reports.take().as_deref(), Some(r#"{"percent":50.0}"#));
        assert!(reports.raise(percent(1.0)));
        assert_eq!(reports.take().as_deref(), Some(r#"{"percent":99.0}"#));
    }

    #[test]
    fn what_did_not_change_is_not_written() {
        let mut reports = Reports::default();
        assert!(!reports.raise(percent(0.0)));
        assert_eq!(reports.take(), None);
        assert!(reports.raise(percent(0.1)));
        assert!(reports.take().is_some());
        assert!(!reports.raise(percent(0.1)));
        assert_eq!(reports.take(), None);
    }

    #[test]
    fn the_name_of_a_step_is_news_too() {
        let mut reports = Reports::default();
        let step = |name: &str| {
            let step = Some(name.to_owned());
            move |_: &Report| Report {
                percent: 0.0,
                completed: Some(0),
                total: Some(2),
                step,
            }
        };
        assert!(reports.raise(step("reading")));
        assert!(reports.raise(step("writing")));
        assert_eq!(
            reports.take().as_deref(),
            Some(r#"{"percent":0.0,"completed":0,"total":2,"step":"writing"}"#)
        );
    }
}
