//! What a schema has besides its tables, derived from core's tables of names: the views for
//! people (instance and generation numbers, status texts, event type names, times as ISO 8601), and the
//! index of failures.

use abide_core::event::EventType;

/// The database that the text is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dialect {
    #[cfg(feature = "sqlite")]
    Sqlite,
    #[cfg(feature = "postgres")]
    Postgres,
}

impl Dialect {
    /// A column of microseconds as an ISO 8601 text.
    fn time(self, column: &str, name: &str) -> String {
        match self {
            #[cfg(feature = "sqlite")]
            Dialect::Sqlite => format!(
                "strftime('%Y-%m-%dT%H:%M:%f', {column} / 1000000.0, 'unixepoch') || 'Z' AS {name}"
            ),
            #[cfg(feature = "postgres")]
            Dialect::Postgres => format!(
                "to_char(timestamp '1970-01-01' + {column} * interval '1 microsecond', \
                 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS {name}"
            ),
        }
    }
}

/// Removes them all, whatever version made them: a step must be free to change the columns that they name.
pub(crate) const REMOVE: &str = "DROP VIEW IF EXISTS ~execution_status;
     DROP VIEW IF EXISTS ~task_status;
     DROP VIEW IF EXISTS ~execution_history;
     DROP INDEX IF EXISTS ~execution_events_failures;";

/// Makes them all. A tilde before a name stands for its schema and the dot.
pub(crate) fn derived(dialect: Dialect) -> String {
    let names: Vec<String> = EventType::ALL
        .iter()
        .map(|kind| format!("WHEN {} THEN '{}'", kind.code(), kind.as_str()))
        .collect();
    let failures: Vec<String> = EventType::ALL
        .iter()
        .filter(|kind| kind.is_failure())
        .map(|kind| kind.code().to_string())
        .collect();
    let time = |column: &str, name: &str| dialect.time(column, name);
    format!(
        "-- What failed lately: failure events by type and time.
         CREATE INDEX execution_events_failures ON ~execution_events (type, at) WHERE type IN ({failures});
         CREATE VIEW ~execution_status AS
         SELECT e.instance AS instance_id, e.generation AS execution_id, w.name AS workflow_name,
                w.version AS workflow_version, e.status, e.reason, e.id, {created}, {started}, {completed}
         FROM ~executions e JOIN ~workflow_versions w ON w.id = e.workflow_version
         WHERE e.generation IS NOT NULL;
         CREATE VIEW ~task_status AS
         SELECT e.instance AS instance_id, e.generation AS execution_id, t.number AS task_id, t.node AS task_name,
                t.status, t.sub_status, t.attempt, t.error AS last_error, t.worker AS worker_id, {task_completed}
         FROM ~task_executions t JOIN ~executions e ON e.id = t.execution
         WHERE e.generation IS NOT NULL;
         CREATE VIEW ~execution_history AS
         SELECT v.position AS sequence_num, v.execution AS pipeline_execution_id,
                CASE v.task WHEN 0 THEN NULL ELSE v.execution || '/' || v.task END AS task_execution_id,
                CASE v.type {names} END AS event_type, coalesce(v.data, '{{}}') AS event_data,
                v.from_status, v.to_status, v.worker AS worker_id, v.actor, v.attempt, {event_at}
         FROM ~execution_events v;",
        failures = failures.join(", "),
        names = names.join(" "),
        created = time("e.created_at", "created_at"),
        started = time("e.started_at", "started_at"),
        completed = time("e.closed_at", "completed_at"),
        task_completed = time("t.closed_at", "completed_at"),
        event_at = time("v.at", "created_at"),
    )
}
