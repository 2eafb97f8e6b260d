//! Durable functions: recorded steps, one after the other.

use std::time::Instant;

use tokio::task::JoinSet;

use super::{Error, Setting, expect};
use crate::floor;
use crate::home::Home;
use crate::report::Measured;
use crate::workloads::function;

const FUNCTIONS: u32 = 100;
const DONE: &str = "SELECT count(*) FROM steps WHERE state = 'done'";

/// Runs so many functions of so many steps side by side; answers how long that took.
async fn run(setting: &Setting, functions: u32, steps: u32) -> Result<f64, Error> {
    let home = Home::new(setting).await?;
    let engine = home.builder().start().await?;
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for n in 0..functions {
        let engine = engine.clone();
        let steps = u64::from(steps);
        running.spawn(async move {
            let run = engine
                .start::<function>(&format!("function-{n}"), &steps)
                .await?;
            expect("the sum", run.result().await?, steps * (steps - 1) / 2)
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    let elapsed = begun.elapsed().as_secs_f64();
    engine.shutdown().await;
    engine.store().close().await;
    expect("recorded steps", home.count(DONE).await?, functions * steps)?;
    home.remove().await?;
    Ok(elapsed)
}

pub(crate) async fn one(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let steps = setting.scaled(5_000);
    let step_ms = run(setting, 1, steps).await? * 1000.0 / f64::from(steps);
    let plain = Home::empty(setting).await?;
    let floor = floor::function_step_ms(&plain, steps).await?;
    plain.remove().await?;
    Ok(vec![Measured::beside(
        "function_step_ms",
        step_ms,
        "ms",
        floor,
    )])
}

pub(crate) async fn many(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let steps = setting.scaled(500);
    let per_s = f64::from(FUNCTIONS * steps) / run(setting, FUNCTIONS, steps).await?;
    let plain = Home::empty(setting).await?;
    let floor = floor::functions_steps_per_s(&plain, FUNCTIONS, steps).await?;
    plain.remove().await?;
    Ok(vec![Measured::beside(
        "functions_steps_per_s",
        per_s,
        "1/s",
        floor,
    )])
}
