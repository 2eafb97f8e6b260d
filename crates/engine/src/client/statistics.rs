//! Statistics of a store.

use abide_core::ids::Timestamp;
use abide_store::{Health, Store, StoreError, VersionInfo};
use serde::Serialize;

/// Statistics of a store: its queue, its workers, its size.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Statistics {
    /// The store's name.
    pub store: String,
    /// Bytes on disk, including indexes and the log.
    pub bytes: u64,
    /// How many workers are alive.
    pub workers: usize,
    /// Tasks that could be claimed.
    pub ready_tasks: u64,
    /// For how long the oldest of them has been ready.
    pub oldest_ready_us: Option<i64>,
    /// The workflow versions that have open executions or ready tasks.
    pub queues: Vec<QueueStatistics>,
    /// Only PostgreSQL counts the rows of its tables and the following values.
    pub tables: Vec<TableStatistics>,
    /// Deadlocks in the whole database since its statistics were reset.
    pub deadlocks: Option<u64>,
    /// Age of the oldest open snapshot in the database.
    pub oldest_snapshot_us: Option<i64>,
}

/// The open executions of a workflow version, and how many of its tasks can be claimed.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct QueueStatistics {
    /// The workflow's name.
    pub workflow: String,
    /// Its version.
    pub version: String,
    /// Executions that have not ended.
    pub open_executions: u32,
    /// Tasks that could be claimed.
    pub ready_tasks: u64,
    /// For how long the oldest of them has been ready.
    pub oldest_ready_us: Option<i64>,
}

/// A table in the server's statistics.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TableStatistics {
    /// Its name.
    pub table: String,
    /// The approximate number of rows.
    pub rows: u64,
    /// The approximate number of dead rows that are not cleared away yet.
    pub dead_rows: u64,
    /// Bytes, including indexes and long values.
    pub bytes: u64,
}

impl Statistics {
    pub(super) async fn read(store: &Store) -> Result<Statistics, StoreError> {
        let (health, versions) = (store.health().await?, store.versions().await?);
        let workers = match store.has_workers().await? {
            true => store.live_workers().await?.len(),
            false => 0,
        };
        let age = |at: Option<Timestamp>| at.map(|at| store.now().since_us(at));
        let oldest = health
            .ready
            .iter()
            .filter_map(|ready| ready.oldest_at)
            .min();
        let queues = versions
            .into_iter()
            .map(|version| queue(version, &health, age));
        Ok(Statistics {
            store: store.name(),
            bytes: health.bytes,
            workers,
            ready_tasks: health.ready.iter().map(|ready| ready.tasks).sum(),
            oldest_ready_us: age(oldest),
            queues: queues
                .filter(|queue| queue.open_executions > 0 || queue.ready_tasks > 0)
                .collect(),
            tables: health
                .tables
                .iter()
                .map(|table| TableStatistics {
                    table: table.name.clone(),
                    rows: table.live_rows,
                    dead_rows: table.dead_rows,
                    bytes: table.bytes,
                })
                .collect(),
            deadlocks: health.deadlocks,
            oldest_snapshot_us: health.oldest_snapshot_us,
        })
    }
}

fn queue(
    version: VersionInfo,
    health: &Health,
    age: impl Fn(Option<Timestamp>) -> Option<i64>,
) -> QueueStatistics {
    let ready = health.ready.iter().find(|ready| ready.queue == version.id);
    QueueStatistics {
        workflow: version.name,
        version: version.version,
        open_executions: version.open_executions,
        ready_tasks: ready.map_or(0, |ready| ready.tasks),
        oldest_ready_us: age(ready.and_then(|ready| ready.oldest_at)),
    }
}
