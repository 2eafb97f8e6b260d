//! An engine with nothing to do: how fast it answers, and what it costs.

use std::time::{Duration, Instant};

use super::{COMPLETED, Error, Home, Setting, expect, runtime};
use crate::floor;
use crate::report::Measured;
use crate::workloads::one_step;

/// Quiet time before each start.
const PAUSE: Duration = Duration::from_millis(3);

pub(crate) fn start_to_done(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let runtime = runtime()?;
    let starts = setting.scaled(1_000);
    let home = Home::new(setting)?;
    let mut times_ms = runtime.block_on(async {
        let engine = home.builder().start().await?;
        let mut times_ms = Vec::new();
        for n in 0..starts {
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
        Ok::<_, Error>(times_ms)
    })?;
    expect("completed executions", home.count(COMPLETED)?, starts)?;
    times_ms.sort_by(f64::total_cmp);
    let at = |share: f64| times_ms[((times_ms.len() - 1) as f64 * share) as usize];
    // An idle start is two commits, one after the other.
    let plain = Home::empty(setting, &runtime)?;
    let floor = 2.0 * floor::commit_ms(&plain.path(), u32::try_from(starts)?)?;
    Ok(vec![
        Measured::beside("idle_start_to_done_p50_ms", at(0.5), "ms", floor),
        Measured::beside("idle_start_to_done_p99_ms", at(0.99), "ms", floor),
    ])
}

pub(crate) fn cpu(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let runtime = runtime()?;
    let home = Home::new(setting)?;
    let pct = runtime.block_on(async {
        let engine = home.builder().start().await?;
        engine.start::<one_step>("warm", &1).await?.result().await?;
        let wait = Duration::from_secs(if setting.quick { 2 } else { 30 });
        let (before, begun) = (cpu_s()?, Instant::now());
        tokio::time::sleep(wait).await;
        let pct = (cpu_s()? - before) / begun.elapsed().as_secs_f64() * 100.0;
        engine.shutdown().await;
        engine.store().close().await;
        Ok::<_, Error>(pct)
    })?;
    Ok(vec![Measured::plain("idle_cpu_pct", pct, "%")])
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
