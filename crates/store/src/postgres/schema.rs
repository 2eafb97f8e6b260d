//! The schema and its migrations: the numbers are SQLite's, forward only, one process at a time, all missing
//! steps in one transaction.

use std::time::Duration;

use abide_core::ids::{ExecutionId, Timestamp};
use tokio_postgres::GenericClient;
use tokio_postgres::error::SqlState;

use super::error;
use super::name::SchemaName;
use super::partitions::{ensure_partitions, lock};
use crate::derived::{Dialect, REMOVE, derived};
use crate::error::StoreError;
use crate::migrations::{Migrations, failed};

/// Every version that this program knows.
pub(crate) static MIGRATIONS: Migrations = Migrations {
    steps: &[include_str!("schema.sql")],
    published: &[],
    dialect: Dialect::Postgres,
};

/// Keeps every transaction that reads the version before it writes (`version`) out of the store, until the end of this
/// one. Writers that have picked rows before they read the version have locked one of the other tables.
const LOCK_OUT: &str =
    "LOCK TABLE ~task_outbox, ~timers, ~workers, ~store IN ACCESS EXCLUSIVE MODE";

/// How long a migration waits for that lock at a time, at first and at most. Meanwhile it may hold the lock of one table
/// and wait for a transaction that needs this table. So it gives up before that transaction does, which waits for
/// [`FLUSH_LOCK_TIMEOUT`](super::FLUSH_LOCK_TIMEOUT) or longer, and before the server looks for a deadlock,
/// by default after a second.
const LOCK_OUT_MS: std::ops::RangeInclusive<u64> = 50..=400;

/// How often it has given up when the log says what it waits for.
const PATIENT_TRIES: u32 = 20;

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
    /// The random name of the channel on which its processes notify each other. Every role of the
    /// database may notify on every channel, so only those who may read the store learn it.
    pub(crate) channel: String,
    /// The first execution id that has no partition yet.
    pub(crate) events_end: ExecutionId,
}

/// How often a process that was not the first to make something looks again what there is.
const RACES: u32 = 5;

/// Brings a schema to the newest number, creating it if `create` says so, and sees to the
/// partitions around `now`; or says why it is not a store.
pub(crate) async fn migrate(
    client: &mut (impl GenericClient + Send + Sync),
    schema: &SchemaName,
    database: &str,
    create: bool,
    now: Timestamp,
    migrations: &Migrations,
) -> Result<Opened, StoreError> {
    let mut races = 0;
    loop {
        match migrate_once(client, schema, database, create, now, migrations).await {
            Err(StoreError::Raced { .. } | StoreError::Deadlock(_)) if races < RACES => races += 1,
            migrated => return migrated,
        }
    }
}

/// As [`migrate`]; it is `Raced` where another process made the same at the same time.
pub(crate) async fn migrate_once(
    client: &mut (impl GenericClient + Send + Sync),
    schema: &SchemaName,
    database: &str,
    create: bool,
    now: Timestamp,
    migrations: &Migrations,
) -> Result<Opened, StoreError> {
    let found = check(client, schema, database, migrations).await?;
    if found != Found::Store(migrations.newest()) {
        upgrade(client, schema, database, found, create, now, migrations).await?;
    }
    let events_end = ensure_partitions(client, schema, database, now, migrations).await?;
    let row = client
        .query_one(&schema.qualify("SELECT id, channel FROM ~store"), &[])
        .await;
    let (id, channel) = row
        .and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .map_err(|e| error::definite(database, &e))?;
    Ok(Opened {
        id,
        channel,
        events_end,
    })
}

