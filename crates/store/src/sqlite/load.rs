//! Fills a working set: reads what a rule needs, on the write connection, inside its transaction.

use std::sync::Arc;

use abide_core::context::{self, Changes};
use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, VersionId, WorkerId};
use abide_core::kernel::{ContextParts, Latest, Need, PIECE, Working};
use abide_core::payload::Payload;
use abide_core::step::{Operation, StepEnd, StepKind};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Map, Value};

use crate::error::StoreError;
use crate::flush::Flush;
use crate::graphs::GraphCache;
use crate::rows::{self, EXECUTION, STEP, TASK};
use crate::words;

use super::connection::Database;
use super::maintenance;
use super::rows::{Cells, mismatch, payload};
use super::workers::WorkerFiles;

/// What loading needs besides the connection.
pub(crate) struct Loader<'a> {
    pub(crate) database: &'a Database,
    pub(crate) connection: &'a Connection,
    pub(crate) graphs: &'a GraphCache,
    pub(crate) workers: &'a WorkerFiles,
}

type Read<T> = rusqlite::Result<T>;

/// Unread signals that are read at once: a task takes few of what may be many.
const UNREAD_AT_ONCE: usize = 64;

impl Loader<'_> {
    /// Reads what the requests of a flush miss until they have all run.
    pub(crate) fn run_through(&self, flush: &mut Flush<'_>) -> Result<(), StoreError> {
        while !flush.is_done() {
            for need in flush.missing() {
                match self.load(&mut flush.working, &need) {
                    Err(error) if error.is_content() => flush.cannot_read(&need, &error),
                    read => read?,
                }
            }
            flush.run()?;
        }
        Ok(())
    }

    /// Reads one need into the working set.
    pub(crate) fn load(&self, working: &mut Working, need: &Need) -> Result<(), StoreError> {
        let connection = self.connection;
        let of = |error| self.database.read_error(error, words::need(need));
        match need {
            Need::Instance(instance) => {
                let latest = self.latest(instance).map_err(of)?;
                if let Some(latest) = &latest {
                    self.load(working, &Need::Execution(latest.id))?;
                }
                working.load_instance(instance.clone(), latest);
            }
            Need::Execution(id) => {
                working.load_execution(*id, execution(connection, *id).map_err(of)?)
            }
            Need::Task(key) => working.load_task(*key, task(connection, *key).map_err(of)?),
            Need::Graph(id, version, own) => {
                working.load_graph(*id, *version, *own, self.graph(*id, *version, *own)?)
            }
            Need::OpenTasks(id) => self.open_tasks(working, *id).map_err(of)?,
            Need::Failures(id) => self.failures(working, *id).map_err(of)?,
            Need::Context(id) => {
                working.load_context(*id, context_parts(connection, *id).map_err(of)?)
            }
            Need::Waits(key) => working.load_waits(*key, waits(connection, *key).map_err(of)?),
            Need::StepCount(key) => {
                working.load_step_count(*key, self.step_count(*key).map_err(of)?)
            }
            Need::Step(key, number) => {
                let recorded = self.recorded(*key, *number).map_err(of)?;
                working.load_step(*key, *number, recorded);
            }
            Need::Mailbox(id, name) => {
                let after = working.mailbox_loaded_to(*id, name);
                let unread = self.unread(*id, name, after).map_err(of)?;
                let more = unread.len() == UNREAD_AT_ONCE;
                working.load_mailbox(*id, name.clone(), unread, more);
            }
            Need::SignalNumber(instance, name) => {
                let next = self.signal_number(instance, name).map_err(of)?;
                working.load_signal_number(instance.clone(), name.clone(), next);
            }
            Need::SignalWaiters(id, name) => {
                let waiters = self.signal_waiters(*id, name).map_err(of)?;
                working.load_signal_waiters(*id, name.clone(), waiters);
            }
            Need::Worker(id) => working.load_worker(*id, self.is_alive(*id).map_err(of)?),
            Need::ReadyHead(queues) => {
                working.load_ready_head(self.ready_head(queues).map_err(of)?)
            }
        }
        Ok(())
    }

    // Relies on executions_instance.
    fn latest(&self, instance: &str) -> Read<Option<Latest>> {
        self.connection
            .prepare_cached(
                "SELECT id, generation, input_hash FROM executions \
                 WHERE instance = ?1 AND generation IS NOT NULL ORDER BY generation DESC LIMIT 1",
            )?
            .query_row([instance], |row| {
                Ok(Latest {
                    id: ExecutionId(row.get(0)?),
                    generation: row.get(1)?,
                    input_hash: row.get(2)?,
                })
            })
            .optional()
    }

    fn graph(
        &self,
        id: ExecutionId,
        version: VersionId,
        own: bool,
    ) -> Result<Arc<Graph>, StoreError> {
        load_graph(
            self.database,
            self.connection,
            self.graphs,
            id,
            version,
            own,
        )
    }

    fn open_tasks(&self, working: &mut Working, id: ExecutionId) -> Read<()> {
        // Those that a worker holds are no more than its slots and what it has parked; the rest may
        // be a whole graph.
        self.load_open(working, id, "worker IS NOT NULL", u32::MAX)?;
        let read = self.load_open(working, id, "worker IS NULL", PIECE + 1)?;
        working.load_open_tasks(id, read > PIECE);
        Ok(())
    }

    fn load_open(
        &self,
        working: &mut Working,
        id: ExecutionId,
        which: &str,
        limit: u32,
    ) -> Read<u32> {
        let sql = format!(
            "SELECT {TASK} FROM task_executions WHERE execution = ?1 AND closed_at IS NULL \
             AND {which} ORDER BY number LIMIT ?2"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![id.0, limit])?;
        let mut read = 0;
        while let Some(row) = rows.next()? {
            let task = rows::task(&mut Cells::new(self.connection, row))?;
            working.load_task(task.key, Some(task));
            read += 1;
        }
        Ok(read)
    }

    fn failures(&self, working: &mut Working, id: ExecutionId) -> Read<()> {
        let failed = abide_core::status::TaskStatus::Failed.as_str();
        let abandoned = abide_core::status::TaskStatus::Abandoned.as_str();
        let sql = format!(
            "SELECT {TASK} FROM task_executions WHERE execution = ?1 AND status IN (?2, ?3)"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![id.0, failed, abandoned])?;
        while let Some(row) = rows.next()? {
            let task = rows::task(&mut Cells::new(self.connection, row))?;
            working.load_task(task.key, Some(task));
        }
        working.load_failures(id);
        Ok(())
    }

    fn step_count(&self, key: TaskKey) -> Read<u32> {
        self.connection
            .prepare_cached("SELECT count(*) FROM steps WHERE execution = ?1 AND task = ?2")?
            .query_row(params![key.execution.0, key.number], |row| row.get(0))
    }

    fn recorded(&self, key: TaskKey, number: u32) -> Read<Option<String>> {
        let sql =
            format!("SELECT {STEP} FROM steps WHERE execution = ?1 AND task = ?2 AND number = ?3");
        self.connection
            .prepare_cached(&sql)?
            .query_row(params![key.execution.0, key.number, number], |row| {
                Ok(rows::step(&mut Cells::new(self.connection, row))?
                    .id
                    .to_string())
            })
            .optional()
    }

    fn signal_number(&self, instance: &str, name: &str) -> Read<i64> {
        self.connection
            .prepare_cached("SELECT coalesce(max(number), 0) + 1 FROM signals WHERE instance = ?1 AND name = ?2")?
            .query_row([instance, name], |row| row.get(0))
    }

    // Relies on signals_unread.
    fn unread(&self, id: ExecutionId, name: &str, after: i64) -> Read<Vec<(i64, Payload)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT number, payload FROM signals \
             WHERE execution = ?1 AND name = ?2 AND number > ?3 AND read_execution IS NULL ORDER BY number LIMIT ?4",
        )?;
        let mut rows = statement.query(params![id.0, name, after, UNREAD_AT_ONCE as i64])?;
        let mut unread = Vec::new();
        while let Some(row) = rows.next()? {
            let payload = payload(self.connection, row.get(1)?)?;
            let missing = || mismatch(1, "a signal without a payload".into());
            unread.push((row.get(0)?, payload.ok_or_else(missing)?));
        }
        Ok(unread)
    }

    // Relies on steps_waiting.
    fn signal_waiters(&self, id: ExecutionId, name: &str) -> Read<Vec<TaskKey>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT DISTINCT task FROM steps WHERE execution = ?1 AND state = 'waiting' AND kind = ?2 AND name = ?3",
        )?;
        let tasks = statement.query_map(params![id.0, StepKind::Signal.as_str(), name], |row| {
            row.get(0)
        })?;
        tasks.map(|number| Ok(TaskKey::new(id, number?))).collect()
    }

    /// On one machine the lock tells it: the system frees it when the process dies, long before its
    /// lease is over, and a clock that jumped past the lease frees nothing.
    fn is_alive(&self, id: WorkerId) -> Read<bool> {
        Ok(maintenance::is_registered(self.connection, id)? && self.workers.is_held(id))
    }

    fn ready_head(&self, queues: &[VersionId]) -> Read<Option<i16>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT priority FROM task_outbox WHERE worker = 0 AND queue = ?1 ORDER BY priority DESC LIMIT 1")?;
        let mut head = None;
        for queue in queues {
            let priority: Option<i16> = statement
                .query_row([queue.0], |row| row.get(0))
                .optional()?;
            head = head.max(priority);
        }
        Ok(head)
    }
}

