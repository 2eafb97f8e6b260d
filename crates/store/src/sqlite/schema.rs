//! The schema and its migrations: one numbering, forward only. Views are derived from core's
//! tables of names, so they are made again whenever the schema is opened for writing and differs.

use abide_core::event::EventType;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use crate::error::StoreError;

use super::connection::Database;

/// Marks the file as Abide's: "abid".
const APPLICATION_ID: i64 = 0x6162_6964;

/// Every migration, in order; the n-th leads to schema n.
const MIGRATIONS: &[&str] = &[include_str!("schema.sql")];

/// The newest schema this program knows.
pub(crate) const SCHEMA: i64 = MIGRATIONS.len() as i64;

/// Brings an open database to the newest schema, or says why it is not one of ours.
pub(crate) fn migrate(database: &Database, connection: &mut Connection) -> Result<(), StoreError> {
    let found = check(database, connection)?;
    if found == SCHEMA {
        return Ok(());
    }
    let fail = |error| database.error(error, false);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(fail)?;
    // Somebody else may have migrated while this process waited for the lock.
    let found: i64 = transaction
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(fail)?;
    for migration in MIGRATIONS
        .iter()
        .skip(usize::try_from(found).unwrap_or(usize::MAX))
    {
        transaction.execute_batch(migration).map_err(fail)?;
    }
    transaction.execute_batch(&views()).map_err(fail)?;
    transaction
        .pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(fail)?;
    transaction
        .pragma_update(None, "user_version", SCHEMA)
        .map_err(fail)?;
    transaction.commit().map_err(fail)
}

/// The schema number of the open database: 0 if it is empty. Refuses other programs' databases
/// and newer ones.
pub(crate) fn check(database: &Database, connection: &Connection) -> Result<i64, StoreError> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let read = || {
        Ok((
            number("PRAGMA application_id")?,
            number("PRAGMA user_version")?,
            number("SELECT count(*) FROM sqlite_schema")?,
        ))
    };
    let (application, found, objects) =
        read().map_err(|error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => StoreError::NotADatabase(database.name()),
            _ => database.error(error, false),
        })?;
    match (application, found) {
        (0, 0) if objects == 0 => Ok(0),
        (APPLICATION_ID, found) if found > SCHEMA => Err(StoreError::TooNew {
            path: database.name(),
            found,
            known: SCHEMA,
        }),
        (APPLICATION_ID, found) if found >= 1 => Ok(found),
        _ => Err(StoreError::NotADatabase(database.name())),
    }
}

/// Views with the columns and names of the status and history documents: instance and generation
/// numbers, status texts, event type names, times as ISO 8601.
fn views() -> String {
    let names: Vec<String> = EventType::ALL
        .iter()
        .map(|kind| format!("WHEN {} THEN '{}'", kind.code(), kind.as_str()))
        .collect();
    let failures: Vec<String> = EventType::ALL
        .iter()
        .filter(|kind| kind.is_failure())
        .map(|kind| kind.code().to_string())
        .collect();
    let time = |column: &str, name: &str| {
        format!("strftime('%Y-%m-%dT%H:%M:%f', {column} / 1000000.0, 'unixepoch') || 'Z' AS {name}")
    };
    format!(
        "-- What failed lately: failure events by type and time.
         CREATE INDEX execution_events_failures ON execution_events (type, at) WHERE type IN ({failures});
         CREATE VIEW execution_status AS
         SELECT e.instance AS instance_id, e.generation AS execution_id, w.name AS workflow_name,
                w.version AS workflow_version, e.status, e.reason, e.id, {created}, {started}, {completed}
         FROM executions e JOIN workflow_versions w ON w.id = e.workflow_version
         WHERE e.generation IS NOT NULL;
         CREATE VIEW task_status AS
         SELECT e.instance AS instance_id, e.generation AS execution_id, t.number AS task_id, t.node AS task_name,
                t.status, t.sub_status, t.attempt, t.error AS last_error, t.worker AS worker_id, {task_completed}
         FROM task_executions t JOIN executions e ON e.id = t.execution
         WHERE e.generation IS NOT NULL;
         CREATE VIEW execution_history AS
         SELECT v.position AS sequence_num, v.execution AS pipeline_execution_id,
                CASE v.task WHEN 0 THEN NULL ELSE v.execution || '/' || v.task END AS task_execution_id,
                CASE v.type {names} END AS event_type, coalesce(v.data, '{{}}') AS event_data,
                v.from_status, v.to_status, v.worker AS worker_id, v.actor, v.attempt, {event_at}
         FROM execution_events v;",
        failures = failures.join(", "),
        names = names.join(" "),
        created = time("e.created_at", "created_at"),
        started = time("e.started_at", "started_at"),
        completed = time("e.closed_at", "completed_at"),
        task_completed = time("t.closed_at", "completed_at"),
        event_at = time("v.at", "created_at"),
    )
}
