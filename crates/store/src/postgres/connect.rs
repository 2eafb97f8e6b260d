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
use tokio::sync::Notify;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::name::SchemaName;
use super::statement::{Execute, Param, Row, Statement};
use super::token::token;
use super::{error, pooler, tls};
use crate::error::StoreError;
use crate::stats::Counters;

mod settings;
mod values;

use settings::{greet, set};
pub(super) use values::values;

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

/// How much longer than the server lets a statement run its answer is waited for. A server process
/// may stand still while the connection to it lives, and tells nobody.
const GRACE: Duration = Duration::from_secs(5);

/// Where in the server a warning comes from that a commit is on this server alone: the wait for the
/// standby was cancelled, by a timeout or by somebody. The words depend on the server's language.
const WAIT_FOR_STANDBY: &str = "SyncRepWaitForLSN";

/// One connection.
pub(crate) struct Session {
    client: Client,
    /// The server process that it was given when it was made.
    process: i64,
    /// The longest wait for the next answer. None where the address lets statements run without end.
    silence: Option<Duration>,
    wire: Arc<Wire>,
    /// No answer came in time: the connection is of no more use.
    is_silent: AtomicBool,
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
    wire: Arc<Wire>,
}

/// What the two halves of a connection tell each other.
#[derive(Default)]
struct Wire {
    /// The link ends, whatever answers it waits for.
    cut: Notify,
    /// The server has committed without waiting for its standby, and warned of that.
    is_unreplicated: AtomicBool,
}

impl Session {
    /// Connects, and looks whether the server will do.
    pub(crate) async fn connect(address: &Address) -> Result<(Session, Link), StoreError> {
        let limit = address.connect_limit();
        let connected = tokio::time::timeout(limit, Session::connect_now(address)).await;
        connected.unwrap_or_else(|_| Err(silent(&address.database(), limit)))
    }

