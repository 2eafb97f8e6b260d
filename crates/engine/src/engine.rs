//! The engine: a store, and in most programs a worker that runs its tasks. Starting, watching and
//! steering executions is the same with and without a worker.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use abide_core::ids::{ExecutionId, IdGenerator};
use abide_core::kernel::{Cancel, CancelReply, Signal, Signalled};
use abide_core::payload::Payload;
use abide_store::{
    EventFilter, EventView, ExecutionFilter, ExecutionView, Store, TaskView, Transaction,
};
use serde::Serialize;

use crate::authoring::{GraphOf, StateMap, Workflow};
use crate::builder::EngineBuilder;
use crate::clock::{Clock, us_of};
use crate::error::EngineError;
use crate::options::Options;
use crate::random::Random;
use crate::registry::Registry;
use crate::run::Run;
use crate::start::StartRequest;
use crate::versions::{Asked, Versions};
use crate::worker::{self, Running, Worker};

/// Runs workflows, durably. Cheap to clone; clones are the same engine.
///
/// When the last clone is dropped, with the last [`Run`], the worker stops as well as it can:
/// running tasks are dropped and given back. Call [`shutdown`](Engine::shutdown) to let them
/// finish.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
    actor: Option<Arc<str>>,
}

struct Inner {
    store: Store,
    options: Options,
    ids: Arc<Mutex<IdGenerator>>,
    versions: Versions,
    running: Option<Running>,
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) registry: Arc<Registry>,
    pub(crate) state: Arc<StateMap>,
    pub(crate) options: Options,
}

impl Engine {
    /// Describes an engine over a store: `sqlite:` and the path of a file, or a `postgres://` address.
    /// A file or a schema that doesn't exist is created.
    pub fn builder(url: impl Into<String>) -> EngineBuilder {
        EngineBuilder::new(url.into())
    }

    /// Opens a store to start, watch and steer executions that another process runs.
    pub async fn connect(url: impl Into<String>) -> Result<Engine, EngineError> {
        Engine::builder(url).connect().await
    }

    pub(crate) async fn with_worker(parts: Parts) -> Result<Engine, EngineError> {
        parts.registry.check(&parts.state)?;
        let random = random(&parts.options);
        let ids = Arc::new(Mutex::new(IdGenerator::new(random.bits())));
        let running = worker::start(&parts, random, Arc::clone(&ids)).await?;
        Ok(Engine::new(parts, ids, Some(running)))
    }

    pub(crate) fn without_worker(parts: Parts) -> Result<Engine, EngineError> {
        parts.store.watch_others(true)?;
        let random = random(&parts.options);
        let ids = Arc::new(Mutex::new(IdGenerator::new(random.bits())));
        Ok(Engine::new(parts, ids, None))
    }

    fn new(parts: Parts, ids: Arc<Mutex<IdGenerator>>, running: Option<Running>) -> Engine {
        let versions = Versions::new(parts.store.clone(), parts.registry, running.is_some());
        let inner = Inner {
            store: parts.store,
            options: parts.options,
            ids,
            versions,
            running,
        };
        Engine {
            inner: Arc::new(inner),
            actor: None,
        }
    }

