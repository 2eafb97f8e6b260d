//! A PostgreSQL schema, and everything in it.

#[path = "../../backend/postgres.rs"]
pub(crate) mod backend;
#[path = "../../backend/dump.rs"]
#[expect(dead_code, reason = "other tests look at single rows")]
mod dump;
#[path = "../../backend/postgres_rows.rs"]
#[expect(dead_code, reason = "other tests edit rows")]
mod raw;

use self::backend::Database;
use crate::stored::{Cell, Stored};

/// Everything that is stored.
pub(crate) async fn stored(database: &Database) -> Stored {
    let tables = database.dump().await.into_iter();
    let cell = |value| match value {
        dump::Value::Null => Cell::Null,
        dump::Value::Integer(number) => Cell::Integer(number),
        dump::Value::Text(text) => Cell::Text(text),
    };
    let row = |row: dump::Row| {
        let columns = row.into_iter();
        columns.map(|(name, value)| (name, cell(value))).collect()
    };
    tables
        .map(|(table, rows)| (table, rows.into_iter().map(row).collect()))
        .collect()
}
