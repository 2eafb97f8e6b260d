//! How the queue stands and how the server fares with the store's tables.

use abide_core::ids::{Timestamp, VersionId};

use crate::error::StoreError;
use crate::rows::Columns;

use super::rows::{Cells, Read};
use super::statement::{Execute, Row, Statement};

/// Rows that wait to be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueDepth {
    /// The workflow version whose tasks they are.
    pub(crate) queue: VersionId,
    /// How many.
    pub(crate) ready: u64,
    /// Since when the oldest waits.
    pub(crate) oldest_ready_at: Option<Timestamp>,
}

/// A table as the server's statistics have it. History is one table here, whatever its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableStats {
    /// Its name.
    pub(crate) name: String,
    /// Rows, about.
    pub(crate) live_rows: u64,
    /// Versions of rows that nobody sees any more and that vacuum has not removed yet, about. Many
    /// in `task_outbox` mean that a long transaction somewhere keeps them.
    pub(crate) dead_rows: u64,
    /// With indexes and long values.
    pub(crate) bytes: u64,
}

/// What the server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerStats {
    /// The queues that are not empty.
    pub(crate) queues: Vec<QueueDepth>,
    /// The store's tables, by name.
    pub(crate) tables: Vec<TableStats>,
    /// Deadlocks in the whole database since its statistics were reset. Abide has none of its own.
    pub(crate) deadlocks: u64,
    /// Age of the oldest snapshot that anybody holds in the database, in microseconds.
    pub(crate) oldest_snapshot_us: Option<i64>,
}

/// Asks the server. Counts the outbox, which is as long as the queue is.
pub(crate) async fn server_stats(execute: &impl Execute) -> Result<ServerStats, StoreError> {
    let plain = |sql| Statement::new(sql, Vec::new());
    let statements = vec![
        plain(
            "SELECT queue, count(*), min(ready_at) FROM ~task_outbox WHERE worker = 0 GROUP BY queue ORDER BY queue",
        ),
        // The table `store` tells the schema, whose name need not be quoted as a text this way.
        plain(
            "SELECT r.relname::text, sum(s.n_live_tup)::bigint, sum(s.n_dead_tup)::bigint, \
             sum(pg_total_relation_size(c.oid))::bigint \
             FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid \
             JOIN pg_class r ON r.oid = coalesce(pg_partition_root(c.oid), c.oid) \
             WHERE c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = (SELECT tableoid FROM ~store)) \
             GROUP BY r.relname ORDER BY r.relname",
        ),
        plain(
            "SELECT coalesce(max(deadlocks), 0) FROM pg_stat_database WHERE datname = current_database()",
        ),
        plain(
            "SELECT (extract(epoch FROM max(clock_timestamp() - xact_start)) * 1000000)::bigint \
             FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
             AND backend_xmin IS NOT NULL",
        ),
    ];
    let mut answers = execute.run(statements).await?.into_iter();
    let mut next = || answers.next().unwrap_or_default();
    let mut stats = || -> Read<ServerStats> {
        Ok(ServerStats {
            queues: read(next(), queue)?,
            tables: read(next(), table)?,
            deadlocks: read(next(), Cells::int)?.pop().unwrap_or(0),
            oldest_snapshot_us: read(next(), Cells::int_option)?.pop().flatten(),
        })
    };
    stats().map_err(|error| error.of("the server's statistics"))
}

fn read<T>(rows: Vec<Row>, read: fn(&mut Cells) -> Read<T>) -> Read<Vec<T>> {
    rows.into_iter()
        .map(|row| read(&mut Cells::new(row)))
        .collect()
}

fn queue(cells: &mut Cells) -> Read<QueueDepth> {
    Ok(QueueDepth {
        queue: VersionId(cells.int()?),
        ready: cells.int()?,
        oldest_ready_at: cells.time_option()?,
    })
}

fn table(cells: &mut Cells) -> Read<TableStats> {
    Ok(TableStats {
        name: cells.text()?,
        live_rows: cells.int()?,
        dead_rows: cells.int()?,
        bytes: cells.int()?,
    })
}
