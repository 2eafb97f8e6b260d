//! The schema and its migrations: the numbers are SQLite's, forward only, one process at a time.

use abide_core::ids::{ExecutionId, Timestamp};
use tokio_postgres::GenericClient;

use super::error;
use super::name::SchemaName;
use super::partitions::{ensure_partitions, lock};
use crate::derived::{Dialect, derived};
use crate::error::StoreError;

/// Every migration, in order; the n-th leads to schema n.
const MIGRATIONS: &[&str] = &[include_str!("schema.sql")];

/// The newest schema this program knows.
pub(crate) const SCHEMA: i64 = MIGRATIONS.len() as i64;

/// Marks the table `store` as Abide's. A comment can be read without any right to the schema, and
/// comes along with a dump.
pub(crate) const MARK: &str = "A store of Abide";

/// What a schema was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is no such schema.
    Missing,
    /// It has no tables.
    Empty,
    /// A store, of this schema number.
    Store(i64),
}

/// A store that is ready for use.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// The store's random id.
    pub(crate) id: String,
    /// The first execution id that has no partition yet.
    pub(crate) events_end: ExecutionId,
}

/// Brings a schema to the newest number, creating it if `create` says so, and sees to the
/// partitions around `now`; or says why it is not a store.
pub(crate) async fn migrate(
    client: &mut (impl GenericClient + Send + Sync),
    schema: &SchemaName,
    database: &str,
    create: bool,
    now: Timestamp,
) -> Result<Opened, StoreError> {
    if check(client, schema, database).await? != Found::Store(SCHEMA) {
        upgrade(client, schema, database, create, now).await?;
    }
    let events_end = ensure_partitions(client, schema, database, now).await?;
    let row = client
        .query_one(&schema.qualify("SELECT id FROM ~store"), &[])
        .await;
    let id = row
        .and_then(|row| row.try_get(0))
        .map_err(|e| error::definite(database, &e))?;
    Ok(Opened { id, events_end })
}

async fn upgrade(
    client: &mut (impl GenericClient + Send + Sync),
    schema: &SchemaName,
    database: &str,
    create: bool,
    now: Timestamp,
) -> Result<(), StoreError> {
    let fail = |e| error::definite(database, &e);
    let transaction = client.transaction().await.map_err(fail)?;
    // Migrating a large store, or waiting for who does, takes its time.
    transaction
        .batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        .await
        .map_err(fail)?;
    lock(&transaction, schema).await.map_err(fail)?;
    // Somebody else may have migrated while this process waited for the lock.
    let found = check(&transaction, schema, database).await?;
    let done = match found {
        Found::Store(number) => number,
        Found::Missing | Found::Empty if !create => return Err(no_store(schema, database, found)),
        Found::Missing => {
            let sql = format!("CREATE SCHEMA {}", schema.quoted());
            transaction.batch_execute(&sql).await.map_err(fail)?;
            0
        }
        Found::Empty => 0,
    };
    for migration in MIGRATIONS
        .iter()
        .skip(usize::try_from(done).unwrap_or(usize::MAX))
    {
        let sql = schema.qualify(migration);
        transaction.batch_execute(&sql).await.map_err(fail)?;
    }
    if done == 0 {
        let sql = format!(
            "COMMENT ON TABLE ~store IS '{MARK}'; \
             INSERT INTO ~store (id, schema, created_at) VALUES (gen_random_uuid()::text, 0, {})",
            now.0
        );
        let sql = schema.qualify(&sql);
        transaction.batch_execute(&sql).await.map_err(fail)?;
    }
    if done < SCHEMA {
        let number = format!("UPDATE ~store SET schema = {SCHEMA}");
        for sql in [derived(Dialect::Postgres), number] {
            let sql = schema.qualify(&sql);
            transaction.batch_execute(&sql).await.map_err(fail)?;
        }
    }
    transaction.commit().await.map_err(fail)
}

/// What the schema is. Refuses what isn't Abide's and what a newer program wrote.
pub(crate) async fn check(
    client: &impl GenericClient,
    schema: &SchemaName,
    database: &str,
) -> Result<Found, StoreError> {
    let fail = |e| error::definite(database, &e);
    let row = client
        .query_opt(
            "SELECT EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = s.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')), \
                    EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = s.oid AND c.relname = 'store' AND c.relkind = 'r' \
                            AND obj_description(c.oid, 'pg_class') = $2::text) \
             FROM pg_namespace s WHERE s.nspname = $1::text",
            &[&schema.as_str(), &MARK],
        )
        .await
        .map_err(fail)?;
    let Some(row) = row else {
        return Ok(Found::Missing);
    };
    match (row.get(0), row.get(1)) {
        (false, _) => return Ok(Found::Empty),
        (true, false) => return Err(not_a_store(schema, database)),
        (true, true) => {}
    }
    let row = client
        .query_opt(&schema.qualify("SELECT schema::bigint FROM ~store"), &[])
        .await
        .map_err(fail)?;
    match row.map(|row| row.get(0)) {
        Some(found) if found > SCHEMA => Err(StoreError::TooNew {
            path: database.to_owned(),
            found,
            known: SCHEMA,
        }),
        Some(found) if found >= 1 => Ok(Found::Store(found)),
        _ => Err(not_a_store(schema, database)),
    }
}

fn not_a_store(schema: &SchemaName, database: &str) -> StoreError {
    StoreError::NotADatabase(format!("schema `{schema}` of {database}"))
}

fn no_store(schema: &SchemaName, database: &str, found: Found) -> StoreError {
    let detail = match found {
        Found::Missing => format!("there is no schema `{schema}`"),
        _ => format!("there is no store in schema `{schema}`"),
    };
    StoreError::CannotOpen {
        path: database.to_owned(),
        detail,
    }
}

#[cfg(test)]
mod tests;
