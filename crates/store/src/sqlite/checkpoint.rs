//! Checkpoints: pages go from the write-ahead log back into the main file on a thread and a
//! connection of their own, apart from commits. Only when that cannot keep up does the writer
//! itself do it.

use std::cell::Cell;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use crate::error::StoreError;

use super::connection::Database;

/// So many pages more than when it was last asked for, and the background works the log off.
const BACKGROUND_PAGES: i32 = 1_000;
/// A log of so many pages is worked off by the writer, so that it stays bounded; unless somebody
/// reads on and on, which no log can begin again under.
const WRITER_PAGES: i32 = 4_000;
/// How long commits wait for readers then, once in so many pages as the background is asked for.
const PATIENCE: Duration = Duration::from_millis(100);

thread_local! {
    /// Pages in the log after this thread's last commit, until they are looked at. SQLite's hook takes no closure.
    static LOG_PAGES: Cell<Option<i32>> = const { Cell::new(None) };
}

pub(crate) struct Checkpoints {
    ask: SyncSender<()>,
    thread: JoinHandle<()>,
    /// Pages in the log after the last commit.
    pages: i32,
    asked_at: i32,
    /// The writer works the log off when it has so many pages.
    restart_at: i32,
    limit: i32,
    database: Database,
}

impl Checkpoints {
    /// Starts the thread, and counts the pages that commits on this connection leave in the log.
    pub(crate) fn start(
        database: &Database,
        writer: &Connection,
    ) -> Result<Checkpoints, StoreError> {
        // The connection checkpoints, which a query_only one may not.
        let connection = database.open_writer(false)?;
        let (ask, asked) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("abide-checkpoint".into())
            .spawn(move || work(&connection, &asked))
            .map_err(|error| StoreError::Internal(format!("no thread for checkpoints: {error}")))?;
        writer.wal_hook(Some(|_, pages| {
            LOG_PAGES.set(Some(pages));
            Ok(())
        }));
        Ok(Checkpoints {
            ask,
            thread,
            pages: 0,
            asked_at: 0,
            restart_at: WRITER_PAGES,
            limit: WRITER_PAGES,
            database: database.clone(),
        })
    }

    /// Forgets what an earlier commit on this thread left to look at: it may have been another store's.
    pub(crate) fn before_commit(&self) {
        LOG_PAGES.take();
    }

    /// Looks at the log after a commit, on the thread that made it. Has the background work it off if it has grown.
    pub(crate) fn after_commit(&mut self) {
        let Some(pages) = LOG_PAGES.take() else {
            // Nothing was written.
            return;
        };
        self.pages = pages;
        if pages < self.asked_at {
            // The log began again from its start.
            self.asked_at = 0;
            self.restart_at = self.limit;
        }
        if pages > self.asked_at + BACKGROUND_PAGES {
            self.asked_at = pages;
            match self.ask.try_send(()) {
                // A full channel means that it is asked already.
                Ok(()) | Err(TrySendError::Full(())) => {}
                Err(TrySendError::Disconnected(())) => {
                    tracing::error!("the checkpoint thread is gone")
                }
            }
        }
    }

    /// Whether the log has grown so long that the writer has to work it off.
    pub(crate) fn is_pressing(&self) -> bool {
        self.pages > self.restart_at
    }

    /// Works the log off if the background does not keep up.
    pub(crate) fn keep_bounded(&mut self, connection: &Connection) {
        if !self.is_pressing() {
            return;
        }
        let done = self.checkpoint_soon(connection, "RESTART");
        if done {
            (self.pages, self.asked_at, self.restart_at) = (0, 0, self.limit);
        } else {
            (self.asked_at, self.restart_at) = (self.pages, self.pages + BACKGROUND_PAGES);
        }
    }

    /// Writes all of the log back, unless somebody reads an older state of the database: then the main
    /// file has everything. A log whose database has another file's name by now is left alone.
    pub(crate) fn empty_log(&self, connection: &Connection) {
        if self.database.gone().is_none() {
            self.checkpoint_soon(connection, "TRUNCATE");
        }
    }

    /// Leaves as little of a log as possible behind, and the thread's connection closed: the last
    /// one to close deletes the log.
    pub(crate) fn finish(self, connection: &Connection) {
        self.empty_log(connection);
        drop(self.ask);
        if self.thread.join().is_err() {
            tracing::error!("the checkpoint thread panicked");
        }
    }

    /// A checkpoint that waits for readers, but not as long as a write would. Whether it was done.
    fn checkpoint_soon(&self, connection: &Connection, mode: &str) -> bool {
        let with_timeout = |timeout| {
            if let Err(error) = connection.busy_timeout(timeout) {
                tracing::error!(%error, "the busy timeout could not be set");
            }
        };
        with_timeout(PATIENCE.min(self.database.busy_timeout));
        let done = checkpoint(connection, mode);
        with_timeout(self.database.busy_timeout);
        done
    }
}

fn work(connection: &Connection, asked: &Receiver<()>) {
    while asked.recv().is_ok() {
        checkpoint(connection, "PASSIVE");
    }
}

/// Whether it was done: it is put off if somebody reads, or checkpoints as well.
fn checkpoint(connection: &Connection, mode: &str) -> bool {
    let busy = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        row.get::<_, bool>(0)
    });
    match busy {
        Ok(busy) => !busy,
        Err(error) => {
            // The log only grows until the next one.
            tracing::debug!(%error, mode, "checkpoint put off");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(connection: &Connection) {
        let row = "INSERT INTO t VALUES (zeroblob(100000))";
        connection.execute_batch(row).expect("written");
    }

    #[test]
    fn commits_do_not_wait_for_somebody_who_reads_on_and_on() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // So long that the test would never end.
        let patience = Duration::from_secs(100_000);
        let database = Database::new(directory.path().join("a.db"), patience);
        let connection = database.open_writer(true).expect("opens");
        crate::sqlite::schema::migrate(&database, &connection).expect("a store");
        let table = "CREATE TABLE t (a)";
        connection.execute_batch(table).expect("created");
        let reader = Connection::open(&*database.path).expect("opens");
        let read = "BEGIN; SELECT count(*) FROM t";
        reader.execute_batch(read).expect("reads");

        let mut checkpoints = Checkpoints::start(&database, &connection).expect("starts");
        (checkpoints.restart_at, checkpoints.limit) = (10, 10);
        write(&connection);
        checkpoints.after_commit();
        let before = checkpoints.pages;
        assert!(checkpoints.is_pressing());
        checkpoints.keep_bounded(&connection);
        assert!(!checkpoints.is_pressing(), "it is put off");

        drop(reader);
        checkpoints.restart_at = 10;
        checkpoints.keep_bounded(&connection);
        assert_eq!(checkpoints.restart_at, 10);
        write(&connection);
        checkpoints.after_commit();
        assert!(checkpoints.pages <= before, "the log began again");
    }
}
