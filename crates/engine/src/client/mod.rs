//! The client: starting, cancelling and inspecting executions, in whatever process they run.
//! Nothing here runs a task; an [`Engine`](crate::Engine) is a client with a worker.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use abide_core::ids::{ExecutionId, IdGenerator};
use abide_core::kernel::{Act, Acted, Action, Signal, Signalled};
use abide_core::payload::Payload;
use abide_store::{EventFilter, EventView, Store, StoreError, Transaction};
use serde::Serialize;

use crate::authoring::{GraphOf, Workflow};
use crate::clock::{Clock, us_of};
use crate::error::EngineError;
use crate::options::Options;
use crate::parts::Parts;
use crate::run::Run;
use crate::start::StartRequest;
use crate::versions::{Asked, Versions};
use crate::worker::{Running, Worker};

mod estimate;
mod follow;
mod history;
mod live;
mod name;
mod page;
mod reading;
mod records;
mod statistics;
mod time;

pub use estimate::Usual;
pub use follow::Follow;
pub use history::HistoryFilter;
pub use live::Changes;
pub use name::{NameError, NameHint};
pub use page::{Cursor, CursorError, Page};
pub use reading::TaskFilter;
pub use records::{
    Description, ErrorRecord, EventRecord, ExecutionRecord, OperationRecord, OperationState,
    TaskCount, TaskRecord, Times, WorkerRecord,
};
pub use statistics::{QueueStatistics, Statistics, TableStatistics};
pub use time::Time;

/// Starts, cancels and inspects executions. Cheap to clone; clones are the same client.
///
/// [`Client::open`] opens a store whose tasks other processes run, for example in a command or a
/// web server. An [`Engine`](crate::Engine) is a client too, so every function that takes a
/// `&Client` also takes an `&Engine`.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    actor: Option<Arc<str>>,
}

struct Inner {
    store: Store,
    options: Options,
    ids: Arc<Mutex<IdGenerator>>,
    versions: Versions,
    running: Option<Running>,
    /// Whether changes by other processes arrive as hints.
    watches: Mutex<bool>,
}

impl Client {
    /// Opens an existing store: the path of a SQLite file, or a `postgres://` address, which needs
    /// the feature `postgres`.
    ///
    /// ```no_run
    /// # use abide::{Client, ExecutionFilter};
    /// # async fn example() -> Result<(), abide::EngineError> {
    /// let client = Client::open("sqlite:app.db").await?;
    /// let page = client.list(&ExecutionFilter::default(), None, 20).await?;
    /// for execution in page.items {
    ///     println!("{} {}", execution.name(), execution.status_text());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// There is no such store, or it cannot be opened.
    pub async fn open(url: impl Into<String>) -> Result<Client, EngineError> {
        let parts = Parts::open(&url.into(), Options::default(), None, false).await?;
        Ok(Client::without_worker(parts))
    }

    /// A client that does not watch for changes by other processes yet.
    pub(crate) fn without_worker(parts: Parts) -> Client {
        let random = parts.options.random();
        let ids = Arc::new(Mutex::new(IdGenerator::new(random.bits())));
        Client::new(parts, ids, None)
    }

    pub(crate) fn new(
        parts: Parts,
        ids: Arc<Mutex<IdGenerator>>,
        running: Option<Running>,
    ) -> Client {
        let versions = Versions::new(parts.store.clone(), parts.registry, running.is_some());
        let inner = Inner {
            store: parts.store,
            options: parts.options,
            ids,
            versions,
            running,
            watches: Mutex::new(false),
        };
        Client {
            inner: Arc::new(inner),
            actor: None,
        }
    }

