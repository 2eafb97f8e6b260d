//! The query that adds up an execution's tasks.

use std::sync::LazyLock;

use abide_core::ids::{ExecutionId, Timestamp};

use crate::error::StoreError;
use crate::queries;
use crate::rollup::Rollup;
use crate::rows::{self, EXECUTION, FromColumns, TALLY};
use crate::views::ExecutionView;

use super::queries::{Reader, int, rows_of};
use super::rows::Cells;
use super::statement::{Execute, Statement, Value};

/// How many columns an execution has as a reader sees it.
fn execution_columns() -> usize {
    EXECUTION.len() + 7
}

/// The execution with nothing after it, and its tasks with nothing before them: a single statement
/// sees a single moment.
static SUMMARY: LazyLock<String> = LazyLock::new(|| {
    let nothing = |columns: usize| vec!["NULL"; columns].join(", ");
    format!(
        "SELECT e.*, {} FROM ({}) e UNION ALL SELECT {}, {TALLY} FROM ~task_executions WHERE execution = $2::bigint",
        nothing(TALLY.len()),
        queries::execution_sql(),
        nothing(execution_columns()),
    )
});

impl<E: Execute + Sync> Reader<'_, E> {
    /// An execution and its tasks' sum, of one moment.
    pub(crate) async fn summary(
        &self,
        id: ExecutionId,
        now: Timestamp,
    ) -> Result<Option<(ExecutionView, Rollup)>, StoreError> {
        let statement = Statement::new(&SUMMARY, vec![int(now.0), int(id.0)]);
        let (mut view, mut rollup) = (None, Rollup::default());
        for mut row in rows_of(self.execute, statement).await? {
            if row.first() == Some(&Value::Null) {
                let task = row.split_off(execution_columns());
                rows::tally(&mut Cells::new(task), &mut rollup, now)
                    .map_err(|error| error.of(format!("a task of execution {id}")))?;
            } else {
                let read = ExecutionView::from_columns(&mut Cells::new(row));
                view = Some(read.map_err(|error| error.of(format!("execution {id}")))?);
            }
        }
        Ok(view.map(|view| (view, rollup)))
    }
}
