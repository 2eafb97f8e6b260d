//! The query that adds up an execution's tasks. Grouped here rather than in SQL: SQLite would sort
//! the whole rows first, which takes four times as long.

use std::sync::LazyLock;

use abide_core::ids::{ExecutionId, Timestamp};

use crate::error::StoreError;
use crate::queries;
use crate::rollup::Rollup;
use crate::rows::{self, TALLY};
use crate::views::ExecutionView;

use super::queries::{Read, Reader};

impl Reader<'_> {
    /// An execution and its tasks' sum, of one moment.
    pub(crate) fn summary(
        &self,
        id: ExecutionId,
        now: Timestamp,
    ) -> Result<Option<(ExecutionView, Rollup)>, StoreError> {
        let fail = || self.fail(format!("execution {id}"));
        let snapshot = self.connection.unchecked_transaction().map_err(fail())?;
        let view = self.one(queries::execution(id, now))?;
        let summary = match view {
            Some(view) => Some((view, self.rollup(id, now)?)),
            None => None,
        };
        snapshot.finish().map_err(fail())?;
        Ok(summary)
    }

    fn rollup(&self, id: ExecutionId, now: Timestamp) -> Result<Rollup, StoreError> {
        static SQL: LazyLock<String> =
            LazyLock::new(|| format!("SELECT {TALLY} FROM task_executions WHERE execution = ?1"));
        let read = || -> Read<Rollup> {
            let mut statement = self.connection.prepare_cached(&SQL)?;
            let mut rows = statement.query([id.0])?;
            let mut rollup = Rollup::default();
            while let Some(row) = rows.next()? {
                rows::tally(&mut self.cells(row), &mut rollup, now)?;
            }
            Ok(rollup)
        };
        read().map_err(self.fail(format!("a task of execution {id}")))
    }
}
