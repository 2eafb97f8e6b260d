//! Workflows of one step: submitted while the worker runs, and as a backlog before it starts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use abide::Engine;
use tokio::task::JoinSet;

use super::{COMPLETED, Error, Setting, expect};
use crate::floor;
use crate::home::Home;
use crate::report::Measured;
use crate::workloads::one_step;

/// Callers that start workflows at the same time.
const CALLERS: u64 = 512;

/// Starts so many from many callers; each waits for the result, or only for the start.
pub(super) async fn submit(engine: &Engine, workflows: u32, wait: bool) -> Result<(), Error> {
    let workflows = u64::from(workflows);
    submit_while(engine, move |n| n < workflows, wait).await?;
    Ok(())
}

/// Starts one after the other from many callers as long as it is so of the next one's number, which
/// counts from 0. Answers how many were started.
pub(super) async fn submit_while(
    engine: &Engine,
    go_on: impl Fn(u64) -> bool + Clone + Send + 'static,
    wait: bool,
) -> Result<u64, Error> {
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (engine, next, go_on) = (engine.clone(), next.clone(), go_on.clone());
        callers.spawn(async move {
            let mut started = 0;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if !go_on(n) {
                    return Ok::<u64, Error>(started);
                }
                let run = engine
                    .start::<one_step>(&format!("instance-{n}"), &n)
                    .await?;
                started += 1;
                if wait && run.result().await? != n + 1 {
                    return Err(format!("workflow {n} gave another result").into());
                }
            }
        });
    }
    let mut started = 0;
    while let Some(done) = callers.join_next().await {
        started += done??;
    }
    Ok(started)
}

pub(crate) async fn submitted_while_running(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let workflows = setting.scaled(100_000);
    let home = Home::new(setting).await?;
    let engine = home.builder().start().await?;
    let (before, wal_before) = (engine.store().stats(), home.wal_bytes().await?);
    let begun = Instant::now();
    submit(&engine, workflows, true).await?;
    let elapsed = begun.elapsed().as_secs_f64();
    let (after, wal_after) = (engine.store().stats(), home.wal_bytes().await?);
    engine.shutdown().await;
    engine.store().close().await;
    let completed = home.count(COMPLETED).await?;
    expect("completed executions", completed, workflows)?;
    let bytes = home.bytes().await?;
    home.remove().await?;

    let plain = Home::empty(setting).await?;
    let floor_wal_before = plain.wal_bytes().await?;
    let floor = floor::one_step_workflows_per_s(&plain, workflows).await?;
    let floor_wal_after = plain.wal_bytes().await?;
    let completed = plain.count(COMPLETED).await?;
    expect("completed executions of the floor", completed, workflows)?;
    let floor_bytes = floor::bytes(&plain).await?;
    plain.remove().await?;

    let workflows = f64::from(workflows);
    let commits = (after.commits - before.commits) as f64;
    let mut measured = vec![
        Measured::beside(
            "one_step_workflows_per_s",
            workflows / elapsed,
            "1/s",
            floor,
        ),
        Measured::beside(
            "bytes_per_workflow",
            bytes as f64 / workflows,
            "B",
            floor_bytes as f64 / workflows,
        ),
        Measured::plain(
            "commits_per_1k_workflows",
            commits * 1000.0 / workflows,
            "1",
        ),
    ];
    if let (Some(wal), Some(floor)) = (
        wal_after.zip(wal_before),
        floor_wal_after.zip(floor_wal_before),
    ) {
        let statements = (after.statements - before.statements) as f64;
        measured.push(Measured::beside(
            "wal_bytes_per_workflow",
            (wal.0 - wal.1) as f64 / workflows,
            "B",
            (floor.0 - floor.1) as f64 / workflows,
        ));
        measured.push(Measured::plain(
            "statements_per_1k_tasks",
            statements * 1000.0 / workflows,
            "1",
        ));
    }
    Ok(measured)
}

pub(crate) async fn backlog(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let workflows = setting.scaled(100_000);
    let home = Home::new(setting).await?;
    // Without a worker every start goes to the outbox.
    let client = home.builder().connect().await?;
    let begun = Instant::now();
    submit(&client, workflows, false).await?;
    client.store().close().await;
    let submitted = begun.elapsed().as_secs_f64();
    let waiting = home.count("SELECT count(*) FROM task_outbox").await?;
    expect("rows in the outbox", waiting, workflows)?;

    let begun = Instant::now();
    let engine = home.builder().start().await?;
    // The queue is first in, first out, but the last ones run side by side.
    let last = format!("instance-{}", workflows - 1);
    engine.find::<one_step>(&last).await?.result().await?;
    while home.count(COMPLETED).await? < u64::from(workflows) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let drained = begun.elapsed().as_secs_f64();
    engine.shutdown().await;
    engine.store().close().await;
    let deep_share = deep_share(&home).await?;
    home.remove().await?;

    let plain = Home::empty(setting).await?;
    let floor = floor::one_step_workflows_per_s(&plain, workflows).await?;
    plain.remove().await?;
    let workflows = f64::from(workflows);
    Ok(vec![
        Measured::beside(
            "backlog_workflows_per_s",
            workflows / (submitted + drained),
            "1/s",
            floor,
        ),
        Measured::plain("backlog_drained_per_s", workflows / drained, "1/s"),
        Measured::plain("backlog_deep_share", deep_share, "1"),
    ])
}

/// How fast the first of four parts of the ends came, when most of the queue was still there, beside
/// the last part.
async fn deep_share(home: &Home) -> Result<f64, Error> {
    let ends = home
        .numbers("SELECT closed_at FROM executions ORDER BY closed_at")
        .await?;
    let last = ends.len().checked_sub(1).ok_or("no ends")?;
    let took = |from: usize, to: usize| (ends[to] - ends[from]) as f64;
    Ok(took(last - last / 4, last) / took(0, last / 4).max(1.0))
}
