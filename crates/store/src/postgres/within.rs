//! Requests inside a transaction of the user's own, on the user's connection to the same database.
//!
//! Invariant: everything stands behind a savepoint, to which the transaction goes back after
//! whatever is not written whole. So refusals and errors leave it as it was, without new locks.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use abide_core::ids::{ExecutionId, Timestamp, made_at};
use abide_core::kernel::{Reply, Request};
use tokio_postgres::types::{ToSql, Type};

use crate::error::{ApplyError, StoreError};
use crate::flush::{After, Flush, Flushed};
use crate::net::Net;

use super::connect::{in_order, values};
use super::load::Plan;
use super::name::SchemaName;
use super::news::Pending;
use super::statement::{Execute, Param, Row, Statement, Value};
use super::{Postgres, Shared, write};

/// How often a start is run again because another one of the same instance came between.
const MAX_COLLISIONS: u32 = 16;

/// Who tells, of notifications that a user's transaction sends: no process, so that all hear them.
const TELLER: &str = "-";

const SAVEPOINT: &str = "SAVEPOINT abide";
const RELEASE: &str = "RELEASE SAVEPOINT abide";
const BACK: &str = "ROLLBACK TO SAVEPOINT abide";

/// Where a connection has got to. A copy of a database has the same store in it: what differs is
/// the server or the database's name.
const SELECT_PLACE: &str = "SELECT id, current_database()::text, \
     (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, \
     current_setting('transaction_isolation'), schema FROM ~store";

/// What is asked where the store's table could not be read.
const SELECT_OBSTACLES: &str =
    "SELECT to_regclass($1::text) IS NULL, current_setting('transaction_read_only') = 'on'";

/// The store that a connection reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    store: String,
    database: String,
    server_started_at: i64,
}

/// What a user's transaction is like.
struct Found {
    place: Place,
    /// Of the store's schema, as the transaction sees it.
    version: i64,
    /// Whether each statement sees what was committed before it.
    read_committed: bool,
}

/// A user's transaction of tokio-postgres.
struct Borrowed<'a, 'c> {
    transaction: &'a tokio_postgres::Transaction<'c>,
    schema: &'a SchemaName,
    database: String,
}

impl Execute for Borrowed<'_, '_> {
    /// All are sent when this is polled for the first time: whoever drops it then leaves nothing
    /// half-written.
    async fn run(&self, statements: Vec<Statement<'_>>) -> Result<Vec<Vec<Row>>, StoreError> {
        let running = statements.iter().map(|statement| async {
            let params: Vec<_> = statement.params.iter().map(typed).collect();
            let sql = self.schema.qualify(&statement.sql);
            self.transaction.query_typed(&sql, &params).await
        });
        // How long it may take is for whoever has the transaction.
        let (answers, failed) = in_order(running, None).await;
        match failed {
            Some(e) => Err(e.definite(&self.database)),
            None => answers.iter().map(|rows| values(rows)).collect(),
        }
    }
}

fn typed<'p>(param: &'p Param<'_>) -> (&'p (dyn ToSql + Sync), Type) {
    (param, param.postgres_type())
}

impl Postgres {
    /// Applies the requests of one start or signal, and answers the last of them.
    pub(crate) async fn apply_within(
        &self,
        transaction: &tokio_postgres::Transaction<'_>,
        requests: &[Request],
    ) -> Result<Reply, ApplyError> {
        let borrowed = Borrowed {
            transaction,
            schema: &self.shared.address.schema,
            database: self.name(),
        };
        self.shared.apply_within(&borrowed, requests).await
    }
}

