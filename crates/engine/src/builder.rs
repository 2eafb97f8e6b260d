//! Making an engine.

use std::sync::Arc;
use std::time::Duration;

use abide_store::{Store, StoreOptions};

use crate::authoring::{StateMap, Task, Workflow, WorkflowSpec};
use crate::clock::{Clock, StoreClock};
use crate::engine::{Engine, Parts};
use crate::error::EngineError;
use crate::options::Options;
use crate::registry::{RegistrationError, Registry};

/// Describes an engine; [`start`](EngineBuilder::start) makes it.
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

    /// Shares a value with every task that asks for `State<T>`. A second value of a type replaces
    /// the first.
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.state.insert(value);
        self
    }

    /// Adds a workflow that the engine can run. A mistake in it is returned by
    /// [`start`](EngineBuilder::start).
    pub fn register<W: Workflow>(self) -> Self {
        self.with_registry(Registry::register::<W>)
    }

    /// Adds a workflow made by a [`WorkflowBuilder`](crate::WorkflowBuilder).
    pub fn register_spec(self, workflow: WorkflowSpec) -> Self {
        self.with_registry(|registry| registry.add(workflow))
    }

    /// Adds a task outside of workflows, for durable functions to call. That is checked, but nothing
    /// can call it yet.
    pub fn register_task<T: Task>(self) -> Self {
        self.with_registry(Registry::register_task::<T>)
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

    /// How many tasks run at a time: the worker's slots. A task that waits on its handle holds
    /// none. Default 4; at least 1.
    pub fn max_concurrent_tasks(mut self, tasks: usize) -> Self {
        self.options.max_concurrent_tasks = tasks;
        self
    }

    /// How many tasks that wait for a durable operation stay in memory. Beyond, the oldest are
    /// dropped and replayed when what they wait for comes. 0 drops each as soon as it waits.
    /// Default 10,000.
    pub fn max_parked_tasks(mut self, tasks: usize) -> Self {
        self.options.max_parked_tasks = tasks;
        self
    }

    /// How long the worker's tasks stay its own after its last sign of life. Renewed every third
    /// of it, by a thread of its own. On SQLite the operating system tells at once that a process
    /// has died, and this is only how often the engine looks thoroughly. Default 10 s; at least
    /// 300 ms.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.options.lease = lease;
        self
    }

    /// How many times in a row a task may take its process down, without a new step recorded in
    /// between, before it is abandoned. Default 3.
    pub fn max_crashes(mut self, crashes: u32) -> Self {
        self.options.max_crashes = crashes;
        self
    }

    /// How long [`shutdown`](Engine::shutdown) lets running tasks go on before they are given
    /// back. Default 30 s.
    pub fn shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.options.shutdown_deadline = deadline;
        self
    }

    /// How long the tasks of a cancelled execution may take to stop before they are cut off.
    /// Default 30 s.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.options.cancel_grace = grace;
        self
    }

    /// The largest input, output, signal or recorded result, in bytes of JSON. Default 4 MiB.
    pub fn payload_limit(mut self, bytes: usize) -> Self {
        self.options.payload_limit_bytes = bytes;
        self
    }

    /// How long a write waits for another process that writes to the same file, or keeps what it
    /// needs locked, before it is refused as busy; and how long a write or a question waits for a
    /// server that is away. What tasks did is written again until it goes through; a start, signal or
    /// cancellation answers with the error. Default 5 s.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.options.busy_timeout = timeout;
        self
    }

    /// How long the history of an execution is kept after it ended. The execution itself stays, with
    /// its result, and so does its instance id. Looked after about once an hour; on PostgreSQL
    /// histories go by the month. Default: for ever.
    pub fn history_retention(mut self, keep: Duration) -> Self {
        self.options.history_retention = Some(keep);
        self
    }

    /// PostgreSQL: how often this process looks for what it may not have been told of, give or take
    /// a fifth. Other processes tell it within milliseconds what they did; this stands behind it,
    /// for news that are lost with a connection. Default 10 s; at least 100 ms.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.options.poll_interval = interval;
        self
    }

    /// The clock by which the engine and its store go. Default: the store's own, which is the
    /// database's on PostgreSQL and the system's on SQLite.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Makes jitter and the tags of ids repeat, for tests. Default: unforeseeable.
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = Some(seed);
        self
    }

    /// Opens the store and runs tasks, beside whoever else does: those that a dead process left
    /// behind first of all.
    ///
    /// Must be called on a tokio runtime with timers; tasks run on it.
    ///
    /// # Errors
    ///
    /// Mistakes in the workflows, state that nobody brought, or a store that can't be opened.
    pub async fn start(self) -> Result<Engine, EngineError> {
        let parts = self.open().await?;
        Engine::with_worker(parts).await
    }

    /// Opens the store to start, watch and steer executions, which another process runs.
    ///
    /// # Errors
    ///
    /// Mistakes in the workflows, or a store that can't be opened.
    pub async fn connect(self) -> Result<Engine, EngineError> {
        let parts = self.open().await?;
        Engine::without_worker(parts)
    }

    async fn open(self) -> Result<Parts, EngineError> {
        let registry = self.registry?;
        check(&self.options)?;
        let given = self.clock.clone();
        let store = StoreOptions {
            now: given.map(|clock| -> abide_store::Clock { Arc::new(move || clock.now()) }),
            busy_timeout: self.options.busy_timeout,
            poll: self.options.poll_interval,
            payload_limit_bytes: self.options.payload_limit_bytes,
            ..StoreOptions::default()
        };
        let store = Store::open(&self.url, store).await?;
        let mut options = self.options;
        options.clock = match self.clock {
            Some(given) => given,
            None => Arc::new(StoreClock::new(store.clone())),
        };
        Ok(Parts {
            store,
            registry: Arc::new(registry),
            state: Arc::new(self.state),
            options,
        })
    }
}

fn check(options: &Options) -> Result<(), EngineError> {
    const SHORTEST_LEASE: Duration = Duration::from_millis(300);
    const SHORTEST_POLL: Duration = Duration::from_millis(100);
    const MOST_TASKS: usize = 1_000_000;
    let wrong = |what: String| Err(EngineError::Option(what));
    if options.max_concurrent_tasks == 0 {
        return wrong("max_concurrent_tasks is 0: no task would ever run".to_owned());
    }
    if options.max_concurrent_tasks > MOST_TASKS {
        let tasks = options.max_concurrent_tasks;
        return wrong(format!(
            "max_concurrent_tasks is {tasks}; the most is {MOST_TASKS}"
        ));
    }
    if options.lease < SHORTEST_LEASE {
        let lease = options.lease;
        return wrong(format!(
            "the lease is {lease:?}; it must be at least {SHORTEST_LEASE:?}"
        ));
    }
    if options.poll_interval < SHORTEST_POLL {
        let interval = options.poll_interval;
        return wrong(format!(
            "the poll interval is {interval:?}; it must be at least {SHORTEST_POLL:?}"
        ));
    }
    Ok(())
}
