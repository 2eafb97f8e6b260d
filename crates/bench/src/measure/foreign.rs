//! A transaction of somebody else that stays open. As long as it could look at them, the server clears
//! away no row that was deleted or replaced since; a queue must not be strangled by those.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::one_step::submit_while;
use super::{COMPLETED, Error, Setting, expect};
use crate::home::{Home, Schema};
use crate::report::Measured;
use crate::role::Worker;

/// Processes that run tasks.
const WORKERS: usize = 2;

/// What the store's clock says.
const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// Workflows a second, minute by minute, beside a transaction that is open all the time.
pub(crate) async fn transaction(setting: &Setting) -> Result<Vec<Measured>, Error> {
    curve(setting, "foreign_transaction", true).await
}

/// The same without it: what a store that grows loses by itself.
pub(crate) async fn none(setting: &Setting) -> Result<Vec<Measured>, Error> {
    curve(setting, "undisturbed", false).await
}

async fn curve(setting: &Setting, name: &str, disturbed: bool) -> Result<Vec<Measured>, Error> {
    let home = Home::new(setting).await?;
    let Home::Postgres(schema) = &home else {
        return Ok(Vec::new());
    };
    let minute = Duration::from_secs(if setting.quick { 3 } else { 60 });
    let whole = minute * setting.minutes;
    // Without a worker of its own, so that every task goes through the outbox.
    let client = home.builder().connect().await?;
    let workers = Worker::start_all(WORKERS, &home.url()).await?;
    // The first minute is compared with the others, so it begins when everything is warm.
    let warm = minute / 6;
    let end = Instant::now() + warm + whole;
    let load = tokio::spawn({
        let client = client.clone();
        async move { submit_while(&client, move |_| Instant::now() < end, true).await }
    });
    tokio::time::sleep(warm).await;
    let foreign = match disturbed {
        true => Some(Foreign::begin(schema).await?),
        false => None,
    };
    let begun = home.count(NOW).await?;
    let started = load.await??;
    if let Some(foreign) = foreign {
        foreign.end().await?;
    }
    Worker::stop_all(workers).await?;
    client.store().close().await;
    expect(
        "completed executions",
        home.count(COMPLETED).await?,
        started,
    )?;
    let rates = rates(&home, begun, minute, setting.minutes).await?;
    home.remove().await?;
    Ok(figures(name, &rates))
}

/// Ends a second in each of so many minutes, by the times in the store.
async fn rates(home: &Home, begun: u64, minute: Duration, minutes: u32) -> Result<Vec<f64>, Error> {
    let minute_us = minute.as_micros();
    let end = u128::from(begun) + minute_us * u128::from(minutes);
    let number = format!("(closed_at - {begun}) / {minute_us}");
    let ends = home
        .numbers(&format!(
            "SELECT count(*) FROM executions WHERE closed_at >= {begun} AND closed_at < {end} \
             GROUP BY {number} ORDER BY {number}"
        ))
        .await?;
    expect("minutes with ends", ends.len() as u64, minutes)?;
    let per_s = |ends: &i64| *ends as f64 / minute.as_secs_f64();
    Ok(ends.iter().map(per_s).collect())
}

fn figures(name: &str, rates: &[f64]) -> Vec<Measured> {
    let first = rates.first().copied().unwrap_or_default();
    let lowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let minute = |(at, per_s): (usize, &f64)| {
        let name = format!("{name}_minute_{}_workflows_per_s", at + 1);
        Measured::plain(&name, *per_s, "1/s")
    };
    let mut figures: Vec<Measured> = rates.iter().enumerate().map(minute).collect();
    let worst = format!("{name}_worst_share");
    figures.push(Measured::plain(&worst, lowest / first, "1"));
    figures
}

/// A transaction with a snapshot and an id, in which nothing happens: a report that takes long, a shell
/// that somebody left.
struct Foreign(Client);

impl Foreign {
    async fn begin(schema: &Schema) -> Result<Foreign, Error> {
        let client = schema.connect().await?;
        let begin = "SET idle_in_transaction_session_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ; \
             SELECT pg_current_xact_id()";
        client.batch_execute(begin).await?;
        Ok(Foreign(client))
    }

    /// Fails if it was not open all the time.
    async fn end(self) -> Result<(), Error> {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = pg_backend_pid() \
             AND backend_xid IS NOT NULL AND backend_xmin IS NOT NULL";
        let held: i64 = self.0.query_one(sql, &[]).await?.try_get(0)?;
        if held != 1 {
            return Err("the foreign transaction holds no snapshot".into());
        }
        self.0.batch_execute("ROLLBACK").await?;
        Ok(())
    }
}
