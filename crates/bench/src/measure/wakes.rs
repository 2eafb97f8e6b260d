//! Functions that sleep until the same moment.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use abide::Engine;
use tokio::task::JoinSet;

use super::{COMPLETED, Error, Setting, expect};
use crate::home::Home;
use crate::report::Measured;
use crate::workloads::sleeper;

/// The engine's default.
const SLOTS: usize = 4;
const ASLEEP: &str = "SELECT count(*) FROM timers";

pub(crate) async fn all_at_once(setting: &Setting) -> Result<Vec<Measured>, Error> {
    let sleepers = setting.scaled(20_000);
    // What a slow machine needs to put them to sleep is not known before.
    let mut lead = Duration::from_secs(1) + Duration::from_millis(u64::from(sleepers));
    loop {
        if let Some(measured) = wake(setting, sleepers, lead).await? {
            return Ok(measured);
        }
        lead *= 2;
    }
}

/// `None` if the moment came before all of them slept.
async fn wake(
    setting: &Setting,
    sleepers: u32,
    lead: Duration,
) -> Result<Option<Vec<Measured>>, Error> {
    let home = Home::new(setting).await?;
    let builder = home.builder().max_concurrent_tasks(SLOTS);
    let engine = builder.max_parked_tasks(0).start().await?;
    let moment = SystemTime::now() + lead;
    put_to_sleep(&engine, sleepers, moment).await?;
    while home.count(ASLEEP).await? < u64::from(sleepers) && SystemTime::now() < moment {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let in_time = SystemTime::now() < moment;
    let commits = engine.store().stats().commits;
    let left = moment.duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(left).await;
    let begun = Instant::now();
    while home.count(COMPLETED).await? < u64::from(sleepers) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let commits = engine.store().stats().commits - commits;
    engine.shutdown().await;
    engine.store().close().await;
    expect(
        "functions that ended",
        home.count(COMPLETED).await?,
        sleepers,
    )?;
    home.remove().await?;
    let sleepers = f64::from(sleepers);
    Ok(in_time.then(|| {
        vec![
            Measured::plain("wakes_per_s", sleepers / elapsed, "1/s"),
            Measured::plain(
                "commits_per_1k_wakes",
                commits as f64 * 1000.0 / sleepers,
                "1",
            ),
        ]
    }))
}

async fn put_to_sleep(engine: &Engine, sleepers: u32, moment: SystemTime) -> Result<(), Error> {
    const CALLERS: u32 = 64;
    let until_us = u64::try_from(moment.duration_since(UNIX_EPOCH)?.as_micros())?;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let engine = engine.clone();
        callers.spawn(async move {
            for n in (caller..sleepers).step_by(CALLERS as usize) {
                let instance = format!("sleeper-{n}");
                engine.start::<sleeper>(&instance, &until_us).await?;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    Ok(())
}
