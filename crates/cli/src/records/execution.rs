//! A row of a table of executions.

use abide::ExecutionRecord;

use crate::output::text;
use crate::output::{Cell, Record, Tone};

/// The columns of a table of executions.
pub(crate) const EXECUTION_COLUMNS: &[&str] = &[
    "ID",
    "INSTANCE",
    "WORKFLOW",
    "STATUS",
    "BLOCKED ON",
    "TASKS",
    "AGE",
    "DURATION",
    "REASON",
];

impl Record for ExecutionRecord {
    fn name(&self) -> String {
        self.id.to_string()
    }

    fn cells(&self) -> Vec<Cell> {
        let dash = || "-".to_owned();
        vec![
            Cell::whole(self.id.to_string()),
            ExecutionRecord::name(self).into(),
            (&self.workflow).into(),
            Cell::new(self.status_text(), Tone::from(self.status)),
            self.blocked_on_text().unwrap_or_else(dash).into(),
            self.tasks_text().into(),
            text::age(self.as_of.since_us(self.created_at.0)).into(),
            self.run_us.map_or_else(dash, text::duration).into(),
            self.reason.as_deref().unwrap_or_default().into(),
        ]
    }
}
