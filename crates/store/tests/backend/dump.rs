//! Everything that a store holds, in the same form from every backend.

use super::backend::Database;
use super::raw::{PRIORITY, TABLES};
use crate::value::Dump;

/// The tables that every backend has, but for the outbox, which spells its priorities differently.
const COMMON: &[(&str, &str)] = &[
    (
        "workflow_versions",
        "SELECT * FROM workflow_versions ORDER BY id",
    ),
    ("executions", "SELECT * FROM executions ORDER BY id"),
    (
        "task_executions",
        "SELECT * FROM task_executions ORDER BY execution, number",
    ),
    (
        "execution_events",
        "SELECT position, execution, task, n, type, at, worker, attempt, epoch, actor, from_status, to_status, data \
         FROM execution_events ORDER BY position",
    ),
    (
        "steps",
        "SELECT * FROM steps ORDER BY execution, task, number",
    ),
    (
        "signals",
        "SELECT * FROM signals ORDER BY instance, name, number",
    ),
    (
        "timers",
        "SELECT * FROM timers ORDER BY due_at, kind, execution, task, piece",
    ),
    ("workers", "SELECT * FROM workers ORDER BY id"),
];

/// Every table's name.
pub(crate) fn tables() -> impl Iterator<Item = &'static str> {
    let read = COMMON.iter().chain(TABLES).map(|(table, _)| *table);
    read.chain(["task_outbox"])
}

impl Database {
    pub(crate) async fn dump(&self) -> Dump {
        let outbox = format!(
            "SELECT worker, queue, {PRIORITY}, ready_at, execution, task FROM task_outbox \
             ORDER BY worker, queue, 3 DESC, ready_at, execution, task"
        );
        let tables = COMMON.iter().chain(TABLES).copied();
        let tables: Vec<(&str, &str)> = tables.chain([("task_outbox", outbox.as_str())]).collect();
        let queries: Vec<&str> = tables.iter().map(|(_, sql)| *sql).collect();
        let rows = self.rows(&queries).await;
        let names = tables.iter().map(|(name, _)| (*name).to_owned());
        names.zip(rows).collect()
    }

    /// Removes every execution, and leaves what it takes to run others.
    pub(crate) async fn remove_executions(&self) {
        for table in tables() {
            if !["workflow_versions", "workers", "payloads"].contains(&table) {
                self.execute(&format!("DELETE FROM {table}")).await;
            }
        }
    }
}
