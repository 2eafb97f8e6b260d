//! What a SQLite file holds, past the store.

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::backend::Database;
use crate::value::{Row, Value};

/// What an integer column can hold that is no number of anything.
pub(crate) const NO_NUMBER: &str = "'second'";

/// The tables that only this backend has.
pub(crate) const TABLES: &[(&str, &str)] = &[("payloads", "SELECT * FROM payloads ORDER BY id")];

/// The outbox's priorities.
pub(crate) const PRIORITY: &str = "-rank AS priority";

impl Database {
    /// A connection of the test's own.
    pub(crate) fn sqlite(&self) -> Connection {
        Connection::open(self.path()).expect("opens")
    }

    /// Runs a statement. Answers how many rows it changed.
    #[expect(clippy::unused_async, reason = "it waits on other backends")]
    pub(crate) async fn execute(&self, sql: &str) -> u64 {
        self.sqlite().execute(sql, []).expect("sound") as u64
    }

    /// The rows of these queries.
    #[expect(clippy::unused_async, reason = "it waits on other backends")]
    pub(crate) async fn rows(&self, queries: &[&str]) -> Vec<Vec<Row>> {
        let sqlite = self.sqlite();
        queries.iter().map(|sql| rows(&sqlite, sql)).collect()
    }
}

fn rows(sqlite: &Connection, sql: &str) -> Vec<Row> {
    let mut statement = sqlite.prepare(sql).expect("sound");
    let names = statement.column_names();
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let rows = statement.query_map([], |row| {
        let columns = names.iter().enumerate();
        columns
            .map(|(at, name)| {
                let value = match row.get_ref(at)? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(number) => Value::Integer(number),
                    other => Value::Text(other.as_str()?.to_owned()),
                };
                Ok((name.clone(), value))
            })
            .collect()
    });
    rows.expect("reads")
        .collect::<Result<_, _>>()
        .expect("every value reads")
}