    /// The same client with an actor: history records this actor for each start, signal and
    /// cancellation through it.
    ///
    /// ```no_run
    /// # use abide::{Engine, ExecutionId};
    /// # async fn example(engine: Engine, id: ExecutionId) -> Result<(), abide::EngineError> {
    /// engine.acting_as("user:eva").cancel(id, "ordered twice").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn acting_as(&self, actor: impl Into<String>) -> Client {
        Client {
            inner: Arc::clone(&self.inner),
            actor: Some(Arc::from(actor.into())),
        }
    }

    // ---- starting ----

    /// Starts an execution of `W` for an instance, once: if the instance already has an execution
    /// with the same input, that one is returned. Set options on the returned request before the
    /// `.await`.
    ///
    /// All workflows of a store share one set of instance ids. So put the kind of thing into the
    /// id: `invoice-42` and `parcel-42` rather than `42` for both. An instance of another workflow
    /// is refused with [`EngineError::OtherWorkflow`]. An instance of another version of `W` is not
    /// refused, so a start that you repeat after a deploy finds the execution that the first start
    /// created.
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

    /// Starts an execution of `W` inside your own transaction, in the database of the engine's
    /// store: the execution exists if and only if the transaction commits. No task of it runs
    /// before.
    ///
    /// The same as `engine.start::<W>(instance, input)` with
    /// [`within(transaction)`](StartRequest::within), which also takes options and describes the
    /// errors. The guide is at [`Transaction`].
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

    /// Starts an execution of `W` with a graph built at run time, in which each node has an input
    /// of its own.
    pub fn start_graph<W: Workflow>(
        &self,
        instance: &str,
        graph: GraphOf<W>,
    ) -> StartRequest<'_, W::Input, W::Output> {
        StartRequest::new(self, Asked::of::<W>(), instance).graph(graph)
    }

    /// Starts an execution of a registered workflow by its name, for workflows that were made by
    /// builders. The compiler does not check the types. If several versions are registered, the
    /// version that was registered last is started.
    pub fn start_named<I: Serialize>(
        &self,
        workflow: &str,
        instance: &str,
        input: &I,
    ) -> StartRequest<'_, I, serde_json::Value> {
        let asked = Asked::Name(workflow.to_owned());
        StartRequest::new(self, asked, instance).input(input)
    }

    /// Finds the latest execution of an instance. Starts nothing.
    ///
    /// # Errors
    ///
    /// [`EngineError::UnknownInstance`] if the instance has no execution,
    /// [`EngineError::OtherWorkflow`] if it belongs to another workflow.
    pub async fn find<W: Workflow>(&self, instance: &str) -> Result<Run<W::Output>, EngineError> {
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

    /// Sends a signal to an instance's live execution. On `Ok` the signal is durable. The next
    /// `handle.signal(name)` of that execution reads it, now or later. Each call sends a signal of its
    /// own.
    ///
    /// ```no_run
    /// # async fn example(client: abide::Client) -> Result<(), abide::EngineError> {
    /// client.signal("order-42", "approval", &true).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The instance has no execution, or its latest execution has ended: nothing was written.
    /// [`EngineError::Encode`] if the payload cannot be written as JSON.
    pub async fn signal(
        &self,
        instance: &str,
        name: &str,
        payload: &impl Serialize,
    ) -> Result<Signalled, EngineError> {
        let signal = self.describe_signal(instance, name, payload)?;
        Ok(self.inner.store.signal(signal).await?)
    }

    /// Sends a signal inside your own transaction, in the database of the engine's store: the
    /// signal exists if and only if the transaction commits. On PostgreSQL the execution stands
    /// still until the transaction ends. The guide is at [`Transaction`].
    ///
    /// # Errors
    ///
    /// On any error nothing was written. After [`StoreError::Conflict`] the transaction must be
    /// rolled back and run again. After any other error it is as it was before the call, unless its
    /// connection is lost. On PostgreSQL the transaction must be READ COMMITTED, which is
    /// PostgreSQL's default.
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
        let json = serde_json::to_string(payload).map_err(|error| {
            let what = format!("the signal `{name}`");
            EngineError::Encode { what, error }
        })?;
        Ok(Signal {
            instance: instance.into(),
            name: name.into(),
            payload: Payload::from_json(json),
            actor: self.actor.clone(),
        })
    }

    /// Requests that an execution stops. Tasks that wait or have not begun are cancelled at once.
    /// Running tasks are told to stop, and have the [grace period](crate::EngineBuilder::cancel_grace) to
    /// do so. Nothing changes if the execution is already stopping or cancelled. History and the
    /// execution's record show the reason.
    ///
    /// ```no_run
    /// # use abide::{Acted, Client, EngineError, ExecutionId};
    /// # async fn example(client: Client, id: ExecutionId) -> Result<(), EngineError> {
    /// let acted = client.cancel(id, "ordered twice").await?;
    /// if let Acted::Unchanged(_) = acted {
    ///     println!("it was stopping already");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`cancel_within`](Client::cancel_within).
    pub async fn cancel(&self, execution: ExecutionId, reason: &str) -> Result<Acted, EngineError> {
        let grace = self.inner.options.cancel_grace;
        self.cancel_within(execution, reason, grace).await
    }

    /// Like [`cancel`](Client::cancel), with its own grace period for running tasks.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownExecution`](crate::Refusal::UnknownExecution), and
    /// [`Refusal::NotAllowed`](crate::Refusal::NotAllowed) if it has ended otherwise.
    pub async fn cancel_within(
        &self,
        execution: ExecutionId,
        reason: &str,
        grace: Duration,
    ) -> Result<Acted, EngineError> {
        let grace_us = us_of(grace);
        let action = Action::Cancel { grace_us };
        self.act(execution, action, reason).await
    }

    /// Gives an execution another priority: its tasks are claimed before those of executions with a lower
    /// one. Tasks that are ready already move to their new place in the queue; tasks that run are not
    /// interrupted. Nothing changes if the execution has that priority. History shows the priority
    /// before and after, the actor and the reason.
    ///
    /// ```no_run
    /// # use abide::{Client, EngineError, ExecutionId};
    /// # async fn example(client: Client, id: ExecutionId) -> Result<(), EngineError> {
    /// client.set_priority(id, 10, "the customer waits at the counter").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownExecution`](crate::Refusal::UnknownExecution);
    /// [`Refusal::NotAllowed`](crate::Refusal::NotAllowed) if it has ended or is stopping; and
    /// [`Refusal::TooManyReady`](crate::Refusal::TooManyReady) if more than 4,096 of its tasks are ready,
    /// which is more than one transaction moves.
    pub async fn set_priority(
        &self,
        execution: ExecutionId,
        priority: i16,
        reason: &str,
    ) -> Result<Acted, EngineError> {
        let action = Action::SetPriority { priority };
        self.act(execution, action, reason).await
    }

    async fn act(
        &self,
        execution: ExecutionId,
        action: Action,
        reason: &str,
    ) -> Result<Acted, EngineError> {
        let act = Act {
            actor: self.actor.clone(),
            ..Act::on(execution, action, reason)
        };
        Ok(self.inner.store.act(act).await?)
    }

    // ---- looking ----

    /// All events of the store, each once, for subscribers: at most `limit` events after a cursor
    /// (none for the beginning), and the cursor after them. Save the cursor together with your own
    /// results. See [`Store::feed`](abide_store::Store::feed).
    pub async fn feed(
        &self,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<EventView>, String), EngineError> {
        let filter = EventFilter::default();
        Ok(self.inner.store.feed(cursor, &filter, limit).await?)
    }

    /// The store below. Not part of the API: the tests of this workspace look into it.
    #[doc(hidden)]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Closes the database after all earlier requests are done. Later requests are refused. If no
    /// worker uses a SQLite file, the file is left without a log beside it.
    pub async fn close(&self) {
        self.inner.store.close().await;
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

    pub(crate) fn running(&self) -> Option<&Running> {
        self.inner.running.as_ref()
    }

    /// Makes changes by other processes wake the waiters of this client.
    pub(crate) fn watch(&self) -> Result<(), StoreError> {
        let mut watches = self
            .inner
            .watches
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !*watches && self.inner.running.is_none() {
            self.inner.store.watch_others(true)?;
            *watches = true;
        }
        Ok(())
    }

    pub(crate) fn next_execution_id(&self) -> ExecutionId {
        let now = self.clock().now();
        let ids = self.inner.ids.lock();
        ExecutionId(ids.unwrap_or_else(PoisonError::into_inner).next(now))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("store", &self.inner.store)
            .field("runs_tasks", &self.inner.running.is_some())
            .finish_non_exhaustive()
    }
}
