//! Every cell of a store with something of everything is changed, one at a time: verification
//! notices, or the cell is one that nothing else in the store vouches for.

use std::collections::{BTreeMap, BTreeSet};

use abide_store::{Integrity, VerifyOptions, verify_file};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::dump::tables;
use crate::scenario::Scenario;

/// Columns with a cell that can be changed unnoticed, and why that must be so.
const NOTHING_VOUCHES_FOR: &[(&str, &[&str])] = &[
    // What somebody said, once.
    ("executions", &["input_hash", "tags"]),
    ("execution_events", &["actor"]),
    ("signals", &["actor", "name", "payload", "sent_at"]),
    ("steps", &["fingerprint", "name", "recorded_at", "result"]),
    ("task_executions", &["input", "progress"]),
    (
        "workers",
        &[
            "heartbeat_at",
            "host",
            "id",
            "lease_until",
            "pid",
            "started_at",
        ],
    ),
    ("workflow_versions", &["created_at", "name", "version"]),
    ("payloads", &["body"]),
    // The graph of its version is the same.
    ("executions", &["graph"]),
    // Between a park and an eviction, which count alike; who made the first claim; the first of all
    // events.
    ("execution_events", &["data", "worker", "position"]),
    ("steps", &["due_at"]),
    // A wake-up may be of any time.
    ("task_outbox", &["ready_at"]),
    // A stop goes on in the same way from a timer of either kind.
    ("timers", &["piece"]),
    // A worker that holds nothing may have ended or not.
    ("workers", &["ended_at"]),
];

/// A cell's values besides its own.
fn others(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => vec![Value::Integer(3), Value::Text("x".into())],
        Value::Integer(number) => vec![
            Value::Null,
            Value::Integer(number ^ 1),
            Value::Integer(i64::MIN),
        ],
        Value::Text(text) => vec![
            Value::Null,
            Value::Text(format!("{text}x")),
            Value::Integer(i64::MAX),
        ],
        other => panic!("no column holds {other:?}"),
    }
}

struct Table {
    name: &'static str,
    columns: Vec<String>,
    key: Vec<String>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    fn read(connection: &Connection, name: &'static str) -> Table {
        let texts = |sql: &str| -> Vec<String> {
            let mut statement = connection.prepare(sql).expect("a statement");
            let rows = statement.query_map([], |row| row.get(0)).expect("runs");
            rows.collect::<Result<_, _>>().expect("texts")
        };
        let columns = texts(&format!("SELECT name FROM pragma_table_info('{name}')"));
        let key = texts(&format!(
            "SELECT name FROM pragma_table_info('{name}') WHERE pk > 0"
        ));
        // One row of each kind is enough.
        let kinds = match name {
            "execution_events" => "type, from_status, to_status",
            "executions" => "status, start_at IS NULL, deadline_at IS NULL, reason",
            "task_executions" => "status, sub_status, wake_at, ready_at IS NULL, worker IS NULL",
            "workflow_versions" | "workers" => "1",
            _ => &key.join(", "),
        };
        let mut statement = connection
            .prepare(&format!("SELECT * FROM {name} GROUP BY {kinds}"))
            .expect("a statement");
        let rows = statement
            .query_map([], |row| (0..columns.len()).map(|at| row.get(at)).collect())
            .expect("runs");
        let rows = rows.collect::<Result<_, _>>().expect("rows");
        Table {
            name,
            columns,
            key,
            rows,
        }
    }

    /// Sets a column of the row with this key. False if a constraint does not let it.
    fn set(&self, connection: &Connection, row: &[Value], column: &str, value: &Value) -> bool {
        let condition: Vec<String> = self.key.iter().map(|key| format!("{key} IS ?")).collect();
        let sql = format!(
            "UPDATE {} SET {column} = ? WHERE {}",
            self.name,
            condition.join(" AND ")
        );
        let key = self.key.iter().map(|key| {
            let at = self
                .columns
                .iter()
                .position(|column| column == key)
                .expect("a column");
            row[at].clone()
        });
        let values: Vec<Value> = std::iter::once(value.clone()).chain(key).collect();
        match connection.execute(&sql, params_from_iter(values)) {
            Ok(changed) => {
                assert_eq!(changed, 1, "{sql}");
                true
            }
            Err(_) => false,
        }
    }
}

#[tokio::test]
async fn every_cell_is_vouched_for() {
    let (_scenario, database) = Scenario::new().await;
    let connection = database.sqlite();
    connection
        .execute_batch("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF")
        .expect("set");
    let url = &database.url();
    let options = VerifyOptions {
        integrity: Integrity::Skip,
        ..VerifyOptions::default()
    };
    let mut unnoticed: BTreeMap<(&str, String), BTreeSet<String>> = BTreeMap::new();
    let mut changed = 0;
    for table in tables() {
        let table = Table::read(&connection, table);
        assert!(!table.rows.is_empty(), "{}", table.name);
        for row in &table.rows {
            for (at, column) in table.columns.iter().enumerate() {
                for other in others(&row[at]) {
                    if !table.set(&connection, row, column, &other) {
                        continue;
                    }
                    changed += 1;
                    if verify_file(url, &options).expect("reads").is_clean() {
                        let cell = (table.name, column.clone());
                        unnoticed
                            .entry(cell)
                            .or_default()
                            .insert(format!("{:?} -> {other:?}", row[at]));
                    }
                    let mut moved = row.clone();
                    moved[at] = other;
                    assert!(
                        table.set(&connection, &moved, column, &row[at]),
                        "{column} goes back"
                    );
                }
            }
        }
    }
    println!("{changed} cells were changed");
    for (table, columns) in NOTHING_VOUCHES_FOR {
        for column in *columns {
            let cells = unnoticed.remove(&(*table, (*column).to_owned()));
            assert!(cells.is_some(), "{table}.{column} is vouched for");
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}