impl Shared {
    pub(super) async fn apply_within(
        &self,
        execute: &(impl Execute + Sync),
        requests: &[Request],
    ) -> Result<Reply, ApplyError> {
        self.make_room_for(requests).await?;
        let mut collisions = 0;
        loop {
            let mut found = None;
            let applied = self.attempt(execute, requests, &mut found).await;
            let mut error = match applied {
                Ok((reply, true)) => return Ok(reply),
                Ok((reply, false)) => {
                    go_back(execute).await?;
                    return Ok(reply);
                }
                Err(error) => error,
            };
            if let Err(error) = go_back(execute).await {
                // It was not open, or its connection is gone.
                tracing::debug!(%error, "a user's transaction can't go back to where it was");
            } else if found.is_none() {
                self.explain(execute).await?;
                if let ApplyError::Store(failed) = error {
                    error = self.explained(execute, failed).await.into();
                }
            }
            let read_committed = found.is_some_and(|found| found.read_committed);
            match error {
                ApplyError::Store(StoreError::Raced { .. })
                    if read_committed && collisions < MAX_COLLISIONS =>
                {
                    collisions += 1;
                }
                error => return Err(of_users(error)),
            }
        }
    }

    /// Runs everything behind a savepoint. Answers also whether it was written, and the savepoint
    /// released.
    async fn attempt(
        &self,
        execute: &impl Execute,
        requests: &[Request],
        found: &mut Option<Found>,
    ) -> Result<(Reply, bool), ApplyError> {
        let since = self.clock.now();
        let mut after = After::default();
        let mut answer = None;
        for (n, request) in requests.iter().enumerate() {
            let now = self.clock.now();
            let mut flush = Flush::new(now);
            flush.add_request(request);
            self.read_through(execute, &mut flush, found).await?;
            let found = found.as_ref().expect("looked at with the first request");
            self.check(found, request).await?;
            if n == 0 && !found.read_committed {
                self.ask_present_version(execute).await?;
            }
            let mut flushed = flush.finish()?;
            let reply = flushed.take_answer()?;
            if matches!(&reply, Reply::Started(started) if !started.created) {
                return Ok((reply, false));
            }
            answer = Some(reply);
            let Flushed {
                executions,
                tasks,
                effects,
                ..
            } = flushed;
            let net = Net::of(now, &executions, &tasks, &effects)?;
            let mut statements = write::statements(&net);
            after = after.and(After::of(&effects));
            if n + 1 == requests.len() {
                statements.extend(self.notify(std::mem::take(&mut after), since));
                statements.push(Statement::new(RELEASE, Vec::new()));
            }
            execute.run(statements).await?;
        }
        Ok((answer.expect("there is a request"), true))
    }

    /// Locks, reads and runs until the request has run through.
    async fn read_through(
        &self,
        execute: &impl Execute,
        flush: &mut Flush<'_>,
        found: &mut Option<Found>,
    ) -> Result<(), StoreError> {
        while !flush.is_done() {
            let needs = flush.missing();
            let mut plan = Plan::new(
                &flush.working,
                &self.graphs,
                &self.low_water,
                flush.working.now,
                &needs,
            );
            let mut statements = plan.statements();
            let begins = found.is_none();
            if begins {
                let begin = [SAVEPOINT, SELECT_PLACE].map(|sql| Statement::new(sql, Vec::new()));
                statements.splice(..0, begin);
            }
            let mut answers = execute.run(statements).await?;
            if begins {
                let place = answers.drain(..2).next_back();
                *found = Some(read_place(place.into_iter().flatten().next())?);
            }
            for (need, error) in &plan.fill(answers, &mut flush.working, &self.graphs)? {
                flush.cannot_read(need, error);
            }
            flush.run()?;
        }
        Ok(())
    }

    /// That the transaction is one of this store, and sees what the rules must see.
    async fn check(&self, found: &Found, request: &Request) -> Result<(), StoreError> {
        if !self.is_here(&found.place).await? {
            let Place { database, .. } = &found.place;
            let detail = format!("it is one of a database `{database}`, with a store of its own");
            return Err(self.elsewhere(detail));
        }
        self.require_version(found.version)?;
        // A start meets the unique key of its instance. But who waits for a signal may have begun to
        // wait after the transaction's snapshot was taken, without a change to any row that it reads.
        if !found.read_committed && matches!(request, Request::Signal(_)) {
            let what = "a signal can be sent only in a transaction of READ COMMITTED, since others don't see \
                        who began to wait for it meanwhile; nothing was written";
            return Err(StoreError::Invalid(what.to_owned()));
        }
        Ok(())
    }

