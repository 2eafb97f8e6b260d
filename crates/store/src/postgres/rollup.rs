//! The query that adds up an execution's tasks.

use std::sync::LazyLock;

use abide_core::ids::{ExecutionId, Timestamp};

use crate::error::StoreError;
use crate::rollup::Rollup;
use crate::rows::{self, TALLY};
use crate::views::ExecutionView;

use super::queries::{Reader, execution_by_id, int};
use super::rows::Cells;
use super::statement::{Execute, Statement};

impl<E: Execute + Sync> Reader<'_, E> {
    /// An execution and its tasks' sum: of one moment if the transaction reads one snapshot.
    pub(crate) async fn summary(
        &self,
        id: ExecutionId,
        now: Timestamp,
    ) -> Result<Option<(ExecutionView, Rollup)>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!("SELECT {TALLY} FROM ~task_executions WHERE execution = $1::bigint")
        });
        let tasks = Statement::new(&SQL, vec![int(id.0)]);
        let answers = self.execute.run(vec![execution_by_id(id), tasks]).await?;
        let mut answers = answers.into_iter();
        let Some(row) = answers.next().and_then(|mut rows| rows.pop()) else {
            return Ok(None);
        };
        let view = rows::execution_view(&mut Cells::new(row));
        let view = view.map_err(|error| error.of(format!("execution {id}")))?;
        let mut rollup = Rollup::default();
        for row in answers.next().unwrap_or_default() {
            rows::tally(&mut Cells::new(row), &mut rollup, now)
                .map_err(|error| error.of(format!("a task of execution {id}")))?;
        }
        Ok(Some((view, rollup)))
    }
}