    async fn connect_now(address: &Address) -> Result<(Session, Link), StoreError> {
        let database = address.database();
        let cannot_open = |detail| StoreError::CannotOpen {
            path: database.clone(),
            detail,
        };
        let connector = tls::connector(address.tls, &address.roots).map_err(cannot_open)?;
        let mark = token();
        let marked = pooler::marked(&address.config, &mark);
        let connected = match marked.connect(connector.clone()).await {
            Err(error) if pooler::refused_mark(&error) => address.config.connect(connector).await,
            connected => connected,
        };
        let (client, connection) = connected.map_err(|e| error::of_connect(&database, &e))?;
        let wire = Arc::<Wire>::default();
        let mut link = Link {
            connection,
            wire: wire.clone(),
            waiting: std::collections::VecDeque::new(),
            database: database.clone(),
        };
        let fail = |e| error::of_connect(&database, &e);
        let is_direct = link.drive(set(&client, address, Some(&mark))).await;
        if !is_direct.map_err(fail)? {
            let checked = link.drive_any(pooler::check(address, &client)).await;
            checked.map_err(fail)??;
            let settings = set(&client, address, None);
            link.drive(settings).await.map_err(fail)?;
        }
        let greeting = link.drive(greet(&client)).await.map_err(fail)?;
        greeting.check(address.allow_unsafe, &database)?;
        tracing::debug!(
            database,
            server = greeting.version,
            process = greeting.backend,
            "connected"
        );
        let limit = address.statement_timeout;
        let session = Session {
            client,
            process: greeting.backend,
            silence: (!limit.is_zero()).then(|| limit.saturating_add(GRACE)),
            wire,
            is_silent: AtomicBool::new(false),
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

    /// Waits no longer than this for an answer from now on.
    pub(crate) fn answering_within(mut self, limit: Duration) -> Session {
        self.silence = Some(self.silence.map_or(limit, |silence| silence.min(limit)));
        self
    }

    /// An answer that it should have given did not come.
    pub(crate) fn give_up(&self) {
        self.dirty.store(true, Ordering::Release);
        self.is_silent.store(true, Ordering::Release);
    }

    /// The client, for what isn't plain statements.
    pub(crate) fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// That this is still its server process: behind a pooler it may be another one.
    pub(crate) fn check_process(&self, process: i64) -> Result<(), StoreError> {
        match process == self.process {
            true => Ok(()),
            false => Err(pooler::refusal(&self.database)),
        }
    }

    /// Whether it is as it was when it was made: no transaction open, nothing under way, no error.
    pub(crate) fn is_clean(&self) -> bool {
        !self.is_closed()
            && !self.dirty.load(Ordering::Acquire)
            && !self.in_transaction.load(Ordering::Acquire)
    }

    /// Whether the connection is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.is_silent.load(Ordering::Acquire)
    }

    /// Prepares what isn't yet, all in one round trip.
    async fn prepare(&self, statements: &[Statement<'_>]) -> Result<(), Unanswered> {
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
        let (found, failed) = in_order(preparing, self.silence).await;
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
    fn error(&self, statements: &[Statement<'_>], failed: usize, e: &Unanswered) -> StoreError {
        if matches!(e, Unanswered::Silence(_)) {
            self.give_up();
        }
        let commit = statements
            .iter()
            .position(|statement| statement.sql == COMMIT);
        match commit {
            Some(commit) if failed == commit => e.of_commit(&self.database),
            // All were sent before the first answer came: without an answer to the commit nobody
            // knows how far the server got.
            Some(commit) if failed < commit && !e.is_from_server() => e.of_commit(&self.database),
            _ => e.definite(&self.database),
        }
    }
}

impl Execute for Session {
    async fn run(&self, statements: Vec<Statement<'_>>) -> Result<Vec<Vec<Row>>, StoreError> {
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        self.wire.is_unreplicated.store(false, Ordering::Release);
        // Stays so if this future is dropped on the way.
        self.dirty.store(true, Ordering::Release);
        let prepared = self.prepare(&statements).await;
        // Nothing was sent that could have been committed.
        prepared.map_err(|e| self.error(&[], 0, &e))?;
        for statement in &statements {
            match &*statement.sql {
                BEGIN | BEGIN_READ => self.in_transaction.store(true, Ordering::Release),
                _ => {}
            }
        }
        self.counters.add_statements(statements.len());
        let running = statements.iter().map(|statement| self.one(statement));
        let (answers, failed) = in_order(running, self.silence).await;
        if let Some(e) = failed {
            return Err(self.error(&statements, answers.len(), &e));
        }
        let commits = statements.iter().any(|statement| statement.sql == COMMIT);
        if commits && self.wire.is_unreplicated.swap(false, Ordering::AcqRel) {
            return Err(StoreError::Io {
                path: self.database.clone(),
                detail: "the server gave up waiting for its synchronous standby".to_owned(),
                unknown: true,
            });
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
        let message = tokio::select! {
            message = poll_fn(|context| self.connection.poll_message(context)) => message,
            () = self.wire.cut.notified() => None,
        };
        if let Some(Ok(AsyncMessage::Notice(notice))) = &message
            && notice.routine() == Some(WAIT_FOR_STANDBY)
        {
            self.wire.is_unreplicated.store(true, Ordering::Release);
        }
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
        self.drive_any(work).await.and_then(|answer| answer)
    }

    /// The same for whatever it answers; an error is the connection's.
    async fn drive_any<T>(
        &mut self,
        work: impl Future<Output = T>,
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
                (Poll::Ready(answer), _) => Poll::Ready(Ok(answer)),
                (Poll::Pending, Some(error)) => Poll::Ready(Err(error)),
                (Poll::Pending, None) => Poll::Pending,
            }
        })
        .await
    }
}

/// A connection that is given up while answers are outstanding waits for none of them. Otherwise the
/// server is told.
impl Drop for Session {
    fn drop(&mut self) {
        if *self.dirty.get_mut() {
            self.wire.cut.notify_one();
        }
    }
}

/// Why there is no answer.
pub(super) enum Unanswered {
    Error(tokio_postgres::Error),
    /// For so long none came.
    Silence(Duration),
}

impl Unanswered {
    /// As the error of a statement that isn't a COMMIT.
    pub(super) fn definite(&self, database: &str) -> StoreError {
        match self {
            Unanswered::Error(e) => error::definite(database, e),
            Unanswered::Silence(limit) => silent(database, *limit),
        }
    }

    fn of_commit(&self, database: &str) -> StoreError {
        match self {
            Unanswered::Error(e) => error::of_commit(database, e),
            Unanswered::Silence(limit) => StoreError::Io {
                path: database.to_owned(),
                detail: no_answer(*limit),
                unknown: true,
            },
        }
    }

    fn is_from_server(&self) -> bool {
        matches!(self, Unanswered::Error(e) if e.as_db_error().is_some())
    }
}

/// The error of a server process that does not answer.
pub(super) fn silent(database: &str, limit: Duration) -> StoreError {
    StoreError::Unavailable {
        database: database.to_owned(),
        detail: no_answer(limit),
    }
}

fn no_answer(limit: Duration) -> String {
    format!("a process of the server has not answered for {limit:?}")
}

/// Starts all, in their order, before it waits for the first. Answers what came before the first
/// error, and that. An answer that does not come within `silence` after the one before is an error.
pub(super) async fn in_order<T, F>(
    futures: impl Iterator<Item = F>,
    silence: Option<Duration>,
) -> (Vec<T>, Option<Unanswered>)
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
            Slot::Running(future) => match silence {
                None => future.await,
                Some(limit) => match tokio::time::timeout(limit, future).await {
                    Ok(answer) => answer,
                    Err(_) => return (answers, Some(Unanswered::Silence(limit))),
                },
            },
            Slot::Done(answer) => answer,
        };
        match answer {
            Ok(answer) => answers.push(answer),
            Err(error) => return (answers, Some(Unanswered::Error(error))),
        }
    }
    (answers, None)
}

#[cfg(test)]
mod tests;