/// An execution's row.
pub(crate) fn execution(
    connection: &Connection,
    id: ExecutionId,
) -> Read<Option<abide_core::execution::Execution>> {
    static SQL: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| format!("SELECT {EXECUTION} FROM executions WHERE id = ?1"));
    connection
        .prepare_cached(&SQL)?
        .query_row([id.0], |row| {
            rows::execution(&mut Cells::new(connection, row))
        })
        .optional()
}

/// A task's row.
pub(crate) fn task(connection: &Connection, key: TaskKey) -> Read<Option<abide_core::task::Task>> {
    static SQL: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        format!("SELECT {TASK} FROM task_executions WHERE execution = ?1 AND number = ?2")
    });
    connection
        .prepare_cached(&SQL)?
        .query_row(params![key.execution.0, key.number], |row| {
            rows::task(&mut Cells::new(connection, row))
        })
        .optional()
}

/// The graph of an execution or of its workflow version, from the cache or the store.
pub(crate) fn load_graph(
    database: &Database,
    connection: &Connection,
    cache: &GraphCache,
    id: ExecutionId,
    version: VersionId,
    own: bool,
) -> Result<Arc<Graph>, StoreError> {
    if let Some(graph) = cache.get(id, version, own) {
        return Ok(graph);
    }
    let what = || words::graph(id, version, own);
    let read = || -> Read<Option<Payload>> {
        let (sql, key) = match own {
            true => ("SELECT graph FROM executions WHERE id = ?1", id.0),
            false => (
                "SELECT graph FROM workflow_versions WHERE id = ?1",
                version.0,
            ),
        };
        let stored: Option<Option<String>> = connection
            .prepare_cached(sql)?
            .query_row([key], |row| row.get(0))
            .optional()?;
        payload(connection, stored.flatten())
    };
    let json = read().map_err(|error| database.read_error(error, what()))?;
    let undecodable = |detail: String| StoreError::Undecodable {
        what: what(),
        detail,
    };
    let json = json.ok_or_else(|| undecodable("it is not stored".into()))?;
    let graph = Graph::from_json(json.as_str()).map_err(|error| undecodable(error.to_string()))?;
    Ok(cache.put(id, version, own, Arc::new(graph)))
}

