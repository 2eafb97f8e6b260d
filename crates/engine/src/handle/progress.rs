//! A task reports its progress. The latest value is kept in memory and written at most once a second.
//! The task never waits for the write.

use std::sync::{Arc, MutexGuard, PoisonError};

use abide_core::kernel::Progress;
use thiserror::Error;

use super::TaskHandle;
use super::report_writer::ReportWriter;
use super::reports::{Report, Reports};
use crate::attempt::Attempt;

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
        if !reports.raise(next) {
            return;
        }
        let Some(writer) = self.attempt.report_writer.upgrade() else {
            return;
        };
        if reports.begins_writer() {
            drop(reports);
            let attempt = Arc::clone(&self.attempt);
            writer.spawn(write_until_quiet(attempt, Arc::clone(&writer)));
        }
    }
}

impl Attempt {
    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The progress to write when the attempt ends, if it is not written yet.
    pub(crate) fn take_progress(&self) -> Option<Progress> {
        let value = self.reports().take_last()?;
        Some(self.progress_of(value))
    }

    fn progress_of(&self, value: String) -> Progress {
        let held = self.held;
        Progress { held, value }
    }
}

/// Writes now and then once a second, until a second passes without a new report.
async fn write_until_quiet(attempt: Arc<Attempt>, writer: Arc<ReportWriter>) {
    loop {
        let Some(value) = attempt.reports().take_or_end() else {
            return;
        };
        let written = writer.write(attempt.progress_of(value)).await;
        attempt.reports().note_written(written.is_ok());
        if let Err(error) = written {
            // Only the latest value matters, and another follows, or the attempt's end writes it.
            tracing::debug!(key = %attempt.key(), %error, "the progress of a task was not written");
        }
        tokio::select! {
            () = writer.pause() => {}
            () = attempt.left() => return,
        }
    }
}
