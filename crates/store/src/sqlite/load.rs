//! Fills a working set: reads what a rule needs, on the write connection, inside its transaction.

use std::sync::Arc;

use abide_core::execution::Execution;
use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, VersionId, WorkerId};
use abide_core::kernel::{Latest, Need, Working};
use rusqlite::Connection;

use crate::error::StoreError;
use crate::flush::Flush;
use crate::graphs::GraphCache;
use crate::queries::{self, parse_graph};
use crate::reads::{self, Kinds, Select};
use crate::rows::EXECUTION;
use crate::words;

use super::connection::Database;
use super::maintenance;
use super::rows::{all, all_of, mismatch, rows};
use super::workers::WorkerFiles;
use super::write::{Binder, numbered};

/// What loading needs besides the connection.
pub(crate) struct Loader<'a> {
    pub(crate) database: &'a Database,
    pub(crate) connection: &'a Connection,
    pub(crate) graphs: &'a GraphCache,
    pub(crate) workers: &'a WorkerFiles,
}

type Read<T> = rusqlite::Result<T>;

impl Loader<'_> {
    /// Reads what the requests of a flush miss until they have all run.
    pub(crate) fn run_through(&self, flush: &mut Flush<'_>) -> Result<(), StoreError> {
        while !flush.is_done() {
            for need in flush.missing() {
                match self.load(&mut flush.working, &need) {
                    Err(error) if error.is_content() => flush.cannot_read(&need, &error),
                    read => read?,
                }
            }
            flush.run()?;
        }
        Ok(())
    }

    /// Reads one need into the working set.
    pub(crate) fn load(&self, working: &mut Working, need: &Need) -> Result<(), StoreError> {
        let connection = self.connection;
        let of = |error| self.database.read_error(error, words::need(need));
        match need {
            Need::Instance(instance) => {
                let latest = self.latest(instance).map_err(of)?;
                if let Some(latest) = &latest {
                    self.load(working, &Need::Execution(latest.id))?;
                }
                working.load_instance(instance.clone(), latest);
            }
            Need::Execution(id) => {
                working.load_execution(*id, execution(connection, *id).map_err(of)?)
            }
            Need::Graph(id, version, own) => {
                working.load_graph(*id, *version, *own, self.graph(*id, *version, *own)?)
            }
            Need::Worker(id) => working.load_worker(*id, self.is_alive(*id).map_err(of)?),
            Need::ReadyHead(queues) => {
                let unread: Vec<VersionId> = working.unread_heads(queues).collect();
                for queue in unread {
                    working.load_ready_head(queue, self.ready_head(queue).map_err(of)?);
                }
            }
            // Of a kind that is declared for both databases.
            Need::WorkflowName(_)
            | Need::Task(_)
            | Need::Tasks(..)
            | Need::Context(_)
            | Need::Waits(_)
            | Need::StepCount(_)
            | Need::Step(..)
            | Need::SignalRead(..)
            | Need::Mailbox(..)
            | Need::SignalNumber(..)
            | Need::SignalWaiters(..) => reads::each(&mut OfNeed {
                connection,
                working,
                need,
            })
            .map_err(of)?,
        }
        Ok(())
    }

    // Relies on executions_instance.
    fn latest(&self, instance: &str) -> Read<Option<Latest>> {
        let sql = "SELECT id, generation, input_hash FROM executions \
             WHERE instance = ?1 AND generation IS NOT NULL ORDER BY generation DESC LIMIT 1";
        Ok(rows(self.connection, sql, [instance])?.pop())
    }

    fn graph(
        &self,
        id: ExecutionId,
        version: VersionId,
        own: bool,
    ) -> Result<Arc<Graph>, StoreError> {
        load_graph(
            self.database,
            self.connection,
            self.graphs,
            id,
            version,
            own,
        )
    }

    /// On one machine the lock tells it: the system frees it when the process dies, long before its
    /// lease is over, and a clock that jumped past the lease frees nothing.
    fn is_alive(&self, id: WorkerId) -> Read<bool> {
        Ok(maintenance::is_registered(self.connection, id)? && self.workers.is_held(id))
    }

    // Relies on the outbox's key.
    fn ready_head(&self, queue: VersionId) -> Read<Option<i16>> {
        let sql =
            "SELECT -rank FROM task_outbox WHERE worker = 0 AND queue = ?1 ORDER BY rank LIMIT 1";
        Ok(rows(self.connection, sql, [queue.0])?.pop())
    }
}

/// Reads a need, if it is of a kind.
struct OfNeed<'a> {
    connection: &'a Connection,
    working: &'a mut Working,
    need: &'a Need,
}

impl Kinds for OfNeed<'_> {
    type Error = rusqlite::Error;

    fn kind<R: reads::Read>(&mut self) -> Read<()> {
        let Some(key) = R::of(self.need, self.working) else {
            return Ok(());
        };
        let rows = rows_of::<R>(self.connection, &key)?;
        R::load(self.working, key, rows).map_err(|detail| mismatch(0, detail))
    }
}

/// The rows of one key.
fn rows_of<R: reads::Read>(connection: &Connection, key: &R::Key) -> Read<Vec<R::Row>> {
    let mut statement = connection.prepare_cached(text::<R>())?;
    R::put(key, &mut Binder::new(connection, &mut statement))?;
    all_of(connection, statement.raw_query())
}

