//! An engine with nothing to do: how fast it answers, and what it costs.

use std::time::{Duration, Instant};

use abide::Engine;

use super::{COMPLETED, Error, Setting, expect, percentile};
use crate::floor;
use crate::home::Home;
use crate::report::Measured;
use crate::workloads::one_step;

/// Quiet time before each start.
const PAUSE: Duration = Duration::from_millis(3);

pub(crate) async fn start_to_done(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let starts = setting.scaled(1_000);
    let home = Home::new(setting).await?;
    let engine = home.builder().start().await?;
    let mut times_ms = Vec::new();
    for n in 0..u64::from(starts) {
        tokio::time::sleep(PAUSE).await;
        let begun = Instant::now();
        let run = engine
            .start::<one_step>(&format!("instance-{n}"), &n)
            .await?;
        expect("the result", run.result().await?, n + 1)?;
        times_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    engine.shutdown().await;
    engine.store().close().await;
    expect("completed executions", home.count(COMPLETED).await?, starts)?;
    home.remove().await?;
    let mut at = |share| percentile(&mut times_ms, share);
    // An idle start is two commits, one after the other.
    let plain = Home::empty(setting).await?;
    let floor = 2.0 * floor::commit_ms(&plain, starts).await?;
    plain.remove().await?;
    Ok(vec![
        Measured::beside("idle_start_to_done_p50_ms", at(0.5), "ms", floor),
        Measured::beside("idle_start_to_done_p99_ms", at(0.99), "ms", floor),
    ])
}

/// An engine that ran one workflow and has nothing to do since.
async fn idle_engine(home: &Home) -> Result<Engine, Error> {
    let engine = home.builder().start().await?;
    engine.start::<one_step>("warm", &1).await?.result().await?;
    Ok(engine)
}

fn watched_time(setting: &Setting) -> Duration {
    Duration::from_secs(if setting.quick { 2 } else { 30 })
}

pub(crate) async fn cpu(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let home = Home::new(setting).await?;
    let engine = idle_engine(&home).await?;
    let (before, begun) = (cpu_s()?, Instant::now());
    tokio::time::sleep(watched_time(setting)).await;
    let pct = (cpu_s()? - before) / begun.elapsed().as_secs_f64() * 100.0;
    engine.shutdown().await;
    engine.store().close().await;
    home.remove().await?;
    Ok(vec![Measured::plain("idle_cpu_pct", pct, "%")])
}

/// Statements that an idle engine sends to a PostgreSQL server.
pub(crate) async fn queries(setting: &Setting) -> Result<Vec<Measured>, Error> {
    if setting.postgres.is_none() {
        return Ok(Vec::new());
    }
    let home = Home::new(setting).await?;
    let engine = idle_engine(&home).await?;
    // What the start made ready to be looked at is looked at.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (before, begun) = (engine.store().stats().statements, Instant::now());
    tokio::time::sleep(watched_time(setting)).await;
    let statements = engine.store().stats().statements - before;
    let per_s = statements as f64 / begun.elapsed().as_secs_f64();
    engine.shutdown().await;
    engine.store().close().await;
    home.remove().await?;
    Ok(vec![Measured::plain("idle_queries_per_s", per_s, "1/s")])
}

/// Seconds of processor time this process took, in nanosecond grains.
fn cpu_s() -> Result<f64, Error> {
    let mut nanoseconds = 0u64;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let running = text.split_whitespace().next().ok_or("an empty schedstat")?;
        nanoseconds += running.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}
