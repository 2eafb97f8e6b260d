//! Rows: how executions, tasks, steps and timers are read from their columns. A row that does not
//! parse names itself and what is wrong with it.

use std::sync::Arc;

use abide_core::execution::Execution;
use abide_core::failure::Failure;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::payload::Payload;
use abide_core::status::{ExecutionStatus, Phase, SubStatus, TaskStatus};
use abide_core::step::{StepEnd, StepId, StepKind, StepRecord, StepState};
use abide_core::task::Task;
use abide_core::timer::{Timer, TimerKind};
use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::error::StoreError;

use super::connection::Database;

/// The columns that [`execution`] reads, in its order.
pub(crate) const EXECUTION: &str = "id, instance, generation, workflow_version, status, reason, open, failed, \
     priority, start_at, deadline_at, grace_until, graph IS NOT NULL, version, created_at, started_at, closed_at, \
     changed_at";

/// The columns that [`task`] reads, in its order.
pub(crate) const TASK: &str = "execution, number, status, sub_status, attempt, epoch, crashes, crash_steps, worker, \
     waiting, unmet, ready_at, wake_at, wait, version, created_at, started_at, closed_at, changed_at, queued_us, \
     active_us, deferred_us, retry_wait_us";

/// The columns that [`step`] reads, in its order.
pub(crate) const STEP: &str = "number, kind, name, fingerprint, state, ordinal, due_at, result";

/// Reads columns from left to right.
pub(crate) struct Columns<'a, 'r> {
    row: &'a Row<'r>,
    next: usize,
}

impl<'a, 'r> Columns<'a, 'r> {
    pub(crate) fn new(row: &'a Row<'r>) -> Self {
        Columns { row, next: 0 }
    }

    pub(crate) fn get<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        let value = self.row.get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    pub(crate) fn time(&mut self) -> rusqlite::Result<Option<Timestamp>> {
        Ok(self.get::<Option<i64>>()?.map(Timestamp))
    }

    pub(crate) fn text(&mut self) -> rusqlite::Result<Arc<str>> {
        let text = self.row.get_ref(self.next)?.as_str()?;
        self.next += 1;
        Ok(Arc::from(text))
    }

    /// Like [`Columns::parse`] where NULL stands for none.
    pub(crate) fn parse_option<T>(
        &mut self,
        what: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> rusqlite::Result<Option<T>> {
        if self.row.get_ref(self.next)? == rusqlite::types::ValueRef::Null {
            self.next += 1;
            return Ok(None);
        }
        self.parse(what, parse).map(Some)
    }

    /// A text that stands for a value.
    pub(crate) fn parse<T>(
        &mut self,
        what: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> rusqlite::Result<T> {
        let at = self.next;
        self.next += 1;
        let text = self.row.get_ref(at)?.as_str()?;
        parse(text).ok_or_else(|| mismatch(at, format!("`{text}` is no {what}")))
    }
}

/// A value that cannot be what its column says.
pub(crate) fn mismatch(column: usize, detail: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, detail.into())
}

/// Whether an error is about a row's content rather than about the database.
pub(crate) fn is_content(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    matches!(
        error,
        E::FromSqlConversionFailure(..)
            | E::IntegralValueOutOfRange(..)
            | E::InvalidColumnType(..)
            | E::Utf8Error(..)
    )
}

/// What is wrong with a row, without the words that SQLite's driver puts before it.
fn content_error(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::FromSqlConversionFailure(_, _, detail) => detail.to_string(),
        error => error.to_string(),
    }
}

impl Database {
    /// The store's error for one met while reading `what`.
    pub(crate) fn read_error(
        &self,
        error: rusqlite::Error,
        what: impl std::fmt::Display,
    ) -> StoreError {
        match is_content(&error) {
            true => StoreError::Undecodable {
                what: what.to_string(),
                detail: content_error(&error),
            },
            false => self.error(error, false),
        }
    }
}

pub(crate) fn execution(row: &Row<'_>) -> rusqlite::Result<Execution> {
    let mut columns = Columns::new(row);
    Ok(Execution {
        id: ExecutionId(columns.get()?),
        instance: columns.text()?,
        generation: columns.get()?,
        workflow: VersionId(columns.get()?),
        status: columns.parse("status of an execution", ExecutionStatus::parse)?,
        reason: columns.get()?,
        open: columns.get()?,
        failed: columns.get()?,
        priority: columns.get()?,
        start_at: columns.time()?,
        deadline_at: columns.time()?,
        grace_until: columns.time()?,
        own_graph: columns.get()?,
        version: columns.get()?,
        created_at: Timestamp(columns.get()?),
        started_at: columns.time()?,
        closed_at: columns.time()?,
        changed_at: Timestamp(columns.get()?),
    })
}

