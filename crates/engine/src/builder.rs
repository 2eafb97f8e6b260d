//! The engine's builder: options, registered workflows, shared state.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::authoring::{StateMap, Workflow, WorkflowSpec};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::options::Options;
use crate::parts::Parts;
use crate::registry::{RegistrationError, Registry};

/// Configures an engine. [`start`](EngineBuilder::start) opens the store and runs tasks.
///
/// ```no_run
/// use std::time::Duration;
/// use abide::{Engine, EngineError, TaskError, workflow};
///
/// #[workflow]
/// async fn greeting(name: String) -> Result<String, TaskError> {
///     Ok(format!("Hello, {name}!"))
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::builder("sqlite:app.db")
///     .register::<greeting>()
///     .max_concurrent_tasks(8)
///     .shutdown_deadline(Duration::from_secs(10))
///     .start()
///     .await?;
/// let run = engine.start::<greeting>("greet-eva", &"Eva".to_owned()).await?;
/// assert_eq!(run.result().await?, "Hello, Eva!");
/// engine.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[must_use = "an engine does nothing until it is started"]
pub struct EngineBuilder {
    url: String,
    state: StateMap,
    registry: Result<Registry, RegistrationError>,
    options: Options,
    clock: Option<Arc<dyn Clock>>,
}

impl EngineBuilder {
    pub(crate) fn new(url: String) -> EngineBuilder {
        EngineBuilder {
            url,
            state: StateMap::new(),
            registry: Ok(Registry::new()),
            options: Options::default(),
            clock: None,
        }
    }