    /// Says why the store's table could not be read and locked, if it is something common.
    async fn explain(&self, execute: &impl Execute) -> Result<(), StoreError> {
        let schema = &self.address.schema;
        let table = format!("{}.store", schema.quoted());
        let params = vec![Param::Text(Some(table.into()))];
        let ask = execute
            .run(vec![Statement::new(SELECT_OBSTACLES, params)])
            .await?;
        match ask.into_iter().flatten().next().as_deref() {
            Some([Value::Bool(true), _]) => {
                Err(self.elsewhere(format!("there is no schema `{schema}` with a store")))
            }
            Some([_, Value::Bool(true)]) => {
                let what = "the transaction is read-only; nothing was written";
                Err(StoreError::Invalid(what.to_owned()))
            }
            _ => Ok(()),
        }
    }

    async fn is_here(&self, place: &Place) -> Result<bool, StoreError> {
        let known = self
            .place
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if known.as_ref() == Some(place) {
            return Ok(true);
        }
        // The server may have been started again since.
        let session = self.readers.get().await?;
        let answers = session
            .run(vec![Statement::new(SELECT_PLACE, Vec::new())])
            .await?;
        let own = read_place(answers.into_iter().flatten().next())?.place;
        let is_here = own == *place && own.store == self.id;
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
        Ok(is_here)
    }

    fn elsewhere(&self, detail: String) -> StoreError {
        StoreError::OtherDatabase {
            store: self.address.database(),
            detail,
        }
    }

    /// A notification that is sent when the transaction commits.
    fn notify(&self, after: After, since: Timestamp) -> Option<Statement<'static>> {
        let told = Pending::of(after, since)?;
        let params = vec![
            Param::Text(Some(self.channel.clone().into())),
            Param::Text(Some(told.to_text(TELLER).into())),
        ];
        Some(Statement::new("SELECT pg_notify($1, $2)", params))
    }

    /// The history of what is started has its place, made apart from the transaction.
    async fn make_room_for(&self, requests: &[Request]) -> Result<(), StoreError> {
        let Some(Request::Start(start)) = requests.first() else {
            return Ok(());
        };
        let ExecutionId(id) = start.id;
        if id < self.events_end.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut session = self.readers.get().await?;
        self.make_room(&mut session, made_at(id)).await
    }
}

/// Goes back to the savepoint, and forgets it.
async fn go_back(execute: &impl Execute) -> Result<(), StoreError> {
    let statements = [BACK, RELEASE].map(|sql| Statement::new(sql, Vec::new()));
    execute.run(statements.into()).await.map(drop)
}

/// What an error means to whoever has the transaction.
fn of_users(error: ApplyError) -> ApplyError {
    let what = match error {
        ApplyError::Store(StoreError::Raced { what }) => {
            format!("another transaction was first ({what})")
        }
        ApplyError::Store(StoreError::Deadlock(database)) => {
            format!("a deadlock with another transaction on the database {database}")
        }
        error => return error,
    };
    ApplyError::Store(StoreError::Conflict(what))
}

fn read_place(row: Option<Row>) -> Result<Found, StoreError> {
    let cells = row.unwrap_or_default();
    match <[Value; 5]>::try_from(cells) {
        Ok(
            [
                Value::Text(store),
                Value::Text(database),
                Value::Int(server_started_at),
                Value::Text(isolation),
                Value::Int(version),
            ],
        ) => Ok(Found {
            version,
            place: Place {
                store,
                database,
                server_started_at,
            },
            // PostgreSQL has no weaker one: it treats `read uncommitted` like this.
            read_committed: matches!(&*isolation, "read committed" | "read uncommitted"),
        }),
        other => Err(StoreError::Internal(format!("no place but {other:?}"))),
    }
}
