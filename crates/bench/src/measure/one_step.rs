//! Workflows of one step: submitted while the worker runs, and as a backlog before it starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use abide::Engine;
use tokio::task::JoinSet;

use super::{COMPLETED, Error, Home, Setting, expect, runtime};
use crate::floor;
use crate::report::Measured;
use crate::workloads::one_step;

/// Callers that start workflows at the same time.
const CALLERS: u64 = 512;

/// Starts so many from many callers; each waits for the result, or only for the start.
async fn submit(engine: &Engine, workflows: u64, wait: bool) -> Result<(), Error> {
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS.min(workflows) {
        let (engine, next) = (engine.clone(), next.clone());
        callers.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= workflows {
                    return Ok::<_, Error>(());
                }
                let run = engine
                    .start::<one_step>(&format!("instance-{n}"), &n)
                    .await?;
                if wait && run.result().await? != n + 1 {
                    return Err(format!("workflow {n} gave another result").into());
                }
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    Ok(())
}

pub(crate) fn submitted_while_running(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let runtime = runtime()?;
    let workflows = setting.scaled(100_000);
    let home = Home::new(setting)?;
    let (elapsed, commits) = runtime.block_on(async {
        let engine = home.builder().start().await?;
        let before = engine.store().stats().commits;
        let begun = Instant::now();
        submit(&engine, workflows, true).await?;
        let elapsed = begun.elapsed().as_secs_f64();
        let commits = engine.store().stats().commits - before;
        engine.shutdown().await;
        engine.store().close().await;
        Ok::<_, Error>((elapsed, commits))
    })?;
    expect("completed executions", home.count(COMPLETED)?, workflows)?;
    let bytes = std::fs::metadata(home.path())?.len();

    let plain = Home::empty(setting, &runtime)?;
    let floor = floor::one_step_workflows_per_s(&plain.path(), i64::try_from(workflows)?)?;
    expect(
        "completed executions of the floor",
        plain.count(COMPLETED)?,
        workflows,
    )?;
    let floor_bytes = floor::bytes(&plain.path())?;
    let per = workflows as f64;
    Ok(vec![
        Measured::beside("one_step_workflows_per_s", per / elapsed, "1/s", floor),
        Measured::beside(
            "bytes_per_workflow",
            bytes as f64 / per,
            "B",
            floor_bytes as f64 / per,
        ),
        Measured::plain(
            "commits_per_1k_workflows",
            commits as f64 * 1000.0 / per,
            "1",
        ),
    ])
}

pub(crate) fn backlog(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let runtime = runtime()?;
    let workflows = setting.scaled(100_000);
    let home = Home::new(setting)?;
    let elapsed = runtime.block_on(async {
        // Without a worker every start goes to the outbox.
        let client = home.builder().connect().await?;
        let begun = Instant::now();
        submit(&client, workflows, false).await?;
        client.store().close().await;
        let submitted = begun.elapsed().as_secs_f64();
        expect(
            "rows in the outbox",
            home.count("SELECT count(*) FROM task_outbox")?,
            workflows,
        )?;

        let begun = Instant::now();
        let engine = home.builder().start().await?;
        // The queue is first in, first out, but the last few run side by side.
        for n in workflows.saturating_sub(2000)..workflows {
            engine
                .run::<one_step>(&format!("instance-{n}"))
                .await?
                .result()
                .await?;
        }
        while home.count(COMPLETED)? < workflows {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let drained = begun.elapsed().as_secs_f64();
        engine.shutdown().await;
        engine.store().close().await;
        Ok::<_, Error>(submitted + drained)
    })?;
    expect("completed executions", home.count(COMPLETED)?, workflows)?;
    let plain = Home::empty(setting, &runtime)?;
    let floor = floor::one_step_workflows_per_s(&plain.path(), i64::try_from(workflows)?)?;
    Ok(vec![Measured::beside(
        "backlog_workflows_per_s",
        workflows as f64 / elapsed,
        "1/s",
        floor,
    )])
}
