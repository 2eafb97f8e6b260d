//! How a store fares: its queue, its size, and on PostgreSQL what the server says of its tables.

use abide_core::ids::{Timestamp, VersionId};

/// How a store fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Tasks that could be claimed, by queue; queues that are empty are left out.
    pub ready: Vec<Ready>,
    /// Bytes on disk: indexes, values kept apart and, on SQLite, the log included.
    pub bytes: u64,
    /// PostgreSQL: the store's tables, by name. The history is one table, whatever its partitions.
    pub tables: Vec<TableHealth>,
    /// PostgreSQL: deadlocks in the whole database since its statistics were reset. The store has
    /// none of its own.
    pub deadlocks: Option<u64>,
    /// PostgreSQL: age of the oldest snapshot that anybody holds in the database, in microseconds.
    /// What was deleted since then can't be cleared away.
    pub oldest_snapshot_us: Option<i64>,
}

/// Tasks of one queue that could be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The workflow version whose tasks they are.
    pub queue: VersionId,
    /// How many.
    pub tasks: u64,
    /// Since when the oldest waits.
    pub oldest_at: Option<Timestamp>,
}

/// A table as the server's statistics have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableHealth {
    /// Its name.
    pub name: String,
    /// Rows, about.
    pub live_rows: u64,
    /// Versions of rows that nobody sees any more and that vacuum has not removed yet, about. Many in
    /// `task_outbox` mean that a long transaction somewhere keeps them.
    pub dead_rows: u64,
    /// With indexes and long values.
    pub bytes: u64,
}
