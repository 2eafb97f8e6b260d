//! `abide stats`.

use std::io::{self, Write};

use abide_core::ids::Timestamp;
use abide_store::{Health, Store, VersionInfo};
use clap::Args;
use indicatif::BinaryBytes;
use serde::Serialize;

use crate::output::text::duration;
use crate::output::{Table, document};
use crate::problem::{Outcome, Problem};
use crate::session::Session;

/// Show how a store fares: its queue, its workers, its size.
///
/// Tasks that are ready and nobody claims have no worker that knows their workflow's version, or too
/// few. On PostgreSQL, many dead rows in `task_outbox` mean that a long transaction keeps them.
#[derive(Debug, Args)]
pub(crate) struct Stats {}

#[derive(Debug, Serialize)]
struct StatsRecord {
    store: String,
    bytes: u64,
    workers: usize,
    ready_tasks: u64,
    oldest_ready_us: Option<i64>,
    queues: Vec<QueueRecord>,
    /// PostgreSQL alone counts the rows of its tables, and what follows.
    tables: Vec<TableRecord>,
    deadlocks: Option<u64>,
    oldest_snapshot_us: Option<i64>,
}

/// What a workflow version has open, and how much of it is ready to be claimed.
#[derive(Debug, Serialize)]
struct QueueRecord {
    workflow: String,
    version: String,
    open_executions: u32,
    ready_tasks: u64,
    oldest_ready_us: Option<i64>,
}

#[derive(Debug, Serialize)]
struct TableRecord {
    table: String,
    rows: u64,
    dead_rows: u64,
    bytes: u64,
}

impl Stats {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let store = session.open().await?;
        let record = StatsRecord::read(store).await?;
        document(session.format, &record.store, &record, |out| {
            record.write(out)
        })?;
        Ok(Outcome::Good)
    }
}

impl StatsRecord {
    async fn read(store: &Store) -> Result<StatsRecord, Problem> {
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
        Ok(StatsRecord {
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
                .map(|table| TableRecord {
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

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "store             {}", self.store)?;
        writeln!(out, "size              {}", BinaryBytes(self.bytes))?;
        writeln!(out, "workers           {}", self.workers)?;
        let oldest = self.oldest_ready_us.map_or(String::new(), |us| {
            format!(", the oldest for {}", duration(us))
        });
        writeln!(out, "ready tasks       {}{oldest}", self.ready_tasks)?;
        if let Some(deadlocks) = self.deadlocks {
            writeln!(out, "deadlocks         {deadlocks}")?;
        }
        if let Some(us) = self.oldest_snapshot_us {
            writeln!(out, "oldest snapshot   {}", duration(us))?;
        }
        if !self.queues.is_empty() {
            writeln!(out)?;
            let mut table = Table::new(&["WORKFLOW", "VERSION", "OPEN", "READY", "OLDEST READY"]);
            for queue in &self.queues {
                let oldest = queue.oldest_ready_us.map_or("-".to_owned(), duration);
                let cells = [
                    queue.workflow.clone(),
                    queue.version.clone(),
                    queue.open_executions.to_string(),
                    queue.ready_tasks.to_string(),
                    oldest,
                ];
                table.push(cells.into_iter().map(Into::into).collect(), out)?;
            }
            table.flush(out)?;
        }
        if !self.tables.is_empty() {
            writeln!(out)?;
            let mut table = Table::new(&["TABLE", "ROWS", "DEAD ROWS", "SIZE"]);
            for row in &self.tables {
                let cells = [
                    row.table.clone(),
                    row.rows.to_string(),
                    row.dead_rows.to_string(),
                    BinaryBytes(row.bytes).to_string(),
                ];
                table.push(cells.into_iter().map(Into::into).collect(), out)?;
            }
            table.flush(out)?;
        }
        Ok(())
    }
}

fn queue(
    version: VersionInfo,
    health: &Health,
    age: impl Fn(Option<Timestamp>) -> Option<i64>,
) -> QueueRecord {
    let ready = health.ready.iter().find(|ready| ready.queue == version.id);
    QueueRecord {
        workflow: version.name,
        version: version.version,
        open_executions: version.open_executions,
        ready_tasks: ready.map_or(0, |ready| ready.tasks),
        oldest_ready_us: age(ready.and_then(|ready| ready.oldest_at)),
    }
}