pub(crate) fn task(row: &Row<'_>) -> rusqlite::Result<Task> {
    let mut columns = Columns::new(row);
    let key = TaskKey::new(ExecutionId(columns.get()?), columns.get()?);
    let status = columns.parse("status of a task", TaskStatus::parse)?;
    let sub_status = columns.parse_option("sub-status", SubStatus::parse)?;
    let attempt = columns.get()?;
    let epoch = columns.get()?;
    let crashes = columns.get()?;
    let crash_steps = columns.get()?;
    let worker: Option<WorkerId> = columns.get::<Option<i64>>()?.map(WorkerId);
    let phase = Phase::of(status, sub_status, worker.is_some()).ok_or_else(|| {
        let sub_status = sub_status.map_or("none", SubStatus::as_str);
        mismatch(
            3,
            format!(
                "status {status} with sub-status {sub_status} and worker {worker:?} is impossible"
            ),
        )
    })?;
    Ok(Task {
        key,
        phase,
        attempt,
        epoch,
        crashes,
        crash_steps,
        worker,
        waiting: columns.get()?,
        unmet: columns.get()?,
        ready_at: columns.time()?,
        wake_at: columns.time()?,
        wait: columns.get()?,
        version: columns.get()?,
        created_at: Timestamp(columns.get()?),
        started_at: columns.time()?,
        closed_at: columns.time()?,
        changed_at: Timestamp(columns.get()?),
        queued_us: columns.get()?,
        active_us: columns.get()?,
        deferred_us: columns.get()?,
        retry_wait_us: columns.get()?,
    })
}

/// A recorded operation; its result may be kept in `payloads`.
pub(crate) fn step(connection: &Connection, row: &Row<'_>) -> rusqlite::Result<StepRecord> {
    let mut columns = Columns::new(row);
    let id = StepId {
        number: columns.get()?,
        kind: columns.parse("kind of operation", StepKind::parse)?,
        name: columns.get()?,
        fingerprint: columns.get()?,
    };
    let state = columns.parse("state of an operation", StepState::parse)?;
    let order = columns.get()?;
    let due_at = columns.time()?;
    let result = payload(connection, columns.get()?)?;
    let missing = || {
        mismatch(
            7,
            format!("operation {} is {state} without a result", id.number),
        )
    };
    let end = match state {
        StepState::Waiting => StepEnd::Waiting { due_at },
        StepState::Done => StepEnd::Done(result.ok_or_else(missing)?),
        StepState::Failed => StepEnd::Failed(failure(result.ok_or_else(missing)?.as_str())?),
    };
    Ok(StepRecord { id, end, order })
}

pub(crate) fn failure(json: &str) -> rusqlite::Result<Failure> {
    serde_json::from_str(json).map_err(|error| mismatch(7, format!("stored error: {error}")))
}

pub(crate) fn timer(row: &Row<'_>) -> rusqlite::Result<Timer> {
    let kind = row.get(1)?;
    Ok(Timer {
        due_at: Timestamp(row.get(0)?),
        kind: TimerKind::from_code(kind)
            .ok_or_else(|| mismatch(1, format!("{kind} is no kind of timer")))?,
        execution: ExecutionId(row.get(2)?),
        task: row.get(3)?,
        from: row.get(4)?,
    })
}

/// The payload that a column holds or refers to.
pub(crate) fn payload(
    connection: &Connection,
    stored: Option<String>,
) -> rusqlite::Result<Option<Payload>> {
    let Some(text) = stored else { return Ok(None) };
    let Some(id) = text.strip_prefix('@') else {
        return Ok(Some(Payload::from_json(text)));
    };
    let id: i64 = id
        .parse()
        .map_err(|_| mismatch(0, format!("`{text}` refers to no payload")))?;
    let body: Option<String> = connection
        .prepare_cached("SELECT body FROM payloads WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    body.map(|body| Some(Payload::from_json(body)))
        .ok_or_else(|| mismatch(0, format!("payload {id} is gone")))
}
