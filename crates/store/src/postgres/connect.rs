//! A connection to the server: made with the settings that the store relies on, refused if the
//! server can't keep what the store promises. A session belongs to one task at a time and spawns
//! nothing: its other half, the link, is driven by whoever made it.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::name::SchemaName;
use super::statement::{Execute, Param, Row, Statement, Value};
use super::{error, tls};
use crate::error::StoreError;
use crate::stats::Counters;

/// Begins a transaction that writes.
pub(crate) const BEGIN: &str = "BEGIN";
/// Begins a transaction that reads the store as it is at one moment.
pub(crate) const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
/// Ends a transaction. Its errors may leave open whether it happened: `StoreError::is_definite`.
pub(crate) const COMMIT: &str = "COMMIT";
/// Ends a transaction without a trace.
pub(crate) const ROLLBACK: &str = "ROLLBACK";

/// Settings for a session whose statements find every row by its key: they are planned once, by
/// indexes, since a plan is kept while tables grow that were empty when it was made, and planning
/// takes as long as running.
pub(crate) fn by_key() -> Statement<'static> {
    Statement::new(
        "SELECT set_config(name, value, false) FROM (VALUES ('plan_cache_mode', 'force_generic_plan'), \
         ('enable_seqscan', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off')) AS settings (name, value)",
        Vec::new(),
    )
}

/// Settings for a session that reads: by indexes from the beginning, since a plan that was made while
/// a table was empty is kept when it has grown.
pub(crate) fn by_index() -> Statement<'static> {
    Statement::new(
        "SELECT set_config('enable_seqscan', 'off', false)",
        Vec::new(),
    )
}

/// Settings for the session that renews leases. A renewal that a crash of the server undoes does no
/// harm, since everybody gets a lease's time afterwards: it need not wait for the disk.
pub(crate) fn by_index_at_once() -> Statement<'static> {
    Statement::new(
        "SELECT set_config('enable_seqscan', 'off', false), set_config('synchronous_commit', 'off', false)",
        Vec::new(),
    )
}

/// The oldest server that the tests run on; older ones are no longer kept up.
const OLDEST_SERVER: i64 = 14_0000;
/// A transaction that does nothing for so long belongs to a process that was stopped. Others wait
/// for its locks.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(15);

/// One connection.
pub(crate) struct Session {
    client: Client,
    schema: SchemaName,
    database: String,
    prepared: Mutex<FxHashMap<&'static str, tokio_postgres::Statement>>,
    /// A run was cut off or failed, or a transaction is open.
    dirty: AtomicBool,
    in_transaction: AtomicBool,
    counters: Arc<Counters>,
}

/// The half of a connection that reads and writes. A session goes on only while this is polled.
pub(crate) struct Link {
    connection: Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>,
    waiting: std::collections::VecDeque<AsyncMessage>,
    database: String,
}

impl Session {
    /// Connects, and looks whether the server will do.
    pub(crate) async fn connect(address: &Address) -> Result<(Session, Link), StoreError> {
        let database = address.database();
        let cannot_open = |detail| StoreError::CannotOpen {
            path: database.clone(),
            detail,
        };
        let connector = tls::connector(address.tls, &address.roots).map_err(cannot_open)?;
        let connected = address.config.connect(connector).await;
        let (client, connection) = connected.map_err(|e| error::of_connect(&database, &e))?;
        let mut link = Link {
            connection,
            waiting: std::collections::VecDeque::new(),
            database: database.clone(),
        };
        let greeting = link.drive(greet(&client, address)).await;
        let greeting = greeting.map_err(|e| error::of_connect(&database, &e))?;
        greeting.check(address.allow_unsafe, &database)?;
        tracing::debug!(
            database,
            server = greeting.version,
            process = greeting.backend,
            "connected"
        );
        let session = Session {
            client,
            schema: address.schema.clone(),
            database,
            prepared: Mutex::default(),
            dirty: AtomicBool::new(false),
            in_transaction: AtomicBool::new(false),
            counters: Arc::default(),
        };
        Ok((session, link))
    }

    /// Counts its statements there from now on.
    pub(crate) fn counted(mut self, counters: &Arc<Counters>) -> Session {
        self.counters = counters.clone();
        self
    }

