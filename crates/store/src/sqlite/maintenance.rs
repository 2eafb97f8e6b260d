//! What keeps a store going besides transitions: workers and their leases, workflow versions, and
//! leftovers of starts that were never finished. Runs on the write connection, inside its
//! transaction.

use std::collections::BTreeSet;

use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId, first_id_at};
use abide_core::status::SubStatus;
use rusqlite::{Connection, OptionalExtension, params};

use crate::checks::check_graph;
use crate::error::StoreError;
use crate::queries;
use crate::views::{NewWorker, WorkflowKind};

use super::rows::{all, rows};
use super::write::store_text;
use super::writer::Errand;

/// How old an unpublished execution must be before its start is taken for abandoned.
const UNPUBLISHED_US: i64 = 60_000_000;

pub(crate) type Run<T> = rusqlite::Result<T>;

pub(crate) fn register_worker(
    connection: &Connection,
    worker: &NewWorker,
    now: Timestamp,
    lease_until: Timestamp,
) -> Run<()> {
    connection
        .prepare_cached(
            "INSERT INTO workers (id, host, pid, started_at, heartbeat_at, lease_until) VALUES (?1, ?2, ?3, ?4, ?4, ?5)",
        )?
        .execute(params![worker.id.0, worker.host, worker.pid, now.0, lease_until.0])?;
    Ok(())
}

/// Renews a lease. False if the worker was declared dead.
pub(crate) fn heartbeat(
    connection: &Connection,
    now: Timestamp,
    id: WorkerId,
    lease_until: Timestamp,
) -> Run<bool> {
    let renewed = connection
        .prepare_cached("UPDATE workers SET heartbeat_at = ?1, lease_until = ?2 WHERE id = ?3 AND ended_at IS NULL")?
        .execute(params![now.0, lease_until.0, id.0])?;
    Ok(renewed == 1)
}

/// Whether a worker is on record and has not ended.
pub(crate) fn is_registered(connection: &Connection, id: WorkerId) -> Run<bool> {
    connection
        .prepare_cached("SELECT 1 FROM workers WHERE id = ?1 AND ended_at IS NULL")?
        .exists([id.0])
}

/// Whether there was a worker of that id.
pub(crate) fn is_id_taken(connection: &Connection, id: WorkerId) -> Run<bool> {
    connection
        .prepare_cached("SELECT 1 FROM workers WHERE id = ?1")?
        .exists([id.0])
}

/// The worker is gone, and with it what was addressed to it. Answers whether it left tasks, which
/// are to be recovered.
pub(crate) fn end_worker(connection: &Connection, now: Timestamp, id: WorkerId) -> Run<bool> {
    connection
        .prepare_cached("UPDATE workers SET ended_at = ?1, lease_until = min(lease_until, ?1) WHERE id = ?2 AND ended_at IS NULL")?
        .execute(params![now.0, id.0])?;
    connection
        .prepare_cached("DELETE FROM task_outbox WHERE worker = ?1")?
        .execute([id.0])?;
    connection
        .prepare_cached("SELECT 1 FROM task_executions WHERE worker = ?1")?
        .exists([id.0])
}

/// Workers that did not say goodbye, and those that left something all the same, since an answer
/// to their last claim was under way.
pub(crate) fn unsettled_workers(connection: &Connection) -> Run<BTreeSet<WorkerId>> {
    let registered = "SELECT id FROM workers WHERE ended_at IS NULL";
    let registered: Vec<WorkerId> = rows(connection, registered, [])?;
    let mut found = BTreeSet::from_iter(registered);
    // From one worker to the next, each found by task_executions_worker or the outbox's key: each
    // may have thousands of rows.
    for next in [
        "SELECT min(worker) FROM task_executions WHERE worker > ?1",
        "SELECT min(worker) FROM task_outbox WHERE worker > ?1",
    ] {
        let mut next = connection.prepare_cached(next)?;
        let mut last = 0;
        while let Some(id) = next.query_row([last], |row| row.get::<_, Option<i64>>(0))? {
            found.insert(WorkerId(id));
            last = id;
        }
    }
    Ok(found)
}

/// The next batch of a dead worker's tasks. Relies on task_executions_worker, and reads nothing
/// besides keys, so that a row whose other columns make no sense is no trouble here.
pub(crate) fn left_by(
    connection: &Connection,
    worker: WorkerId,
    after: TaskKey,
    limit: u32,
) -> Run<Vec<TaskKey>> {
    let sql = "SELECT execution, number FROM task_executions WHERE worker = ?1 AND (execution, number) > (?2, ?3) \
         ORDER BY execution, number LIMIT ?4";
    let values = params![worker.0, after.execution.0, after.number, limit];
    rows(connection, sql, values)
}

/// How many tasks of a dead worker were Active. Relies on task_executions_worker.
pub(crate) fn active_of(connection: &Connection, worker: WorkerId) -> Run<u32> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) FROM task_executions WHERE worker = ?1 AND sub_status = ?2",
    )?;
    let values = params![worker.0, SubStatus::Active.as_str()];
    statement.query_row(values, |row| row.get(0))
}

