//! Where a measurement's rows go: a new SQLite file, or a new schema of a PostgreSQL database. Both
//! are gone when the measurement is.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use abide::{Engine, EngineBuilder};
use rusqlite::Connection;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::measure::{Error, Setting};
use crate::workloads;

/// Slots of a measured worker.
const SLOTS: usize = 512;

/// A new store for one measurement.
pub(crate) enum Home {
    /// A file in a directory of its own.
    Sqlite(TempDir),
    /// A schema.
    Postgres(Schema),
}

/// A schema of a PostgreSQL database, and a connection that looks into it.
pub(crate) struct Schema {
    address: String,
    name: String,
    client: Client,
}

impl Home {
    /// A place for a store; the first engine makes it.
    pub(crate) async fn new(setting: &Setting) -> Result<Home, Error> {
        match &setting.postgres {
            None => Ok(Home::Sqlite(tempfile::tempdir_in(&setting.directory)?)),
            Some(address) => Ok(Home::Postgres(Schema::new(address).await?)),
        }
    }

    /// A store with its tables and nothing in it, for a floor.
    pub(crate) async fn empty(setting: &Setting) -> Result<Home, Error> {
        let home = Home::new(setting).await?;
        let engine = home.builder().connect().await?;
        engine.store().close().await;
        Ok(home)
    }

    /// Its address, for another process.
    pub(crate) fn url(&self) -> String {
        match self {
            Home::Sqlite(directory) => format!("sqlite:{}", file(directory).display()),
            Home::Postgres(schema) => schema.url(),
        }
    }

    /// An engine of the store, with every workload.
    pub(crate) fn builder(&self) -> EngineBuilder {
        builder(self.url())
    }

    /// The numbers that a query answers.
    pub(crate) async fn numbers(&self, sql: &str) -> Result<Vec<i64>, Error> {
        match self {
            Home::Sqlite(directory) => {
                let connection = Connection::open(file(directory))?;
                let mut statement = connection.prepare(sql)?;
                let numbers = statement.query_map([], |row| row.get(0))?;
                Ok(numbers.collect::<Result<_, _>>()?)
            }
            Home::Postgres(schema) => {
                let rows = schema.client.query(sql, &[]).await?;
                let numbers = rows.iter().map(|row| row.try_get(0));
                Ok(numbers.collect::<Result<_, _>>()?)
            }
        }
    }

    /// The one number that a query answers.
    pub(crate) async fn count(&self, sql: &str) -> Result<u64, Error> {
        let numbers = self.numbers(sql).await?;
        let number = numbers.first().ok_or("a query without an answer")?;
        Ok(u64::try_from(*number)?)
    }

    /// Bytes that it takes on disk, when nobody uses it.
    pub(crate) async fn bytes(&self) -> Result<u64, Error> {
        match self {
            Home::Sqlite(directory) => Ok(std::fs::metadata(file(directory))?.len()),
            Home::Postgres(_) => {
                self.count(
                    "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class \
                     WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'",
                )
                .await
            }
        }
    }

    /// Bytes of write-ahead log that the PostgreSQL server wrote so far, whoever made it.
    pub(crate) async fn wal_bytes(&self) -> Result<Option<u64>, Error> {
        match self {
            Home::Sqlite(_) => Ok(None),
            Home::Postgres(_) => {
                let sql = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
                self.count(sql).await.map(Some)
            }
        }
    }

    /// Removes it.
    pub(crate) async fn remove(self) -> Result<(), Error> {
        match self {
            Home::Sqlite(directory) => directory.close()?,
            Home::Postgres(schema) => {
                let sql = format!("DROP SCHEMA IF EXISTS {} CASCADE", schema.name);
                schema.client.batch_execute(&sql).await?;
            }
        }
        Ok(())
    }
}

/// An engine of a store, with every workload.
pub(crate) fn builder(url: String) -> EngineBuilder {
    Engine::builder(url)
        .register::<workloads::one_step>()
        .register::<workloads::chain::Workflow>()
        .register::<workloads::fanout::Workflow>()
        .register::<workloads::function>()
        .register::<workloads::sleeper>()
        .max_concurrent_tasks(SLOTS)
}

/// The database file in its directory.
pub(crate) fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("bench.db")
}

impl Schema {
    async fn new(address: &str) -> Result<Schema, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut schema = Schema {
            name: format!("abide_bench_{}_{number}", std::process::id()),
            address: address.to_owned(),
            client: connect(address).await?,
        };
        schema.client = schema.connect().await?;
        Ok(schema)
    }

    fn url(&self) -> String {
        let separator = if self.address.contains('?') { '&' } else { '?' };
        format!("{}{separator}schema={}", self.address, self.name)
    }

    /// A connection that finds the schema's tables by their names alone.
    pub(crate) async fn connect(&self) -> Result<Client, Error> {
        let client = connect(&self.address).await?;
        let sql = format!("SET search_path TO {}, pg_catalog", self.name);
        client.batch_execute(&sql).await?;
        Ok(client)
    }
}

/// Without what the store adds to an address.
async fn connect(address: &str) -> Result<Client, Error> {
    let plain = address.split_once('?').map_or(address, |(plain, _)| plain);
    let (client, connection) = tokio_postgres::connect(plain, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
