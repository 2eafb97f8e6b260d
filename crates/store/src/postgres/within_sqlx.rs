//! A user's transaction of sqlx.

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{
    Arguments, AssertSqlSafe, Column, Connection, PgConnection, Postgres as SqlxPostgres, Row as _,
    TypeInfo, ValueRef,
};
use tokio::sync::Mutex;
use tokio_postgres::error::SqlState;

use abide_core::kernel::{Reply, Request};

use crate::error::{ApplyError, StoreError};

use super::name::SchemaName;
use super::statement::{Execute, Param, Row, Statement, Value};
use super::{Postgres, error};

/// A transaction within the user's own, which sqlx rolls back if this is dropped half-way: it sends
/// one statement after the other.
struct Borrowed<'a> {
    connection: Mutex<&'a mut PgConnection>,
    schema: &'a SchemaName,
    database: String,
}

impl Execute for Borrowed<'_> {
    async fn run(&self, statements: Vec<Statement<'_>>) -> Result<Vec<Vec<Row>>, StoreError> {
        let mut connection = self.connection.lock().await;
        let mut answers = Vec::with_capacity(statements.len());
        for statement in statements {
            let sql = AssertSqlSafe(self.schema.qualify(&statement.sql));
            let arguments = arguments(statement.params)?;
            let query = sqlx::query_with(sql, arguments).persistent(false);
            let rows = query.fetch_all(&mut **connection).await;
            let rows = rows.map_err(|e| of_sqlx(&self.database, &e))?;
            answers.push(rows.iter().map(row).collect::<Result<_, _>>()?);
        }
        Ok(answers)
    }
}

impl Postgres {
    /// Like [`Postgres::apply_within`].
    pub(crate) async fn apply_within_sqlx(
        &self,
        transaction: &mut sqlx::Transaction<'_, SqlxPostgres>,
        requests: &[Request],
    ) -> Result<Reply, ApplyError> {
        let database = self.name();
        let fail = |e: sqlx::Error| of_sqlx(&database, &e);
        let mut inner = transaction.begin().await.map_err(fail)?;
        let borrowed = Borrowed {
            connection: Mutex::new(&mut inner),
            schema: &self.shared.address.schema,
            database: database.clone(),
        };
        let applied = self.shared.apply_within(&borrowed, requests).await;
        // After an error it is as it was before, unless the user's own is of no use any more.
        match (applied, inner.commit().await) {
            (Ok(reply), Ok(())) => Ok(reply),
            (Ok(_), Err(e)) => Err(of_sqlx(&database, &e).into()),
            (Err(error), _) => Err(error),
        }
    }
}

fn arguments(params: Vec<Param<'_>>) -> Result<PgArguments, StoreError> {
    let mut arguments = PgArguments::default();
    for param in params {
        let added = match param {
            Param::Int(value) => arguments.add(value),
            Param::Text(value) => arguments.add(value.map(|text| text.into_owned())),
            Param::Ints(values) => arguments.add(values),
            Param::Texts(values) => {
                let texts = values.into_iter().map(|text| Some(text?.into_owned()));
                arguments.add(texts.collect::<Vec<_>>())
            }
        };
        added.map_err(|e| StoreError::Internal(e.to_string()))?;
    }
    Ok(arguments)
}

fn row(row: &PgRow) -> Result<Row, StoreError> {
    (0..row.len()).map(|column| value(row, column)).collect()
}

fn value(row: &PgRow, column: usize) -> Result<Value, StoreError> {
    let internal = |e: sqlx::Error| StoreError::Internal(e.to_string());
    let raw = row.try_get_raw(column).map_err(internal)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kind = raw.type_info().name().to_owned();
    match &*kind {
        "INT8" => row.try_get(column).map(Value::Int),
        "INT4" => row.try_get(column).map(|v: i32| Value::Int(v.into())),
        "INT2" => row.try_get(column).map(|v: i16| Value::Int(v.into())),
        "BOOL" => row.try_get(column).map(Value::Bool),
        "TEXT" | "VARCHAR" | "NAME" => row.try_get(column).map(Value::Text),
        // What functions answer that are called for their effect.
        "VOID" => Ok(Value::Null),
        _ => {
            let name = row.column(column).name();
            let problem = format!("column `{name}` is of type {kind}: cast it");
            return Err(StoreError::Internal(problem));
        }
    }
    .map_err(internal)
}

/// The store's error for one of sqlx's, of a statement that isn't a COMMIT.
fn of_sqlx(database: &str, error: &sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::Database(found) => {
            let code = found.code().unwrap_or_default();
            let detail = found.message().to_owned();
            error::by_code(
                database,
                &SqlState::from_code(&code),
                found.constraint(),
                detail,
            )
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => {
            StoreError::Unavailable {
                database: database.to_owned(),
                detail: error.to_string(),
            }
        }
        _ => StoreError::Internal(error.to_string()),
    }
}
