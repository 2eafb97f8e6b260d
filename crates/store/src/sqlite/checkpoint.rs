//! Checkpoints: pages go from the write-ahead log back into the main file on a thread and a
//! connection of their own, apart from commits. Only when that cannot keep up does the writer
//! itself do it.

use std::cell::Cell;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use rusqlite::Connection;

use crate::error::StoreError;

use super::connection::Database;

/// So many pages more than when it was last asked for, and the background works the log off.
const BACKGROUND_PAGES: i32 = 2_000;
/// A log of so many pages is worked off by the writer, so that it stays bounded.
const WRITER_PAGES: i32 = 32_000;

thread_local! {
    /// Pages in the log after this thread's last commit. SQLite's hook takes no closure.
    static LOG_PAGES: Cell<i32> = const { Cell::new(0) };
}

pub(crate) struct Checkpoints {
    ask: SyncSender<()>,
    asked_at: i32,
}

impl Checkpoints {
    /// Starts the thread.
    pub(crate) fn start(database: &Database) -> Result<Checkpoints, StoreError> {
        // The connection checkpoints, which a query_only one may not.
        let connection = database.open_writer(false)?;
        let (ask, asked) = sync_channel(1);
        std::thread::Builder::new()
            .name("abide-checkpoint".into())
            .spawn(move || work(&connection, &asked))
            .map_err(|error| StoreError::Internal(format!("no thread for checkpoints: {error}")))?;
        Ok(Checkpoints { ask, asked_at: 0 })
    }

    /// Counts the pages that commits on this connection, by this thread, leave in the log.
    pub(crate) fn count_pages(&self, connection: &Connection) {
        connection.wal_hook(Some(|_, pages| {
            LOG_PAGES.set(pages);
            Ok(())
        }));
    }

    /// Looks at the log after a commit.
    pub(crate) fn after_commit(&mut self, connection: &Connection) {
        let pages = LOG_PAGES.get();
        if pages < self.asked_at {
            // The log began again from its start.
            self.asked_at = 0;
        }
        if pages > WRITER_PAGES {
            checkpoint(connection, "RESTART");
            LOG_PAGES.set(0);
        } else if pages > self.asked_at + BACKGROUND_PAGES {
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

    /// Leaves as little of a log as possible behind.
    pub(crate) fn finish(&self, connection: &Connection) {
        checkpoint(connection, "TRUNCATE");
    }
}

fn work(connection: &Connection, asked: &Receiver<()>) {
    while asked.recv().is_ok() {
        checkpoint(connection, "PASSIVE");
    }
}

fn checkpoint(connection: &Connection, mode: &str) {
    let done = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
    if let Err(error) = done {
        // The log only grows until the next one.
        tracing::debug!(%error, mode, "checkpoint put off");
    }
}
