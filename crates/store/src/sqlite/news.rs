//! What other processes may have brought: looked for when they say so. Reads only, so that who is
//! told in vain keeps nobody from writing.

use abide_core::ids::{ExecutionId, Timestamp};
use rusqlite::Connection;

use crate::error::StoreError;

use super::rows::rows;
use super::{Sqlite, writer};

type Read<T> = rusqlite::Result<T>;

impl Sqlite {
    /// Tells whoever waits for an end if the file is gone: nobody can write that end any more.
    pub(super) fn look_for_file(&self) {
        if let Err(error) = self.database.require_same_file(false) {
            self.hints.lose(error);
        }
    }

    /// Tells this process's worker, and callers that wait for an end, about an error after which nothing more can
    /// be written.
    pub(super) fn lose_if_for_good(&self, error: &StoreError) {
        if error.is_for_good() {
            self.hints.lose(error.clone());
        }
    }

    /// Another process changed something: everybody looks.
    pub(super) fn look_around(&self) {
        let look = |connection: &Connection| {
            let found = (has_work(connection)?, writer::next_due(connection)?);
            Ok(found)
        };
        let looked = self.read(|reader| {
            let looked: Read<_> = look(reader.connection);
            looked.map_err(|error| self.database.error(error, false))
        });
        let (work, due) = looked.unwrap_or_else(|error| {
            tracing::warn!(%error, "can't tell what other processes wrote");
            (true, Some(Timestamp(0)))
        });
        if let Some(due) = due {
            self.hints.timer_set(due);
        }
        if work {
            self.hints.work.notify_one();
        }
        self.hints.changed.notify_waiters();
        let watched = self.hints.watched();
        if watched.is_empty() {
            return;
        }
        match self.ended_of(&watched) {
            Ok(ended) => ended.into_iter().for_each(|id| self.hints.ended(id)),
            Err(error) => tracing::warn!(%error, "cannot look which executions have ended"),
        }
    }

    fn ended_of(&self, ids: &[ExecutionId]) -> Result<Vec<ExecutionId>, StoreError> {
        let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        let ids = serde_json::Value::from(ids).to_string();
        let sql = "SELECT id FROM executions WHERE id IN (SELECT value FROM json_each(?1)) \
             AND closed_at IS NOT NULL AND generation IS NOT NULL";
        self.read(|reader| {
            let ended = rows(reader.connection, sql, [ids]);
            ended.map_err(|error| self.database.error(error, false))
        })
    }
}

/// Whether the outbox has anything, for anyone.
fn has_work(connection: &Connection) -> Read<bool> {
    connection
        .prepare_cached("SELECT 1 FROM task_outbox LIMIT 1")?
        .exists([])
}