/// Executions whose large graph was never finished: their process died, or another start won.
pub(crate) fn unpublished(connection: &Connection, now: Timestamp) -> Run<Vec<ExecutionId>> {
    let sql = "SELECT id FROM executions WHERE generation IS NULL AND closed_at IS NULL AND created_at < ?1";
    rows(connection, sql, [now.plus_us(-UNPUBLISHED_US).0])
}

/// Removes the next piece of an unpublished execution. True when nothing is left of it.
pub(crate) fn remove_unpublished(
    connection: &Connection,
    id: ExecutionId,
    limit: u32,
) -> Run<bool> {
    let still: Option<i64> = connection
        .prepare_cached("SELECT id FROM executions WHERE id = ?1 AND generation IS NULL")?
        .query_row([id.0], |row| row.get(0))
        .optional()?;
    if still.is_none() {
        return Ok(true);
    }
    let last: Option<i64> = connection
        .prepare_cached("SELECT max(number) FROM task_executions WHERE execution = ?1")?
        .query_row([id.0], |row| row.get(0))?;
    if let Some(last) = last {
        let from = last - i64::from(limit);
        connection
            .prepare_cached(
                "DELETE FROM payloads WHERE id IN (SELECT CAST(substr(input, 2) AS INTEGER) FROM task_executions \
                 WHERE execution = ?1 AND number > ?2 AND input LIKE '@%')",
            )?
            .execute(params![id.0, from])?;
        for sql in [
            "DELETE FROM task_executions WHERE execution = ?1 AND number > ?2",
            "DELETE FROM execution_events WHERE execution = ?1 AND task > ?2",
        ] {
            connection
                .prepare_cached(sql)?
                .execute(params![id.0, from])?;
        }
        return Ok(false);
    }
    connection
        .prepare_cached(
            "DELETE FROM payloads WHERE id IN (SELECT CAST(substr(x, 2) AS INTEGER) FROM \
             (SELECT input AS x FROM executions WHERE id = ?1 UNION ALL SELECT graph FROM executions WHERE id = ?1) \
             WHERE x LIKE '@%')",
        )?
        .execute([id.0])?;
    for sql in [
        "DELETE FROM execution_events WHERE execution = ?1",
        "DELETE FROM executions WHERE id = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([id.0])?;
    }
    Ok(true)
}

/// Removes the history of the next executions that ended before a time, and answers which.
pub(crate) fn prune_history(
    connection: &Connection,
    now: Timestamp,
    after: ExecutionId,
    before: Timestamp,
    limit: u32,
) -> Run<Vec<ExecutionId>> {
    // What ended before a time was started before it, so what is younger is not looked at.
    let sql = "SELECT id FROM executions WHERE id > ?1 AND id < ?2 AND closed_at < ?3 AND history_pruned_at IS NULL \
         ORDER BY id LIMIT ?4";
    let youngest = first_id_at(before.plus_us(1_000_000));
    let values = params![after.0, youngest, before.0, limit];
    let ended: Vec<ExecutionId> = rows(connection, sql, values)?;
    for id in &ended {
        connection
            .prepare_cached("DELETE FROM execution_events WHERE execution = ?1")?
            .execute([id.0])?;
        connection
            .prepare_cached("UPDATE executions SET history_pruned_at = ?1 WHERE id = ?2")?
            .execute([now.0, id.0])?;
    }
    Ok(ended)
}

/// The id of a workflow version, recorded if it is new. Refused if it is recorded with another graph.
pub(crate) fn ensure_version(
    connection: &Connection,
    now: Timestamp,
    name: &str,
    version: &str,
    kind: WorkflowKind,
    graph: &Graph,
) -> Run<Result<VersionId, StoreError>> {
    let fingerprint = graph.fingerprint();
    let committed = queries::version(name, version, &fingerprint);
    if let Some(id) = all(connection, &committed)?.pop() {
        return Ok(Ok(id));
    }
    let recorded = all(connection, &queries::recorded_graphs(name, version))?;
    if let Err(refused) = check_graph(name, version, kind, graph, recorded) {
        return Ok(Err(refused));
    }
    let json = store_text(connection, &graph.to_json())?;
    connection
        .prepare_cached(
            "INSERT INTO workflow_versions (name, version, kind, fingerprint, graph, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![name, version, kind.as_str(), fingerprint, json, now.0])?;
    Ok(Ok(VersionId(connection.last_insert_rowid())))
}

/// Runs maintenance as an errand of the writer.
pub(crate) fn errand<T: Send + 'static>(
    what: &'static str,
    run: impl Fn(&Connection, Timestamp) -> Run<T> + Send + 'static,
) -> Errand {
    Box::new(
        move |database, connection, now| match run(connection, now) {
            Ok(value) => Ok(Box::new(value)),
            Err(error) => Err(database.read_error(error, what)),
        },
    )
}
