//! What the processes run. Each body leaves a line in a file, so that it can be told afterwards how often it ran.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use abide::{Input, Output, State, TaskError, TaskHandle, task, workflow};
use serde::{Deserialize, Serialize};

/// Where bodies leave their lines.
#[derive(Clone)]
pub(crate) struct Log(PathBuf);

impl Log {
    pub(crate) fn at(path: &Path) -> Log {
        Log(path.to_owned())
    }

    /// A body begins: `instance node`, and for a step its name.
    fn begin(&self, what: &str) {
        let file = OpenOptions::new().create(true).append(true).open(&self.0);
        let line = format!("{what}\n");
        // One write, so that lines of several processes don't mix and none is half written.
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("the log can be written");
    }

    fn task(&self, handle: &TaskHandle) {
        self.begin(&format!("{} {}", handle.instance(), handle.node_id()));
    }

    fn step(&self, handle: &TaskHandle, step: &str) {
        let (instance, node) = (handle.instance(), handle.node_id());
        self.begin(&format!("{instance} {node} {step}"));
    }

    /// The file for which a `gated` waits.
    pub(crate) fn gate(&self) -> PathBuf {
        self.0.with_extension("gate")
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// What an execution is about, and how it must end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) number: u32,
}

impl Order {
    pub(crate) fn instance(&self) -> String {
        format!("order {}", self.number)
    }

    /// The others are durable functions.
    pub(crate) fn is_graph(&self) -> bool {
        self.number.is_multiple_of(2)
    }

    pub(crate) fn wants_signals(&self) -> bool {
        self.number % 4 == 1
    }

    pub(crate) fn result(&self) -> u32 {
        match (self.is_graph(), self.wants_signals()) {
            (true, _) => self.number * 5 + 3,
            (false, true) => self.number * 2 + 12,
            (false, false) => self.number * 2 + 1,
        }
    }
}

#[workflow(output = sum)]
pub(crate) mod parcel {
    #[task]
    pub(crate) async fn pack(
        Input(order): Input<Order>,
        handle: &TaskHandle,
        log: State<Log>,
    ) -> Result<u32, TaskError> {
        log.task(handle);
        Ok(order.number)
    }

    #[task(retries = 3, backoff = fixed("5ms"))]
    pub(crate) async fn stamp(
        packed: Output<pack>,
        handle: &TaskHandle,
        log: State<Log>,
    ) -> Result<u32, TaskError> {
        log.task(handle);
        if handle.attempt() == 1 && packed.is_multiple_of(8) {
            return Err(std::io::Error::other("no ink").into());
        }
        Ok(*packed * 2)
    }

    #[task]
    pub(crate) async fn weigh(
        packed: Output<pack>,
        handle: &TaskHandle,
        log: State<Log>,
    ) -> Result<u32, TaskError> {
        log.task(handle);
        handle.progress(0.5).expect("a share");
        Ok(*packed * 3)
    }

    #[task]
    pub(crate) async fn sum(
        stamped: Output<stamp>,
        weighed: Output<weigh>,
        handle: &TaskHandle,
        log: State<Log>,
    ) -> Result<u32, TaskError> {
        log.task(handle);
        Ok(*stamped + *weighed + 3)
    }
}

/// Steps, a sleep, progress and signals.
#[workflow]
pub(crate) async fn visit(
    handle: &TaskHandle,
    order: Order,
    log: State<Log>,
) -> Result<u32, TaskError> {
    log.task(handle);
    let step = |name: &'static str, value: u32| {
        let (log, own) = (log.clone(), handle.clone());
        handle.step(name, async move || {
            log.step(&own, name);
            Ok::<_, TaskError>(value)
        })
    };
    let doubled = step("double", order.number * 2).await?;
    handle.progress(0.5).map_err(TaskError::fatal)?;
    handle.sleep(Duration::from_millis(5)).await?;
    let one = step("one", 1).await?;
    let mut extra = 0;
    if order.wants_signals() {
        // Each arrives once and in the order in which it was sent.
        for expected in [5_u32, 6] {
            let got: u32 = handle.signal("extra").await?;
            if got != expected {
                let what = format!("signal {got} in place of {expected}");
                return Err(TaskError::fatal(std::io::Error::other(what)));
            }
            extra += got;
        }
    }
    step("add", doubled + one + extra).await
}

/// Keeps its slot for a while, deaf to everything.
#[workflow]
pub(crate) async fn chore(
    handle: &TaskHandle,
    order: Order,
    log: State<Log>,
) -> Result<u32, TaskError> {
    log.task(handle);
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(order.number + 7)
}

/// Ends once the test has made a file.
#[workflow]
pub(crate) async fn gated(
    handle: &TaskHandle,
    order: Order,
    log: State<Log>,
) -> Result<u32, TaskError> {
    log.task(handle);
    while !log.gate().exists() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(order.number + 9)
}

/// A version of a workflow.
pub(crate) mod first {
    use abide::{TaskError, workflow};

    #[workflow(version = "1")]
    pub(crate) async fn shape(_number: u32) -> Result<(u32, u32), TaskError> {
        Ok((1, std::process::id()))
    }
}

/// A version of a workflow.
pub(crate) mod second {
    use abide::{TaskError, workflow};

    #[workflow(version = "2")]
    pub(crate) async fn shape(_number: u32) -> Result<(u32, u32), TaskError> {
        Ok((2, std::process::id()))
    }
}
