//! Durable functions: recorded steps, one after the other.

use std::time::Instant;

use tokio::task::JoinSet;

use super::{Error, Home, Setting, expect, runtime};
use crate::floor;
use crate::report::Measured;
use crate::workloads::function;

const FUNCTIONS: u64 = 100;
const DONE: &str = "SELECT count(*) FROM steps WHERE state = 'done'";

/// Runs so many functions of so many steps side by side; answers how long that took.
fn run(setting: &Setting, functions: u64, steps: u64) -> Result<f64, Error> {
    let runtime = runtime()?;
    let home = Home::new(setting)?;
    let elapsed = runtime.block_on(async {
        let engine = home.builder().start().await?;
        let begun = Instant::now();
        let mut running = JoinSet::new();
        for n in 0..functions {
            let engine = engine.clone();
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
        Ok::<_, Error>(elapsed)
    })?;
    expect("recorded steps", home.count(DONE)?, functions * steps)?;
    Ok(elapsed)
}

pub(crate) fn one(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let steps = setting.scaled(5_000);
    let step_ms = run(setting, 1, steps)? * 1000.0 / steps as f64;
    let plain = Home::empty(setting, &runtime()?)?;
    let floor = floor::function_step_ms(&plain.path(), u32::try_from(steps)?)?;
    Ok(vec![Measured::beside(
        "function_step_ms",
        step_ms,
        "ms",
        floor,
    )])
}

pub(crate) fn many(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let steps = setting.scaled(500);
    let total = FUNCTIONS * steps;
    let per_s = total as f64 / run(setting, FUNCTIONS, steps)?;
    let plain = Home::empty(setting, &runtime()?)?;
    let floor =
        floor::functions_steps_per_s(&plain.path(), FUNCTIONS as u32, u32::try_from(steps)?)?;
    Ok(vec![Measured::beside(
        "functions_steps_per_s",
        per_s,
        "1/s",
        floor,
    )])
}
