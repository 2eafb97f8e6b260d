//! Chains and fans.

use std::time::Instant;

use abide::{Engine, GraphOf};
use tokio::task::JoinSet;

use super::{Error, Setting, expect, percentile};
use crate::floor;
use crate::home::Home;
use crate::report::Measured;
use crate::workloads::{chain as chained, fanout as fanned};

const LINKS: u32 = 100;
const CHAINS: u32 = 100;
const DONE: &str = "SELECT count(*) FROM task_executions WHERE status = 'Completed'";

fn links() -> GraphOf<chained::Workflow> {
    let mut graph = chained::graph();
    for n in 1..=LINKS {
        graph = graph.node::<chained::link>(format!("link-{n}"), &n);
        if n > 1 {
            graph = graph.edge(format!("link-{}", n - 1), format!("link-{n}"));
        }
    }
    graph
}

async fn run_chain(engine: &Engine, instance: &str) -> Result<(), Error> {
    engine
        .start_graph::<chained::Workflow>(instance, links())
        .await?
        .result()
        .await?;
    Ok(())
}

pub(crate) async fn chain(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let rounds = setting.scaled(500).min(20);
    let home = Home::new(setting).await?;
    let engine = home.builder().start().await?;
    let mut steps_ms = Vec::new();
    for round in 0..rounds {
        let begun = Instant::now();
        run_chain(&engine, &format!("chain-{round}")).await?;
        steps_ms.push(begun.elapsed().as_secs_f64() * 1000.0 / f64::from(LINKS));
    }
    engine.shutdown().await;
    engine.store().close().await;
    expect("completed tasks", home.count(DONE).await?, rounds * LINKS)?;
    home.remove().await?;
    let plain = Home::empty(setting).await?;
    let floor = floor::chain_step_ms(&plain, LINKS * rounds).await?;
    plain.remove().await?;
    let median = percentile(&mut steps_ms, 0.5);
    Ok(vec![Measured::beside("chain_step_ms", median, "ms", floor)])
}

pub(crate) async fn chains(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let rounds = if setting.quick { 1 } else { 5 };
    let home = Home::new(setting).await?;
    let engine = home.builder().start().await?;
    let begun = Instant::now();
    for round in 0..rounds {
        let mut running = JoinSet::new();
        for n in 0..CHAINS {
            let engine = engine.clone();
            running.spawn(async move { run_chain(&engine, &format!("chain-{round}-{n}")).await });
        }
        while let Some(done) = running.join_next().await {
            done??;
        }
    }
    let elapsed = begun.elapsed().as_secs_f64();
    engine.shutdown().await;
    engine.store().close().await;
    let steps = rounds * CHAINS * LINKS;
    expect("completed tasks", home.count(DONE).await?, steps)?;
    home.remove().await?;
    let plain = Home::empty(setting).await?;
    let floor = floor::chains_steps_per_s(&plain, CHAINS, LINKS * rounds).await?;
    plain.remove().await?;
    Ok(vec![Measured::beside(
        "chains_steps_per_s",
        f64::from(steps) / elapsed,
        "1/s",
        floor,
    )])
}

pub(crate) async fn fanout(
    setting: &Setting,
    name: &str,
    width: u32,
) -> Result<Vec<Measured>, Error> {
    let width = if setting.quick {
        width.min(1_000)
    } else {
        width
    };
    let home = Home::new(setting).await?;
    let engine = home.builder().start().await?;
    let begun = Instant::now();
    let parts = u64::from(width);
    let mut graph = fanned::graph();
    for n in 1..=parts {
        graph = graph.node::<fanned::part>(format!("part-{n}"), &n);
    }
    let run = engine.start_graph::<fanned::Workflow>("fan", graph).await?;
    expect("the sum", run.result().await?, parts * (parts + 1) / 2)?;
    let elapsed = begun.elapsed().as_secs_f64();
    engine.shutdown().await;
    engine.store().close().await;
    expect("completed tasks", home.count(DONE).await?, width + 2)?;
    home.remove().await?;
    let plain = Home::empty(setting).await?;
    let floor = floor::fanout_s(&plain, width).await?;
    plain.remove().await?;
    Ok(vec![Measured::beside(name, elapsed, "s", floor)])
}

/// The most nodes that a graph may have, and the most memory the process then took.
pub(crate) async fn largest_fanout(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let mut measured = fanout(setting, "fanout_100k_s", 99_998).await?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak
        .and_then(|text| text.trim().strip_suffix(" kB"))
        .ok_or("the system does not say VmHWM")?;
    let megabytes = peak.trim().parse::<f64>()? / 1024.0;
    measured.push(Measured::plain("fanout_100k_rss_mb", megabytes, "MB"));
    Ok(measured)
}