async fn upgrade(
    client: &mut (impl GenericClient + Send + Sync),
    schema: &SchemaName,
    database: &str,
    looked: Found,
    create: bool,
    now: Timestamp,
    migrations: &Migrations,
) -> Result<(), StoreError> {
    let fail = |e| error::of_making(database, &e);
    let transaction = client.transaction().await.map_err(fail)?;
    // Migrating a large store, or waiting for who does, takes its time.
    transaction
        .batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0")
        .await
        .map_err(fail)?;
    if let Found::Store(_) = looked {
        lock(&transaction, schema).await.map_err(fail)?;
    }
    // Another process may have made or migrated it meanwhile.
    let found = check(&transaction, schema, database, migrations).await?;
    // Where there is no table yet to lock, the names of what is made are: of two processes that make the
    // same, the second waits for the first, and is refused.
    let done = match found {
        Found::Store(number) if matches!(looked, Found::Store(_)) => number,
        Found::Store(_) => {
            return Err(StoreError::Raced {
                what: format!("the schema `{schema}`"),
            });
        }
        Found::Missing | Found::Empty if !create => return Err(no_store(schema, database, found)),
        Found::Missing => {
            let sql = format!("CREATE SCHEMA {}", schema.quoted());
            transaction.batch_execute(&sql).await.map_err(fail)?;
            0
        }
        Found::Empty => 0,
    };
    let (newest, fingerprint) = (migrations.newest(), migrations.fingerprint());
    if done == newest {
        return transaction.commit().await.map_err(fail);
    }
    if done > 0 {
        lock_out(&transaction, schema, database)
            .await
            .map_err(fail)?;
    }
    // Each with the version that it leads to.
    let mut statements = Vec::new();
    if done > 0 {
        statements.push((done + 1, REMOVE.to_owned()));
    }
    let steps = migrations.after(done);
    statements.extend(steps.map(|(version, step)| (version, step.to_owned())));
    statements.push((newest, derived(Dialect::Postgres)));
    let record = match done {
        0 => format!(
            "COMMENT ON TABLE ~store IS '{MARK}'; \
             INSERT INTO ~store (id, channel, schema, fingerprint, created_at) \
             VALUES (gen_random_uuid()::text, 'abide:' || gen_random_uuid(), {newest}, '{fingerprint}', {})",
            now.0
        ),
        _ => format!("UPDATE ~store SET schema = {newest}, fingerprint = '{fingerprint}'"),
    };
    statements.push((newest, record));
    for (version, sql) in &statements {
        let run = transaction.batch_execute(&schema.qualify(sql)).await;
        run.map_err(|error| failed(database, *version, fail(error)))?;
    }
    transaction.commit().await.map_err(fail)
}

/// Takes the lock of a migration. It keeps no part of it while it waits for transactions that take their time.
async fn lock_out(
    transaction: &impl GenericClient,
    schema: &SchemaName,
    database: &str,
) -> Result<(), tokio_postgres::Error> {
    let (mut wait_ms, most_ms) = LOCK_OUT_MS.into_inner();
    let mut tries = 0;
    loop {
        let lock = format!(
            "SAVEPOINT lock_out; SET LOCAL lock_timeout = {wait_ms}; {}; SET LOCAL lock_timeout = 0",
            schema.qualify(LOCK_OUT)
        );
        let Err(error) = transaction.batch_execute(&lock).await else {
            return Ok(());
        };
        if !matches!(
            error.code(),
            Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED)
        ) {
            return Err(error);
        }
        transaction
            .batch_execute("ROLLBACK TO SAVEPOINT lock_out")
            .await?;
        tries += 1;
        if tries == PATIENT_TRIES {
            tracing::warn!(
                database,
                %schema,
                "the migration waits for transactions that use the store; `pg_locks` names them"
            );
        }
        // The others go on at least as long as they had to wait.
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        wait_ms = most_ms.min(wait_ms * 2);
    }
}

/// What the schema is. Refuses what isn't Abide's, what a newer program wrote, and what a build made that was
/// never published.
pub(crate) async fn check(
    client: &impl GenericClient,
    schema: &SchemaName,
    database: &str,
    migrations: &Migrations,
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
    // As JSON, since the tables of other builds have other columns.
    let row = client
        .query_opt(
            &schema.qualify("SELECT schema::bigint, to_jsonb(s) ->> 'fingerprint' FROM ~store s"),
            &[],
        )
        .await
        .map_err(fail)?;
    let row = row.map(|row| (row.get(0), row.get::<_, Option<String>>(1)));
    match row {
        Some((found, _)) if found > migrations.newest() => Err(StoreError::TooNew {
            path: database.to_owned(),
            found,
            known: migrations.newest(),
        }),
        Some((found, fingerprint)) if found >= 1 => {
            match migrations.made(found, fingerprint.as_deref()) {
                true => Ok(Found::Store(found)),
                false => Err(StoreError::Unpublished {
                    path: format!("{database} (schema {schema})"),
                    found,
                }),
            }
        }
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