fn text<R: reads::Read>() -> &'static str {
    R::text().sqlite.get_or_init(|| {
        let index = |select: &Select| {
            let index = select.sqlite_index;
            index.map_or_else(String::new, |index| format!(" INDEXED BY {index}"))
        };
        let sql = reads::of_one_need::<R>(index).replace('~', "");
        numbered(&sql, &R::heads())
    })
}

/// An execution's row.
pub(crate) fn execution(connection: &Connection, id: ExecutionId) -> Read<Option<Execution>> {
    static SQL: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| format!("SELECT {EXECUTION} FROM executions WHERE id = ?1"));
    Ok(rows(connection, &SQL, [id.0])?.pop())
}

/// The graph of an execution or of its workflow version, from the cache or the store.
pub(crate) fn load_graph(
    database: &Database,
    connection: &Connection,
    cache: &GraphCache,
    id: ExecutionId,
    version: VersionId,
    own: bool,
) -> Result<Arc<Graph>, StoreError> {
    if let Some(graph) = cache.get(id, version, own) {
        return Ok(graph);
    }
    let query = queries::graph(id, version, own);
    let found = all(connection, &query)
        .map_err(|error| database.read_error(error, &query.what))?
        .pop();
    let graph = parse_graph(found.flatten()).map_err(|detail| StoreError::Undecodable {
        what: query.what.into_owned(),
        detail,
    })?;
    Ok(cache.put(id, version, own, Arc::new(graph)))
}

#[cfg(test)]
mod tests {
    use rusqlite::{StatementStatus, params};

    use abide_core::ids::TaskKey;

    use crate::reads::{Mailbox, SignalNumber, SignalWaiters, Waits};

    use super::*;

    /// A task that has recorded so many operations and waits for one more.
    fn waiting_after(steps: u32) -> Connection {
        let connection = Connection::open_in_memory().expect("opens");
        let schema = include_str!("schema.sql");
        connection.execute_batch(schema).expect("creates");
        let mut insert = connection
            .prepare(
                "INSERT INTO steps (execution, task, number, kind, name, state, ordinal, recorded_at) \
                 VALUES (1, 1, ?1, 'signal', 'go', ?2, ?3, 1)",
            )
            .expect("is sound");
        for number in 1..=steps {
            let done = params![number, "done", number];
            insert.execute(done).expect("is written");
        }
        let waits = params![steps + 1, "waiting", 0];
        insert.execute(waits).expect("is written");
        drop(insert);
        connection
    }

    /// What SQLite did to answer what was asked with this statement.
    fn work(connection: &Connection, sql: &str) -> i32 {
        let statement = connection.prepare_cached(sql).expect("is sound");
        statement.get_status(StatementStatus::VmStep)
    }

    #[test]
    fn what_a_task_waits_for_is_found_without_reading_its_record() {
        let key = TaskKey::new(ExecutionId(1), 1);
        let mut works = Vec::new();
        for steps in [1, 2_000] {
            let connection = waiting_after(steps);
            let waits = rows_of::<Waits>(&connection, &key).expect("reads");
            assert_eq!(waits.len(), 1);
            let mailbox = (key.execution, "go".into());
            let waiters = rows_of::<SignalWaiters>(&connection, &mailbox).expect("reads");
            assert_eq!(waiters, [key.number]);
            works
                .push([text::<Waits>(), text::<SignalWaiters>()].map(|sql| work(&connection, sql)));
        }
        assert!(works[0].iter().all(|steps| *steps > 0));
        assert_eq!(works[0], works[1]);
    }

    /// An execution with three unread signals, and as many as told that were read by it, or that the
    /// instance's execution before it left unread.
    fn mailbox_beside(others: u32) -> Connection {
        let connection = Connection::open_in_memory().expect("opens");
        let schema = include_str!("schema.sql");
        connection.execute_batch(schema).expect("creates");
        let mut insert = connection
            .prepare(
                "INSERT INTO signals (instance, name, number, execution, payload, sent_at, read_execution, read_task, \
                 read_operation) VALUES ('box', 'go', ?1, ?2, '1', 0, ?3, ?3, ?3)",
            )
            .expect("is sound");
        let mut number = 0;
        for (many, execution, reader) in [(others, 1, None), (others, 2, Some(2)), (3, 2, None)] {
            for _ in 0..many {
                number += 1;
                let row = params![number, execution, reader];
                insert.execute(row).expect("is written");
            }
        }
        drop(insert);
        connection
    }

    #[test]
    fn what_is_next_in_a_mailbox_is_found_beside_what_others_left_and_what_was_read() {
        let mut works = Vec::new();
        for others in [1, 2_000] {
            let connection = mailbox_beside(others);
            let mailbox = (ExecutionId(2), "go".into(), 0);
            let unread = rows_of::<Mailbox>(&connection, &mailbox).expect("reads");
            let last = i64::from(2 * others);
            let numbers: Vec<i64> = unread.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers, [last + 1, last + 2, last + 3]);
            let box_go = ("box".into(), "go".into());
            let next = rows_of::<SignalNumber>(&connection, &box_go).expect("reads");
            assert_eq!(next, [last + 4]);
            works.push(
                [text::<Mailbox>(), text::<SignalNumber>()].map(|sql| work(&connection, sql)),
            );
        }
        assert!(works[0].iter().all(|steps| *steps > 0));
        assert_eq!(works[0], works[1]);
    }
}
