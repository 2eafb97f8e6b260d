//! What a PostgreSQL schema holds, past the store.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row as FoundRow};

use super::backend::Database;
use crate::value::{Row, Value};

/// What an integer column can hold that is no number of anything.
pub(crate) const NO_NUMBER: &str = "-1";

/// The tables that only this backend has.
pub(crate) const TABLES: &[(&str, &str)] = &[];

/// The outbox's priorities.
pub(crate) const PRIORITY: &str = "-rank AS priority";

impl Database {
    /// A connection of the test's own.
    async fn client(&self) -> &Client {
        let connect = async || {
            let client = abide_test_postgres::client(&abide_test_postgres::shared_url()).await;
            let path = format!("SET search_path TO {}", self.schema.quoted());
            client.batch_execute(&path).await.expect("sound");
            client
        };
        self.client.get_or_init(connect).await
    }

    /// Runs a statement. Answers how many rows it changed.
    pub(crate) async fn execute(&self, sql: &str) -> u64 {
        let client = self.client().await;
        client.execute(sql, &[]).await.expect("sound")
    }

    /// The rows of these queries.
    pub(crate) async fn rows(&self, queries: &[&str]) -> Vec<Vec<Row>> {
        let client = self.client().await;
        let mut all = Vec::new();
        for sql in queries {
            let rows = client.query(*sql, &[]).await.expect("reads");
            all.push(rows.iter().map(row).collect());
        }
        all
    }
}

fn row(found: &FoundRow) -> Row {
    let columns = found.columns().iter().enumerate();
    columns
        .map(|(at, column)| {
            let integer = match *column.type_() {
                Type::BOOL => found.get::<_, Option<bool>>(at).map(i64::from),
                Type::INT2 => found.get::<_, Option<i16>>(at).map(i64::from),
                Type::INT4 => found.get::<_, Option<i32>>(at).map(i64::from),
                Type::INT8 => found.get(at),
                _ => None,
            };
            let value = match (integer, column.type_()) {
                (Some(number), _) => Value::Integer(number),
                (None, &(Type::TEXT | Type::VARCHAR)) => {
                    let text: Option<String> = found.get(at);
                    text.map_or(Value::Null, Value::Text)
                }
                (None, _) => Value::Null,
            };
            (column.name().to_owned(), value)
        })
        .collect()
}
