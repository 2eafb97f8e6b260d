//! The query that adds up an execution's tasks. Grouped here rather than in SQL: SQLite would sort
//! the whole rows first, which takes four times as long.

use abide_core::ids::{ExecutionId, Timestamp};
use abide_core::status::{SubStatus, TaskStatus};
use rusqlite::Row;
use serde::Deserialize;

use crate::error::StoreError;
use crate::rollup::{Rollup, TaskTimes};
use crate::views::ExecutionView;

use super::queries::{Read, Reader};
use super::rows::Columns;

/// The part of a reported progress that adds up.
#[derive(Deserialize)]
struct Reported {
    percent: f64,
}

impl Reader<'_> {
    /// An execution and its tasks' sum, of one moment.
    pub(crate) fn summary(
        &self,
        id: ExecutionId,
        now: Timestamp,
    ) -> Result<Option<(ExecutionView, Rollup)>, StoreError> {
        let fail = || self.fail(format!("execution {id}"));
        let snapshot = self.connection.unchecked_transaction().map_err(fail())?;
        let view = self.execution(id)?;
        let summary = match view {
            Some(view) => Some((view, self.rollup(id, now)?)),
            None => None,
        };
        snapshot.finish().map_err(fail())?;
        Ok(summary)
    }

    fn rollup(&self, id: ExecutionId, now: Timestamp) -> Result<Rollup, StoreError> {
        let read = || -> Read<Rollup> {
            let mut statement = self.connection.prepare_cached(
                "SELECT status, sub_status, ready_at, changed_at, queued_us, active_us, deferred_us, retry_wait_us, \
                 progress FROM task_executions WHERE execution = ?1",
            )?;
            let mut rows = statement.query([id.0])?;
            let mut rollup = Rollup::default();
            while let Some(row) = rows.next()? {
                add(&mut rollup, row, now)?;
            }
            Ok(rollup)
        };
        read().map_err(self.fail(format!("a task of execution {id}")))
    }
}

fn add(rollup: &mut Rollup, row: &Row<'_>, now: Timestamp) -> Read<()> {
    let mut columns = Columns::new(row);
    let status = columns.parse("status of a task", TaskStatus::parse)?;
    let sub_status = columns.parse_option("sub-status", SubStatus::parse)?;
    let (ready_at, changed_at) = (columns.time()?, Timestamp(columns.get()?));
    let mut times = TaskTimes {
        queued_us: columns.get()?,
        active_us: columns.get()?,
        deferred_us: columns.get()?,
        retry_wait_us: columns.get()?,
    };
    times.add_current(status, sub_status, changed_at, ready_at, now);
    let retry_wait = status == TaskStatus::Ready && ready_at.is_some_and(|due| due > now);
    let progress: Option<String> = columns.get()?;
    // What a task reported is no reason to refuse the whole answer.
    let reported = progress.and_then(|json| serde_json::from_str::<Reported>(&json).ok());
    let percent = reported.map_or(0.0, |reported| reported.percent);
    rollup.add(status, sub_status, retry_wait, times, percent);
    Ok(())
}