    /// Shares a value with every task that takes a `State<T>`. A second value of the same type
    /// replaces the first.
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state.insert(value);
        self
    }

    /// Adds a workflow that the engine can run. [`start`](EngineBuilder::start) returns the error
    /// if the workflow has a mistake.
    pub fn register<W: Workflow>(self) -> Self {
        self.with_registry(Registry::register::<W>)
    }

    /// Adds a workflow made by a [`WorkflowBuilder`](crate::WorkflowBuilder).
    pub fn register_spec(self, workflow: WorkflowSpec) -> Self {
        self.with_registry(|registry| registry.add(workflow))
    }

    fn with_registry(
        mut self,
        add: impl FnOnce(&mut Registry) -> Result<(), RegistrationError>,
    ) -> Self {
        self.registry = self.registry.and_then(|mut registry| {
            add(&mut registry)?;
            Ok(registry)
        });
        self
    }

    /// The number of slots: how many tasks run at the same time. A task that waits on its handle
    /// holds no slot. Default 4; 1 to 1,000,000.
    pub fn max_concurrent_tasks(mut self, tasks: usize) -> Self {
        self.options.max_concurrent_tasks = tasks;
        self
    }

    /// How many tasks that wait for a durable operation stay in memory. Beyond this number, the
    /// engine drops the oldest futures and replays each task when its wait ends. 0 drops each task
    /// as soon as it waits; [`usize::MAX`] drops none. Default 10,000.
    pub fn max_parked_tasks(mut self, tasks: usize) -> Self {
        self.options.max_parked_tasks = tasks;
        self
    }

    /// How long the worker keeps its tasks after its last sign of life. A separate thread renews
    /// the lease every third of this time. On SQLite the operating system tells at once that a
    /// process has died; there, a third of the lease is only the interval of the engine's thorough
    /// check. Default 10 s; at least 300 ms.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.options.lease = lease;
        self
    }

    /// PostgreSQL: how long blocking tasks may occupy every thread of the runtime before the worker
    /// gives up its tasks, although its process lives. Until then the lease is renewed, and a
    /// warning names the tasks. At least the lease. Default 10 minutes.
    ///
    /// Code that occupies a thread without an `await` is blocking. Run such code with
    /// [`tokio::task::spawn_blocking`], and this limit has no effect. On SQLite a worker keeps its
    /// tasks for as long as its process lives.
    pub fn blocked_limit(mut self, limit: Duration) -> Self {
        self.options.blocked_limit = limit;
        self
    }

    /// How many deaths of its process in a row a task survives while it runs, without a newly
    /// recorded step in between. With 3, the fourth death in a row abandons the task; with 0, the first
    /// one during which no other task was running. Default 5.
    ///
    /// A death counts only if the task may be its cause. After the second death the task runs alone
    /// in its worker. From then on, a death counts only if no other task was running, and only such
    /// a death abandons the task. A late result shows that the process had not died, and takes one
    /// death back. A task that waits on its handle cannot be the cause of a death.
    pub fn max_crashes(mut self, crashes: u32) -> Self {
        self.options.max_crashes = crashes;
        self
    }

    /// How long running tasks may continue after [`shutdown`](Engine::shutdown) is called. Then
    /// they go back to the queue. Default 30 s.
    pub fn shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.options.shutdown_deadline = deadline;
        self
    }

    /// How long the tasks of a cancelled execution may take to stop before the engine drops them.
    /// Default 30 s.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.options.cancel_grace = grace;
        self
    }

    /// The largest input, output, signal or recorded result, in bytes of JSON. All tags of an
    /// execution together are one payload. Default 4 MiB; 256 bytes to 256 MiB.
    pub fn payload_limit(mut self, bytes: usize) -> Self {
        self.options.payload_limit_bytes = bytes;
        self
    }

    /// How long a write waits for another process that writes to the same file, or for a row that
    /// another transaction keeps locked, before it fails as busy. Also how long a write or a query
    /// waits for a server that is away. The engine repeats the write of a task's result until it
    /// succeeds; a start, signal or cancellation returns the error. Default 5 s. PostgreSQL uses at
    /// least 250 ms, SQLite at most 24 days.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.options.busy_timeout = timeout;
        self
    }

    /// SQLite: the permissions of new files (the database, its log and the locks beside it),
    /// regardless of the process's umask. Existing files keep their permissions. The mode must let
    /// the owner read and write, and may let the group or everybody do so. A user who may read the
    /// files can delay recovery by holding a lock. Default `0o600`. Has no effect on a system
    /// without such permissions.
    pub fn file_mode(mut self, mode: u32) -> Self {
        self.options.file_mode = Some(mode);
        self
    }

    /// How long the history of an ended execution is kept. The execution itself, its result and its
    /// instance id stay. The engine removes old histories about once an hour; on PostgreSQL it
    /// removes a month at a time. Default: for ever.
    pub fn history_retention(mut self, keep: Duration) -> Self {
        self.options.history_retention = Some(keep);
        self
    }

    /// PostgreSQL: how often this process looks for work of which it got no notification, plus or
    /// minus a fifth. Normally another process's notification arrives within milliseconds. The poll
    /// finds the work if a notification is lost with its connection. Default 10 s; at least 100 ms.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.options.poll_interval = interval;
        self
    }

    /// The clock of the engine and its store. Default: the database's clock on PostgreSQL, the
    /// system's clock on SQLite.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Makes jitter and the random part of ids repeatable, for tests. Default: unpredictable.
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = Some(seed);
        self
    }

    /// Opens the store and runs tasks, beside any other processes that use the store. Tasks that a
    /// dead process left behind run first.
    ///
    /// Call this on a tokio runtime with timers. Tasks run on that runtime.
    ///
    /// # Errors
    ///
    /// A mistake in a workflow, a missing state value, a store that cannot be opened, or a workflow
    /// version that the store records with another graph. In the last case, give the changed
    /// workflow another `version`.
    pub async fn start(self) -> Result<Engine, EngineError> {
        let parts = self.open().await?;
        Engine::with_worker(parts).await
    }

    /// Opens the store to start, watch and cancel executions. Other processes run them.
    ///
    /// # Errors
    ///
    /// A mistake in a workflow, or a store that cannot be opened.
    pub async fn connect(self) -> Result<Engine, EngineError> {
        let parts = self.open().await?;
        Engine::without_worker(parts)
    }

    async fn open(self) -> Result<Parts, EngineError> {
        let registry = self.registry?;
        let parts = Parts::open(&self.url, self.options, self.clock, true).await?;
        Ok(Parts {
            registry: Arc::new(registry),
            state: Arc::new(self.state),
            ..parts
        })
    }
}

impl fmt::Debug for EngineBuilder {
    /// Without the address, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBuilder")
            .field("registry", &self.registry)
            .field("state", &self.state)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