    /// The same engine, for somebody: history says that it was they who start, signal and cancel
    /// with it.
    ///
    /// ```no_run
    /// # use abide::{Engine, ExecutionId};
    /// # async fn example(engine: Engine, id: ExecutionId) -> Result<(), abide::EngineError> {
    /// engine.acting_as("user:eva").cancel(id, "ordered twice").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn acting_as(&self, actor: impl Into<String>) -> Engine {
        Engine {
            inner: Arc::clone(&self.inner),
            actor: Some(Arc::from(actor.into())),
        }
    }

    // ---- starting ----

    /// Starts an execution of `W` for an instance, once: if the instance has one with the same
    /// input already, that one is returned. Options are set on what this returns, before the
    /// `.await`.
    ///
    /// ```no_run
    /// # use abide::{Engine, TaskError, workflow};
    /// # #[workflow] async fn checkout(order: u32) -> Result<(), TaskError> { Ok(()) }
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = Engine::builder("sqlite:app.db").register::<checkout>().start().await?;
    /// let run = engine.start::<checkout>("order-42", &42).priority(5).await?;
    /// run.result().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn start<W: Workflow>(
        &self,
        instance: &str,
        input: &W::Input,
    ) -> StartRequest<'_, W::Input, W::Output> {
        StartRequest::new(self, Asked::of::<W>(), instance).input(input)
    }

    /// Starts an execution of `W` inside a transaction of your own, in the database of the engine's
    /// store: it exists if and only if that commits. Nothing of it runs before.
    ///
    /// The same as `engine.start::<W>(instance, input)` with
    /// [`within(transaction)`](StartRequest::within), where there are options to set and errors are
    /// described. The guide is with [`Transaction`].
    ///
    /// ```no_run
    /// # use abide::{Engine, TaskError, workflow};
    /// # #[workflow] async fn checkout(order: i64) -> Result<(), TaskError> { Ok(()) }
    /// # async fn example(engine: Engine, mut client: tokio_postgres::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut transaction = client.transaction().await?;
    /// let row = transaction.query_one("INSERT INTO orders (total) VALUES (995) RETURNING id", &[]).await?;
    /// let order: i64 = row.get(0);
    /// let run = engine.start_in::<checkout>(&mut transaction, &format!("order-{order}"), &order).await?;
    /// transaction.commit().await?;
    /// run.result().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start_in<W: Workflow>(
        &self,
        transaction: &mut (impl Transaction + ?Sized),
        instance: &str,
        input: &W::Input,
    ) -> Result<Run<W::Output>, EngineError> {
        let start = self.start::<W>(instance, input);
        start.within(transaction).await
    }

    /// Starts an execution of `W` with a graph built at run time, whose nodes have inputs of their
    /// own.
    pub fn start_graph<W: Workflow>(
        &self,
        instance: &str,
        graph: GraphOf<W>,
    ) -> StartRequest<'_, W::Input, W::Output> {
        StartRequest::new(self, Asked::of::<W>(), instance).graph(graph)
    }

    /// Starts an execution of a registered workflow by its name, with values that the compiler
    /// doesn't check: for workflows that were made by builders. If several versions are
    /// registered, the one registered last is started.
    pub fn start_named<I: Serialize>(
        &self,
        workflow: &str,
        instance: &str,
        input: &I,
    ) -> StartRequest<'_, I, serde_json::Value> {
        let asked = Asked::Name(workflow.to_owned());
        StartRequest::new(self, asked, instance).input(input)
    }

    /// The latest execution of an instance.
    ///
    /// # Errors
    ///
    /// The instance has none, or it is one of another workflow.
    pub async fn run<W: Workflow>(&self, instance: &str) -> Result<Run<W::Output>, EngineError> {
        let latest = self.inner.store.latest(instance).await?;
        let view = latest.ok_or_else(|| EngineError::UnknownInstance(instance.to_owned()))?;
        if view.workflow != W::NAME {
            return Err(EngineError::OtherWorkflow {
                instance: instance.to_owned(),
                found: view.workflow,
                asked: W::NAME.to_owned(),
            });
        }
        let execution = view.execution;
        Ok(Run::new(
            self.clone(),
            execution.id,
            execution.instance,
            false,
        ))
    }

    // ---- steering ----

    /// Sends a signal to an instance's live execution. Once this answers `Ok` the signal is
    /// durable, and is read by the next `handle.signal(name)` of that execution.
    pub async fn signal(
        &self,
        instance: &str,
        name: &str,
        payload: &impl Serialize,
    ) -> Result<Signalled, EngineError> {
        let signal = self.describe_signal(instance, name, payload)?;
        Ok(self.inner.store.signal(signal).await?)
    }

    /// Sends a signal inside a transaction of your own, in the database of the engine's store: it
    /// exists if and only if that commits. On PostgreSQL the execution stands still until the
    /// transaction ends. The guide is with [`Transaction`].
    ///
    /// # Errors
    ///
    /// Nothing was written, whatever the error. After [`StoreError::Conflict`] the transaction must
    /// be rolled back and run again; after any other it is as it was before, unless its connection
    /// is lost. On PostgreSQL the transaction must be one of READ COMMITTED, which is what PostgreSQL
    /// begins unless it is told otherwise.
    ///
    /// [`StoreError::Conflict`]: crate::StoreError::Conflict
    pub async fn signal_in(
        &self,
        transaction: &mut (impl Transaction + ?Sized),
        instance: &str,
        name: &str,
        payload: &impl Serialize,
    ) -> Result<Signalled, EngineError> {
        let signal = self.describe_signal(instance, name, payload)?;
        Ok(self.inner.store.signal_in(transaction, signal).await?)
    }

    fn describe_signal(
        &self,
        instance: &str,
        name: &str,
        payload: &impl Serialize,
    ) -> Result<Signal, EngineError> {
        let json = serde_json::to_string(payload).map_err(|source| {
            let what = format!("the signal `{name}`");
            EngineError::Encode { what, source }
        })?;
        Ok(Signal {
            instance: instance.into(),
            name: name.into(),
            payload: Payload::from_json(json),
            actor: self.actor.clone(),
        })
    }

    /// Asks an execution to stop. Tasks that wait or were not begun are cancelled at once; running
    /// ones are told and have the [grace period](EngineBuilder::cancel_grace). An execution that is
    /// stopping or was cancelled already is left as it is.
    pub async fn cancel(
        &self,
        execution: ExecutionId,
        reason: &str,
    ) -> Result<CancelReply, EngineError> {
        let cancel = Cancel {
            execution,
            reason: reason.to_owned(),
            grace_us: us_of(self.inner.options.cancel_grace),
            actor: self.actor.clone(),
        };
        Ok(self.inner.store.cancel(cancel).await?)
    }

    // ---- looking ----

    /// How an execution stands.
    pub async fn describe(&self, id: ExecutionId) -> Result<ExecutionView, EngineError> {
        let view = self.inner.store.execution(id).await?;
        view.ok_or(EngineError::UnknownExecution(id))
    }

    /// Executions, newest first: at most `limit`, those before the given one (the last of the page
    /// before).
    pub async fn list(
        &self,
        filter: ExecutionFilter,
        before: Option<ExecutionId>,
        limit: u32,
    ) -> Result<Vec<ExecutionView>, EngineError> {
        let store = &self.inner.store;
        Ok(store.executions(&filter, before, limit).await?)
    }

    /// Tasks of an execution, by number: at most `limit`, those after the given number (0 for the
    /// first page).
    pub async fn tasks(
        &self,
        id: ExecutionId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<TaskView>, EngineError> {
        Ok(self.inner.store.tasks(id, after, limit).await?)
    }

    /// The history of an execution and its tasks, oldest first: at most `limit` events, those after
    /// the given position (0 for the first page).
    pub async fn history(
        &self,
        id: ExecutionId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<EventView>, EngineError> {
        let filter = EventFilter {
            execution: Some(id),
            task: None,
        };
        Ok(self.inner.store.events(&filter, after, limit).await?)
    }

    /// All events of the store, each once, for subscribers: at most `limit` after a cursor (none for
    /// the beginning), and the cursor after them, to be kept together with what was made of them.
    /// See [`Store::feed`](abide_store::Store::feed).
    pub async fn feed(
        &self,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<EventView>, String), EngineError> {
        let filter = EventFilter::default();
        Ok(self.inner.store.feed(cursor, &filter, limit).await?)
    }

    /// The store, for what the engine has no method for.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    // ---- stopping ----

    /// Stops the worker: claims nothing more, lets running tasks finish until the
    /// [deadline](EngineBuilder::shutdown_deadline), gives the rest back without charging them an
    /// attempt. Tasks that wait are given back, or left to the store, at once. Starting and
    /// watching executions works on; another process may run them now.
    ///
    /// Does nothing if the engine has no worker, or it has stopped.
    pub async fn shutdown(&self) {
        if let Some(running) = &self.inner.running {
            running.shutdown().await;
        }
    }

    // ---- for the rest of the crate ----

    pub(crate) fn actor(&self) -> Option<Arc<str>> {
        self.actor.clone()
    }

    pub(crate) fn versions(&self) -> &Versions {
        &self.inner.versions
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.inner.options.clock
    }

    pub(crate) fn worker(&self) -> Option<&Arc<Worker>> {
        self.inner.running.as_ref().map(Running::worker)
    }

    pub(crate) fn next_execution_id(&self) -> ExecutionId {
        let now = self.clock().now();
        let ids = self.inner.ids.lock();
        ExecutionId(ids.unwrap_or_else(PoisonError::into_inner).next(now))
    }
}

fn random(options: &Options) -> Arc<Random> {
    Arc::new(match options.seed {
        Some(seed) => Random::seeded(seed),
        None => Random::unforeseen(),
    })
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("store", &self.inner.store)
            .field("runs_tasks", &self.inner.running.is_some())
            .finish_non_exhaustive()
    }
}