/// The waits that a task has recorded, by number. Relies on steps_waiting.
fn waits(connection: &Connection, key: TaskKey) -> Read<Vec<Operation>> {
    let sql = format!(
        "SELECT {STEP} FROM steps WHERE execution = ?1 AND task = ?2 AND state = 'waiting' ORDER BY number"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![key.execution.0, key.number])?;
    let mut waits = Vec::new();
    while let Some(row) = rows.next()? {
        let record = rows::step(&mut Cells::new(connection, row))?;
        if let StepEnd::Waiting { due_at } = record.end {
            waits.push(Operation {
                id: record.id,
                due_at,
            });
        }
    }
    Ok(waits)
}

/// The context an execution began with.
pub(crate) fn context_base(connection: &Connection, id: ExecutionId) -> Read<Map<String, Value>> {
    let input: Option<Option<String>> = connection
        .prepare_cached("SELECT input FROM executions WHERE id = ?1")?
        .query_row([id.0], |row| row.get(0))
        .optional()?;
    let input = payload(connection, input.flatten())?;
    context::base(input.as_ref()).map_err(|error| mismatch(0, format!("input: {error}")))
}

fn context_parts(connection: &Connection, id: ExecutionId) -> Read<ContextParts> {
    let mut parts = ContextParts {
        base: context_base(connection, id)?,
        ..ContextParts::default()
    };
    let mut statement = connection.prepare_cached(
        "SELECT number, changes, checkpoint FROM task_executions \
         WHERE execution = ?1 AND (changes IS NOT NULL OR checkpoint IS NOT NULL)",
    )?;
    let mut rows = statement.query([id.0])?;
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        if let Some(payload) = payload(connection, row.get(1)?)? {
            parts.changes.insert(number, changes(&payload)?);
        }
        if let Some(payload) = payload(connection, row.get(2)?)? {
            parts.checkpoints.insert(number, changes(&payload)?);
        }
    }
    Ok(parts)
}

/// What a task changed, from its stored form.
pub(crate) fn changes(payload: &Payload) -> Read<Changes> {
    serde_json::from_str(payload.as_str()).map_err(|error| mismatch(0, format!("changes: {error}")))
}
