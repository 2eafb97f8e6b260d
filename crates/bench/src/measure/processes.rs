//! Several processes on one store: one starts workflows, others run them.

use std::time::Duration;

use super::one_step::submit;
use super::{COMPLETED, Error, Setting, expect, percentile};
use crate::floor;
use crate::home::Home;
use crate::report::Measured;
use crate::role::Worker;
use crate::workloads::one_step;

/// Numbers of processes that run tasks.
const WORKERS: &[usize] = &[1, 2, 4, 8];
/// Quiet time before each start.
const PAUSE: Duration = Duration::from_millis(7);

/// Microseconds from `task.marked_ready` (14) to `task.started` (16) of each execution's task, by
/// the store's time: the clock of the PostgreSQL server, or the host's.
const READY_TO_RUNNING: &str = "SELECT max(at) - min(at) FROM execution_events \
     WHERE task = 1 AND type IN (14, 16) GROUP BY execution";

/// How long a task that one process makes ready waits until another runs it.
pub(crate) async fn ready_to_running(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let starts = setting.scaled(1_000);
    let home = Home::new(setting).await?;
    let client = home.builder().connect().await?;
    let worker = Worker::start(&home.url()).await?;
    for n in 0..u64::from(starts) {
        tokio::time::sleep(PAUSE).await;
        let run = client
            .start::<one_step>(&format!("instance-{n}"), &n)
            .await?;
        expect("the result", run.result().await?, n + 1)?;
    }
    worker.stop().await?;
    client.store().close().await;
    let times_us = home.numbers(READY_TO_RUNNING).await?;
    expect("tasks that ran", times_us.len() as u64, starts)?;
    home.remove().await?;
    let mut times_ms: Vec<f64> = times_us.iter().map(|us| *us as f64 / 1000.0).collect();
    let mut at = |share| percentile(&mut times_ms, share);
    Ok(vec![
        Measured::plain("ready_to_running_p50_ms", at(0.5), "ms"),
        Measured::plain("ready_to_running_p99_ms", at(0.99), "ms"),
    ])
}

/// Workflows that this process starts while others run them: from the first that was created to the
/// last that ended, by the times in the store.
pub(crate) async fn workers(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let workflows = setting.scaled(30_000);
    let plain = Home::empty(setting).await?;
    let floor = floor::one_step_workflows_per_s(&plain, workflows).await?;
    plain.remove().await?;
    let mut measured = Vec::new();
    for &workers in WORKERS {
        let per_s = shared(setting, workers, workflows).await?;
        let name = format!("workers_{workers}_workflows_per_s");
        measured.push(Measured::beside(&name, per_s, "1/s", floor));
    }
    Ok(measured)
}

async fn shared(setting: &Setting, workers: usize, workflows: u32) -> Result<f64, Error> {
    let home = Home::new(setting).await?;
    let client = home.builder().connect().await?;
    let running = Worker::start_all(workers, &home.url()).await?;
    submit(&client, workflows, true).await?;
    Worker::stop_all(running).await?;
    client.store().close().await;
    expect(
        "completed executions",
        home.count(COMPLETED).await?,
        workflows,
    )?;
    let took = "SELECT max(closed_at) - min(created_at) FROM executions";
    let took_s = home.count(took).await? as f64 / 1e6;
    home.remove().await?;
    Ok(f64::from(workflows) / took_s)
}
