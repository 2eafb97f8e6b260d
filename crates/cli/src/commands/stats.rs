//! `abide stats`.

use std::io::{self, Write};

use abide::client::Statistics;
use clap::Args;
use indicatif::BinaryBytes;

use crate::output::text::{duration, escape};
use crate::output::{Table, document};
use crate::problem::{Outcome, Problem};
use crate::session::Session;

/// Show statistics of a store: its queue, its workers, its size.
///
/// If tasks stay ready, no worker knows their workflow version, or there are too few workers. On
/// PostgreSQL, many dead rows in `task_outbox` mean that a long transaction keeps them.
#[derive(Debug, Args)]
pub(crate) struct Stats {}

impl Stats {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let client = session.open().await?;
        let record = client.statistics().await?;
        document(session.format, &record.store, &record, |out| {
            write(&record, out)
        })?;
        Ok(Outcome::Good)
    }
}

fn write(statistics: &Statistics, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "store             {}", escape(&statistics.store))?;
    writeln!(out, "size              {}", BinaryBytes(statistics.bytes))?;
    writeln!(out, "workers           {}", statistics.workers)?;
    let oldest = statistics.oldest_ready_us.map_or(String::new(), |us| {
        format!(", the oldest for {}", duration(us))
    });
    writeln!(out, "ready tasks       {}{oldest}", statistics.ready_tasks)?;
    if let Some(deadlocks) = statistics.deadlocks {
        writeln!(out, "deadlocks         {deadlocks}")?;
    }
    if let Some(us) = statistics.oldest_snapshot_us {
        writeln!(out, "oldest snapshot   {}", duration(us))?;
    }
    if !statistics.queues.is_empty() {
        writeln!(out)?;
        let mut table = Table::new(&["WORKFLOW", "VERSION", "OPEN", "READY", "OLDEST READY"]);
        for queue in &statistics.queues {
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
    if !statistics.tables.is_empty() {
        writeln!(out)?;
        let mut table = Table::new(&["TABLE", "ROWS", "DEAD ROWS", "SIZE"]);
        for row in &statistics.tables {
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