    /// The client, for what isn't plain statements.
    pub(crate) fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Whether it is as it was when it was made: no transaction open, nothing under way, no error.
    pub(crate) fn is_clean(&self) -> bool {
        !self.client.is_closed()
            && !self.dirty.load(Ordering::Acquire)
            && !self.in_transaction.load(Ordering::Acquire)
    }

    /// Whether the connection is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Prepares what isn't yet, all in one round trip.
    async fn prepare(&self, statements: &[Statement<'_>]) -> Result<(), tokio_postgres::Error> {
        let mut missing: Vec<(&'static str, &[Param<'_>])> = Vec::new();
        {
            let prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            for statement in statements {
                if let Cow::Borrowed(sql) = statement.sql
                    && !prepared.contains_key(sql)
                    && !missing.iter().any(|(other, _)| *other == sql)
                {
                    missing.push((sql, &statement.params));
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let preparing = missing.iter().map(|(sql, params)| async move {
            let types: Vec<Type> = params.iter().map(Param::postgres_type).collect();
            let sql = self.schema.qualify(sql);
            self.client.prepare_typed(&sql, &types).await
        });
        let (found, failed) = in_order(preparing).await;
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        for ((sql, _), statement) in missing.iter().zip(found) {
            prepared.insert(sql, statement);
        }
        failed.map_or(Ok(()), Err)
    }

    async fn one(
        &self,
        statement: &Statement<'_>,
    ) -> Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
        let prepared = match statement.sql {
            Cow::Borrowed(sql) => {
                let prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
                prepared.get(sql).cloned()
            }
            Cow::Owned(_) => None,
        };
        match prepared {
            Some(prepared) => {
                let params: Vec<&(dyn ToSql + Sync)> = statement
                    .params
                    .iter()
                    .map(|param| param as &(dyn ToSql + Sync))
                    .collect();
                self.client.query(&prepared, &params).await
            }
            None => {
                let params: Vec<(&(dyn ToSql + Sync), Type)> = statement
                    .params
                    .iter()
                    .map(|param| (param as &(dyn ToSql + Sync), param.postgres_type()))
                    .collect();
                let sql = self.schema.qualify(&statement.sql);
                self.client.query_typed(&sql, &params).await
            }
        }
    }

    /// What an error of the n-th statement means.
    fn error(
        &self,
        statements: &[Statement<'_>],
        failed: usize,
        e: &tokio_postgres::Error,
    ) -> StoreError {
        let commit = statements
            .iter()
            .position(|statement| statement.sql == COMMIT);
        match commit {
            Some(commit) if failed == commit => error::of_commit(&self.database, e),
            // All were sent before the first answer came: without an answer to the commit nobody
            // knows how far the server got.
            Some(commit) if failed < commit && e.as_db_error().is_none() => {
                error::of_commit(&self.database, e)
            }
            _ => error::definite(&self.database, e),
        }
    }
}

impl Execute for Session {
    async fn run(&self, statements: Vec<Statement<'_>>) -> Result<Vec<Vec<Row>>, StoreError> {
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        // Stays so if this future is dropped on the way.
        self.dirty.store(true, Ordering::Release);
        let prepared = self.prepare(&statements).await;
        // Nothing was sent that could have been committed.
        prepared.map_err(|e| error::definite(&self.database, &e))?;
        for statement in &statements {
            match &*statement.sql {
                BEGIN | BEGIN_READ => self.in_transaction.store(true, Ordering::Release),
                _ => {}
            }
        }
        self.counters.add_statements(statements.len());
        let running = statements.iter().map(|statement| self.one(statement));
        let (answers, failed) = in_order(running).await;
        if let Some(e) = failed {
            return Err(self.error(&statements, answers.len(), &e));
        }
        let ends = |statement: &Statement<'_>| matches!(&*statement.sql, COMMIT | ROLLBACK);
        if statements.iter().any(ends) {
            self.in_transaction.store(false, Ordering::Release);
        }
        self.dirty.store(false, Ordering::Release);
        answers.iter().map(|rows| values(rows)).collect()
    }
}

impl Link {
    /// The next notification or notice; none when the connection has ended, with the error if it
    /// was one.
    pub(crate) async fn next(&mut self) -> Option<Result<AsyncMessage, StoreError>> {
        if let Some(message) = self.waiting.pop_front() {
            return Some(Ok(message));
        }
        let message = poll_fn(|context| self.connection.poll_message(context)).await;
        message.map(|message| message.map_err(|e| error::definite(&self.database, &e)))
    }

    /// Keeps the connection going until it ends, for sessions that listen to nothing.
    pub(crate) async fn run(mut self) {
        while let Some(message) = self.next().await {
            match message {
                Ok(AsyncMessage::Notice(notice)) => {
                    tracing::debug!(database = self.database, %notice, "the server says");
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "a connection ended");
                    return;
                }
            }
        }
    }

    /// Waits for something that needs the connection.
    async fn drive<T>(
        &mut self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, tokio_postgres::Error> {
        let mut work = pin!(work);
        poll_fn(|context| {
            let ended = loop {
                match self.connection.poll_message(context) {
                    Poll::Ready(Some(Ok(message))) => self.waiting.push_back(message),
                    Poll::Ready(Some(Err(error))) => break Some(error),
                    // What waits for an answer now learns that there will be none.
                    Poll::Ready(None) | Poll::Pending => break None,
                }
            };
            match (work.as_mut().poll(context), ended) {
                (Poll::Ready(answer), _) => Poll::Ready(answer),
                (Poll::Pending, Some(error)) => Poll::Ready(Err(error)),
                (Poll::Pending, None) => Poll::Pending,
            }
        })
        .await
    }
}

/// Starts all, in their order, before it waits for the first. Answers what came before the first
/// error, and that.
pub(super) async fn in_order<T, F>(
    futures: impl Iterator<Item = F>,
) -> (Vec<T>, Option<tokio_postgres::Error>)
where
    F: Future<Output = Result<T, tokio_postgres::Error>>,
{
    enum Slot<T, F> {
        Running(Pin<Box<F>>),
        Done(Result<T, tokio_postgres::Error>),
    }
    let mut slots: Vec<Slot<T, F>> = Vec::new();
    let mut futures = futures;
    // A request is sent when its future is polled for the first time.
    poll_fn(|context| {
        for future in futures.by_ref() {
            let mut future = Box::pin(future);
            slots.push(match future.as_mut().poll(context) {
                Poll::Ready(done) => Slot::Done(done),
                Poll::Pending => Slot::Running(future),
            });
        }
        Poll::Ready(())
    })
    .await;
    let mut answers = Vec::with_capacity(slots.len());
    for slot in slots {
        let answer = match slot {
            Slot::Running(future) => future.await,
            Slot::Done(answer) => answer,
        };
        match answer {
            Ok(answer) => answers.push(answer),
            Err(error) => return (answers, Some(error)),
        }
    }
    (answers, None)
}

/// What the server says of itself.
struct Greeting {
    version: i64,
    backend: i64,
    encoding: String,
    is_standby: bool,
    is_read_only: bool,
    /// Settings that are off and must not be.
    unsafe_settings: Vec<&'static str>,
}

/// Makes the settings that the store relies on, and asks for the server's.
async fn greet(client: &Client, address: &Address) -> Result<Greeting, tokio_postgres::Error> {
    let ms = |duration: Duration| duration.as_millis().to_string();
    let settings = [
        ("statement_timeout", ms(address.statement_timeout)),
        ("lock_timeout", ms(address.lock_timeout)),
        (
            "idle_in_transaction_session_timeout",
            ms(IDLE_IN_TRANSACTION),
        ),
        // Rules run between statements: every statement must see what the locks before it waited for.
        ("default_transaction_isolation", "read committed".to_owned()),
        // Everything is qualified; nobody's functions come before the server's own.
        ("search_path", "pg_catalog".to_owned()),
        // Short statements over partitions are costed high and never worth compiling.
        ("jit", "off".to_owned()),
    ];
    let (names, values): (Vec<&str>, Vec<String>) = settings.into_iter().unzip();
    client
        .query_typed(
            "SELECT set_config(name, value, false) FROM unnest($1, $2) AS settings (name, value)",
            &[(&names, Type::TEXT_ARRAY), (&values, Type::TEXT_ARRAY)],
        )
        .await?;
    let row = client
        .query_typed_one(
            "SELECT current_setting('server_version_num')::bigint, pg_backend_pid()::bigint, \
                    current_setting('server_encoding'), pg_is_in_recovery(), \
                    current_setting('transaction_read_only') = 'on', \
                    current_setting('fsync') = 'off', current_setting('full_page_writes') = 'off', \
                    current_setting('synchronous_commit') = 'off'",
            &[],
        )
        .await?;
    let mut unsafe_settings = Vec::new();
    for (column, name) in [
        (5, "fsync"),
        (6, "full_page_writes"),
        (7, "synchronous_commit"),
    ] {
        if row.try_get(column)? {
            unsafe_settings.push(name);
        }
    }
    Ok(Greeting {
        version: row.try_get(0)?,
        backend: row.try_get(1)?,
        encoding: row.try_get(2)?,
        is_standby: row.try_get(3)?,
        is_read_only: row.try_get(4)?,
        unsafe_settings,
    })
}

impl Greeting {
    fn check(&self, allow_unsafe: bool, database: &str) -> Result<(), StoreError> {
        let cannot_open = |detail| {
            Err(StoreError::CannotOpen {
                path: database.to_owned(),
                detail,
            })
        };
        // Another server may take its place: worth another try.
        let unavailable = |detail: &str| {
            Err(StoreError::Unavailable {
                database: database.to_owned(),
                detail: detail.to_owned(),
            })
        };
        if self.version < OLDEST_SERVER {
            return cannot_open(format!(
                "the server is PostgreSQL {}; {} is the oldest that will do",
                self.version / 10_000,
                OLDEST_SERVER / 10_000
            ));
        }
        if self.encoding != "UTF8" {
            return cannot_open(format!(
                "the database's encoding is {}; it must be UTF8",
                self.encoding
            ));
        }
        if self.is_standby {
            return unavailable("the server is a standby, which takes no writes");
        }
        if self.is_read_only {
            return unavailable("its transactions are read-only (default_transaction_read_only)");
        }
        if !self.unsafe_settings.is_empty() && !allow_unsafe {
            return cannot_open(format!(
                "the server has {} switched off, so that what was acknowledged may be lost; switch it on, or accept \
                 that by adding unsafe_durability=allow to the address",
                self.unsafe_settings.join(" and ")
            ));
        }
        Ok(())
    }
}

pub(super) fn values(rows: &[tokio_postgres::Row]) -> Result<Vec<Row>, StoreError> {
    rows.iter()
        .map(|row| (0..row.len()).map(|column| value(row, column)).collect())
        .collect()
}

fn value(row: &tokio_postgres::Row, column: usize) -> Result<Value, StoreError> {
    let kind = row.columns()[column].type_();
    let value = match *kind {
        Type::INT8 => row
            .try_get::<_, Option<i64>>(column)
            .map(|v| v.map(Value::Int)),
        Type::INT4 => row
            .try_get::<_, Option<i32>>(column)
            .map(|v| v.map(|v| Value::Int(v.into()))),
        Type::INT2 => row
            .try_get::<_, Option<i16>>(column)
            .map(|v| v.map(|v| Value::Int(v.into()))),
        Type::BOOL => row
            .try_get::<_, Option<bool>>(column)
            .map(|v| v.map(Value::Bool)),
        Type::TEXT | Type::VARCHAR | Type::NAME => row
            .try_get::<_, Option<String>>(column)
            .map(|v| v.map(Value::Text)),
        // What functions answer that are called for their effect.
        Type::VOID => Ok(None),
        _ => {
            let name = row.columns()[column].name();
            let problem = format!("column `{name}` is of type {kind}: cast it");
            return Err(StoreError::Internal(problem));
        }
    };
    value
        .map(|value| value.unwrap_or(Value::Null))
        .map_err(|e| StoreError::Internal(e.to_string()))
}

impl Param<'_> {
    /// Stated when a statement is prepared, so that the server takes numbers of this size for columns
    /// of every size.
    pub(super) fn postgres_type(&self) -> Type {
        match self {
            Param::Int(_) => Type::INT8,
            Param::Text(_) => Type::TEXT,
            Param::Ints(_) => Type::INT8_ARRAY,
            Param::Texts(_) => Type::TEXT_ARRAY,
        }
    }
}

impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut tokio_postgres::types::private::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Param::Int(value) => value.to_sql(kind, out),
            Param::Text(value) => value.to_sql(kind, out),
            Param::Ints(values) => values.to_sql(kind, out),
            Param::Texts(values) => values.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        [Type::INT8, Type::TEXT, Type::INT8_ARRAY, Type::TEXT_ARRAY].contains(kind)
    }

    tokio_postgres::types::to_sql_checked!();
}

#[cfg(test)]
mod tests;
