//! The latest progress that a task reported, and whether it is written. Within an attempt the share
//! only rises, and it stays below 100 % until the task has completed.

use serde::{Deserialize, Serialize};

/// The highest progress of a task that has not completed.
const MOST_PERCENT: f64 = 99.0;

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

impl Reports {
    /// Whether a writer must be started for the report that was just taken in. The caller starts it.
    pub(super) fn begins_writer(&mut self) -> bool {
        !std::mem::replace(&mut self.writer, true)
    }

    /// The write of the latest value has ended.
    pub(super) fn note_written(&mut self, ok: bool) {
        self.on_its_way = false;
        self.unwritten |= !ok;
    }

    /// The value to write when the attempt ends, if it is not written yet.
    pub(super) fn take_last(&mut self) -> Option<String> {
        // The write that is under way might come too late, and writes the same value.
        self.unwritten |= self.on_its_way;
        self.take()
    }

    /// Takes the next report, unless its share is smaller. Returns whether it was taken.
    pub(super) fn raise(&mut self, next: impl FnOnce(&Report) -> Report) -> bool {
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
    pub(super) fn take_or_end(&mut self) -> Option<String> {
        let value = self.take();
        self.writer = value.is_some();
        self.on_its_way = value.is_some();
        value
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
