//! A row of a table of tasks.

use abide::TaskKey;
use abide::client::TaskRecord;

use crate::output::text;
use crate::output::{Cell, Record, Tone};

/// The columns of a table of tasks.
pub(crate) const TASK_COLUMNS: &[&str] = &[
    "NUMBER", "NODE", "STATUS", "ATTEMPT", "QUEUED", "ACTIVE", "DEFERRED", "PROGRESS", "DETAIL",
];

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
