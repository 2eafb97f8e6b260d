//! What the killed processes run: a graph that uses every feature, and a durable function. Each body leaves a
//! line in a file, so that it can be told afterwards how often it ran.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use abide::{Context, Input, Output, Outputs, State, TaskError, TaskHandle, task, workflow};
use serde_json::{Map, Value, json};

/// Where bodies leave their lines.
#[derive(Clone)]
pub(crate) struct Log(PathBuf);

impl Log {
    pub(crate) fn at(path: &Path) -> Log {
        Log(path.to_owned())
    }

    /// A body begins: `instance node`, and for a step its name.
    pub(crate) fn begin(&self, what: &str) {
        let file = OpenOptions::new().create(true).append(true).open(&self.0);
        let line = format!("{what}\n");
        // One write, so that lines of several threads don't mix and none is half written.
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the log can be written");
    }

    pub(crate) fn task(&self, handle: &TaskHandle) {
        self.begin(&format!("{} {}", handle.instance(), handle.node_id()));
    }

    pub(crate) fn step(&self, handle: &TaskHandle, step: &str) {
        self.begin(&format!(
            "{} {} {step}",
            handle.instance(),
            handle.node_id()
        ));
    }
}

fn broken(what: &str) -> TaskError {
    TaskError::fatal(std::io::Error::other(what.to_owned()))
}

#[workflow(output = report)]
pub(crate) mod features {
    /// Gives an output and begins the context.
    #[task]
    pub(crate) async fn seed(
        context: &mut Context<Value>,
        handle: &TaskHandle,
        log: State<Log>,
    ) -> Result<u32, TaskError> {
        log.task(handle);
        context.insert("seed", 7)?;
        Ok(7)
    }

    /// Fails at its first attempt.
    #[task(retries = 5, backoff = fixed("25ms"))]
    pub(crate) async fn flaky(
        seed: Output<seed>,
        context: &mut Context<Value>,
        handle: &TaskHandle,
        log: State<Log>,
    ) -> Result<u32, TaskError> {
        log.task(handle);
        context.insert("flaky", true)?;
        match handle.attempt() {
            1 => Err(std::io::Error::other("not yet").into()),
            _ => Ok(*seed + 1),
        }
    }

    /// Runs out of active time at its first attempt.
    #[task(dependencies = [seed], retries = 5, backoff = fixed("1ms"), timeout = "40ms")]
    pub(crate) async fn slow(handle: &TaskHandle, log: State<Log>) -> Result<u32, TaskError> {
        log.task(handle);
        if handle.attempt() == 1 {
            std::future::pending::<()>().await;
        }
        Ok(3)
    }

    /// Fails for good.
    #[task(dependencies = [seed])]
    pub(crate) async fn broken(handle: &TaskHandle, log: State<Log>) -> Result<u32, TaskError> {
        log.task(handle);
        Err(super::broken("on purpose"))
    }

    /// Catches that.
    #[task(dependencies = [broken], trigger = failed(broken))]
    pub(crate) async fn rescue(
        context: &mut Context<Value>,
        handle: &TaskHandle,
        log: State<Log>,
    ) -> Result<u32, TaskError> {
        log.task(handle);
        context.insert("rescued", true)?;
        Ok(5)
    }

    /// Is skipped, since what it needs failed.
    #[task]
    pub(crate) async fn unwanted(value: Output<broken>, log: State<Log>) -> Result<u32, TaskError> {
        log.begin("unwanted");
        Ok(*value)
    }

    /// And so is what comes after it.
    #[task]
    pub(crate) async fn unheard(
        value: Output<unwanted>,
        log: State<Log>,
    ) -> Result<u32, TaskError> {
        log.begin("unheard");
        Ok(*value)
    }

    /// Waits without a slot.
    #[task(dependencies = [seed])]
    pub(crate) async fn marker(handle: &TaskHandle, log: State<Log>) -> Result<u32, TaskError> {
        log.task(handle);
        let mut looks = 0;
        let met = || {
            looks += 1;
            looks > 3
        };
        handle.defer_until(met, Duration::from_millis(10)).await?;
        Ok(2)
    }

    /// As many nodes as the start asks for.
    #[task]
    pub(crate) async fn part(
        Input(number): Input<u32>,
        handle: &TaskHandle,
        log: State<Log>,
    ) -> Result<u32, TaskError> {
        log.task(handle);
        Ok(number * 10)
    }

    /// Sees everything.
    #[task(
        dependencies = [marker, rescue, unheard, slow],
        trigger = all(success(part), success(marker), success(slow), success(flaky), skipped(unheard), context("rescued") == true),
    )]
    pub(crate) async fn report(
        parts: Outputs<part>,
        flaky: Output<flaky>,
        context: &mut Context<Value>,
        handle: &TaskHandle,
        log: State<Log>,
    ) -> Result<Value, TaskError> {
        log.task(handle);
        let parts: u32 = parts.values().sum();
        let context: Map<String, Value> = context
            .iter()
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .collect();
        Ok(json!({ "parts": parts, "flaky": *flaky, "context": context }))
    }
}

pub(crate) fn features_result() -> Value {
    let context = json!({ "flaky": true, "rescued": true, "seed": 7 });
    json!({ "parts": 30, "flaky": 8, "context": context })
}

/// Steps, a sleep, a signal, and branches.
#[workflow]
pub(crate) async fn errand(
    handle: &TaskHandle,
    amount: u32,
    log: State<Log>,
) -> Result<Value, TaskError> {
    log.task(handle);
    let step = |name: &'static str, value: u32| {
        let (log, own) = (log.clone(), handle.clone());
        handle.step(name, async move || {
            log.step(&own, name);
            Ok::<_, TaskError>(value)
        })
    };
    let first = step("first", amount + 1).await?;
    handle.sleep(Duration::from_millis(20)).await?;
    let (left, right) = tokio::join!(step("left", first * 2), step("right", first * 3));
    let word: String = handle.signal("go").await?;
    let last = step("last", left? + right?).await?;
    Ok(json!({ "sum": last, "word": word }))
}

pub(crate) fn errand_result() -> Value {
    json!({ "sum": 55, "word": "onwards" })
}
