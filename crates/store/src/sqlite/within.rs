//! Requests inside a transaction of the user's own, on the user's connection to the same file.

use std::path::Path;

use abide_core::ids::VersionId;
use abide_core::kernel::{Reply, Request};
use rusqlite::Connection;

use crate::error::{ApplyError, StoreError};
use crate::flush::{After, Flush, Flushed};
use crate::net::Net;
use crate::queries;
use crate::within::sealed::NewVersion;

use super::commits::{Awaited, Trace};
use super::load::Loader;
use super::{Sqlite, maintenance, write};

/// Takes the write lock without writing. It fails at once if another connection has written since
/// this transaction began to read, so that no rule looks at what is out of date.
const LOCK: &str = "DELETE FROM main.task_outbox WHERE 0";

/// Undoes what was begun, unless it is kept.
struct Savepoint<'a> {
    connection: &'a Connection,
    kept: bool,
}

impl<'a> Savepoint<'a> {
    fn begin(connection: &'a Connection) -> rusqlite::Result<Savepoint<'a>> {
        connection.execute_batch("SAVEPOINT abide")?;
        Ok(Savepoint {
            connection,
            kept: false,
        })
    }

    fn keep(mut self) -> rusqlite::Result<()> {
        self.connection.execute_batch("RELEASE abide")?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Savepoint<'_> {
    fn drop(&mut self) {
        // SQLite has rolled back the whole transaction by itself after some errors.
        if !self.kept
            && !self.connection.is_autocommit()
            && let Err(error) = self
                .connection
                .execute_batch("ROLLBACK TO abide; RELEASE abide")
        {
            tracing::error!(%error, "what was begun in a user's transaction could not be undone");
        }
    }
}

impl Sqlite {
    /// Applies the requests of one start or signal, and answers the last of them.
    pub(crate) fn apply_within(
        &self,
        connection: &Connection,
        requests: &[Request],
    ) -> Result<Reply, ApplyError> {
        let savepoint = self.begin(connection)?;
        let mut after = After::default();
        let mut answer = None;
        for request in requests {
            let (reply, of_request) = self.apply_one(connection, request)?;
            after = after.and(of_request);
            if matches!(&reply, Reply::Started(started) if !started.created) {
                return Ok(reply);
            }
            answer = Some(reply);
        }
        let reply = answer.expect("there is a request");
        savepoint.keep().map_err(|error| self.within_error(error))?;
        if !after.is_nothing() {
            let trace = Trace::of(&reply, requests);
            self.commits
                .expect(&self.database, Awaited { trace, after });
        }
        Ok(reply)
    }

    fn apply_one(
        &self,
        connection: &Connection,
        request: &Request,
    ) -> Result<(Reply, After), ApplyError> {
        let now = self.now();
        let mut flush = Flush::new(now);
        flush.add_request(request);
        let loader = Loader {
            database: &self.database,
            connection,
            // No version that is not committed gets into it: only a task that waits makes a rule
            // look at a graph, and no task waits before its execution is committed.
            graphs: &self.graphs,
            workers: &self.workers,
        };
        loader.run_through(&mut flush)?;
        let mut flushed = flush.finish()?;
        let reply = flushed.take_answer()?;
        let Flushed {
            executions,
            tasks,
            effects,
            ..
        } = flushed;
        let net = Net::of(now, &executions, &tasks, &effects)?;
        write::write(connection, &net).map_err(|error| self.database.write_error(error))?;
        Ok((reply, After::of(&effects)))
    }

    /// The id of a workflow version, and whether it is committed. A new one is recorded in the user's
    /// transaction, since another connection could not write meanwhile.
    pub(crate) fn version_within(
        &self,
        connection: &Connection,
        version: &NewVersion<'_>,
    ) -> Result<(VersionId, bool), StoreError> {
        let NewVersion {
            name,
            version,
            kind,
            graph,
        } = version;
        let what = |error| self.database.read_error(error, "a workflow version");
        let committed =
            self.read(|reader| reader.one(queries::version(name, version, &graph.fingerprint())))?;
        if let Some(id) = committed {
            return Ok((id, true));
        }
        let savepoint = self.begin(connection)?;
        let id = maintenance::ensure_version(connection, self.now(), name, version, *kind, graph)
            .map_err(what)??;
        savepoint.keep().map_err(|error| self.within_error(error))?;
        Ok((id, false))
    }

    /// Begins something in the transaction of a connection, if that is one of this file. The write
    /// lock comes before anything is read.
    fn begin<'a>(&self, connection: &'a Connection) -> Result<Savepoint<'a>, StoreError> {
        self.require_open(connection)?;
        let fail = |error| self.within_error(error);
        let savepoint = Savepoint::begin(connection).map_err(fail)?;
        connection.execute_batch(LOCK).map_err(fail)?;
        self.database
            .require_version(connection)
            .inspect_err(|error| self.lose_if_for_good(error))?;
        self.require_unshadowed(connection)?;
        Ok(savepoint)
    }

    /// That the connection is in a transaction, and in one of this file.
    fn require_open(&self, connection: &Connection) -> Result<(), StoreError> {
        if connection.is_autocommit() {
            let what = "no transaction is open on the connection: nothing was written";
            return Err(StoreError::Invalid(what.to_owned()));
        }
        let other = |detail: String| StoreError::OtherDatabase {
            store: self.name(),
            detail,
        };
        let file = match connection.path() {
            Some(path) if !path.is_empty() => path,
            _ => return Err(other("its main database is not a file".to_owned())),
        };
        let is_same = std::fs::canonicalize(file).is_ok_and(|path| path == *self.database.path);
        if !is_same {
            let file = Path::new(file).display();
            return Err(other(format!("its main database is {file}")));
        }
        self.database.require_same_file(false)
    }

    /// That no temporary table hides one of the store's.
    fn require_unshadowed(&self, connection: &Connection) -> Result<(), StoreError> {
        let mut statement = connection
            .prepare_cached(
                "SELECT t.name FROM temp.sqlite_schema t JOIN main.sqlite_schema m ON m.name = t.name \
                 WHERE t.type IN ('table', 'view')",
            )
            .map_err(|error| self.within_error(error))?;
        let mut rows = statement
            .query([])
            .map_err(|error| self.within_error(error))?;
        match rows.next().map_err(|error| self.within_error(error))? {
            None => Ok(()),
            Some(row) => {
                let name: String = row.get(0).map_err(|error| self.within_error(error))?;
                let what = format!(
                    "the connection has a temporary table `{name}`, which hides the one of that name"
                );
                Err(StoreError::Invalid(what))
            }
        }
    }

    fn within_error(&self, error: rusqlite::Error) -> StoreError {
        self.database.error(error, false)
    }
}
