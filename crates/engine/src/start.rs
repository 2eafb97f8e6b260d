//! Starting executions: what is asked for, and what becomes of it.

use std::future::IntoFuture;
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use abide_core::graph::Graph;
use abide_core::ids::Timestamp;
use abide_core::kernel::{IfExists, PIECE, Start, Started};
use abide_core::payload::{Payload, canonical_digest};
use abide_core::table::By;
use abide_store::{ApplyError, StoreError, Transaction};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::{OwnedRwLockReadGuard, OwnedSemaphorePermit};

use crate::authoring::{BoxFuture, BuiltGraph, GraphOf};
use crate::clock::{timestamp_of, us_of};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::run::Run;
use crate::versions::{Asked, Startable};
use crate::worker::Worker;

/// The most roots of a graph that are claimed with its start.
const MAX_ROOTS_CLAIMED: usize = 8;

/// The most ids tried for one start: two processes whose generators drew the same tag may meet.
const MAX_IDS: u32 = 16;

/// A start that is being described; `.await` makes it.
///
/// Once it answers `Ok`, the execution is durable. If it answers with an error that is not
/// definite, or if it is dropped, it may have been made or not: ask again with the same instance
/// id and the same input.
#[must_use = "a start does nothing until it is awaited"]
pub struct StartRequest<'a, I, O> {
    engine: &'a Engine,
    asked: Asked,
    instance: Arc<str>,
    input: Option<Result<String, serde_json::Error>>,
    graph: Option<Result<BuiltGraph, EngineError>>,
    if_exists: IfExists,
    at: Option<Timestamp>,
    delay: Option<Duration>,
    deadline: Option<Duration>,
    priority: Option<i16>,
    tags: Vec<String>,
    actor: Option<Arc<str>>,
    types: PhantomData<fn(I) -> O>,
}

impl<'a, I: Serialize, O> StartRequest<'a, I, O> {
    pub(crate) fn new(engine: &'a Engine, asked: Asked, instance: &str) -> StartRequest<'a, I, O> {
        StartRequest {
            engine,
            asked,
            instance: Arc::from(instance),
            input: None,
            graph: None,
            if_exists: IfExists::default(),
            at: None,
            delay: None,
            deadline: None,
            priority: None,
            tags: Vec::new(),
            actor: engine.actor(),
            types: PhantomData,
        }
    }

    /// The workflow's input, beside a graph whose nodes have inputs of their own.
    pub fn input(mut self, input: &I) -> Self {
        self.input = Some(serde_json::to_string(input));
        self
    }

    /// A graph built at run time, in place of the workflow's own.
    pub fn graph<W>(mut self, graph: GraphOf<W>) -> Self {
        self.graph = Some(graph.build().map_err(EngineError::from));
        self
    }

    /// What to do if the instance has an execution already. Default
    /// [`UseExisting`](IfExists::UseExisting): the same input gets that execution, whatever its
    /// status; another input is refused.
    pub fn if_exists(mut self, if_exists: IfExists) -> Self {
        self.if_exists = if_exists;
        self
    }

    /// Don't begin before this time.
    pub fn at(mut self, at: SystemTime) -> Self {
        self.at = Some(timestamp_of(at));
        self
    }

    /// Don't begin before so long from now.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// End as TimedOut if it takes longer than this, by the wall clock, from when it may begin.
    /// Default: the workflow's.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Which executions' tasks go first: higher ones. Default: the workflow's.
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = Some(priority);
        self
    }

    /// A label, added to the workflow's.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Who starts it, as history shows it. Default: whoever the engine
    /// [acts for](Engine::acting_as).
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(Arc::from(actor.into()));
        self
    }

    /// Makes the start inside a transaction of your own, in the database of the engine's store: the
    /// execution exists if and only if that commits. Nothing of it runs before, and the [`Run`] has
    /// nothing to say before. What is promised, and how long the transaction may stay open, is with
    /// [`Transaction`].
    ///
    /// ```no_run
    /// # use abide::{Engine, TaskError, workflow};
    /// # #[workflow] async fn checkout(order: i64) -> Result<(), TaskError> { Ok(()) }
    /// # async fn example(engine: Engine) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut connection = rusqlite::Connection::open("app.db")?;
    /// let mut transaction = connection.transaction()?;
    /// transaction.execute("INSERT INTO orders (total) VALUES (?1)", [995])?;
    /// let order = transaction.last_insert_rowid();
    /// let start = engine.start::<checkout>(&format!("order-{order}"), &order).priority(5);
    /// let run = start.within(&mut transaction).await?;
    /// transaction.commit()?;
    /// run.result().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Nothing was written, whatever the error. After [`StoreError::Conflict`] the transaction must
    /// be rolled back and run again; after any other it is as it was before, unless its connection
    /// is lost.
    pub async fn within<T: Transaction + ?Sized>(
        self,
        transaction: &mut T,
    ) -> Result<Run<O>, EngineError> {
        let engine = self.engine;
        let instance = Arc::clone(&self.instance);
        let version = engine.versions().find_in(transaction, &self.asked).await?;
        let mut start = self.describe(version)?;
        for _ in 1..MAX_IDS {
            match engine.store().start_in(transaction, start.clone()).await {
                Err(ApplyError::Store(StoreError::IdTaken)) => {
                    start.id = engine.next_execution_id();
                }
                answer => return Ok(Run::of(engine, instance, &answer?)),
            }
        }
        let started = engine.store().start_in(transaction, start).await?;
        Ok(Run::of(engine, instance, &started))
    }

    async fn make(self) -> Result<Run<O>, EngineError> {
        let engine = self.engine;
        let instance = Arc::clone(&self.instance);
        let version = engine.versions().find(&self.asked).await?;
        let start = self.describe(version)?;
        let started = send(engine, start).await?;
        Ok(Run::of(engine, instance, &started))
    }

    fn describe(self, version: Startable) -> Result<Start, EngineError> {
        let now = self.engine.clock().now();
        let input = self.input.transpose().map_err(|source| {
            let what = format!("the input of workflow `{}`", version.spec.name);
            EngineError::Encode { what, source }
        })?;
        let spec = &version.spec;
        if self.graph.is_none() && spec.input.is_none() {
            return Err(EngineError::NeedsGraph(spec.name.clone()));
        }
        let (graph, own_graph, inputs) = match self.graph {
            None => (Arc::clone(&version.graph), false, Vec::new()),
            Some(built) => {
                let built = built?;
                (Arc::new(built.graph), true, built.inputs)
            }
        };
        let input_hash = input_hash(&spec.name, input.as_deref(), &graph, &inputs)?;
        let delayed = self.delay.map(|delay| now.plus_us(us_of(delay)));
        let start_at = self.at.max(delayed).filter(|at| *at > now);
        let deadline_us = self.deadline.map(us_of).or(spec.deadline_us);
        let mut tags = spec.tags.clone();
        tags.extend(self.tags);
        Ok(Start {
            id: self.engine.next_execution_id(),
            instance: self.instance,
            workflow: version.id,
            graph,
            own_graph,
            input: input.filter(|json| json != "null").map(Payload::from_json),
            node_inputs: node_inputs(inputs),
            input_hash,
            if_exists: self.if_exists,
            priority: self.priority.unwrap_or(spec.priority),
            start_at,
            deadline_at: deadline_us.map(|us| start_at.unwrap_or(now).plus_us(us)),
            tags: (!tags.is_empty()).then(|| json!(tags).to_string()),
            by: By::User,
            actor: self.actor,
            offer: None,
        })
    }
}

impl<'a, I: Serialize + Send + 'a, O: Send + 'a> IntoFuture for StartRequest<'a, I, O> {
    type Output = Result<Run<O>, EngineError>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.make())
    }
}

/// Sends a start to the store, under another id if its own is taken.
async fn send(engine: &Engine, mut start: Start) -> Result<Started, EngineError> {
    for _ in 1..MAX_IDS {
        match send_once(engine, start.clone()).await {
            Err(ApplyError::Store(StoreError::IdTaken)) => start.id = engine.next_execution_id(),
            answer => return Ok(answer?),
        }
    }
    Ok(send_once(engine, start).await?)
}

/// Sends a start to the store; with a free slot, its first tasks begin in the same transaction.
async fn send_once(engine: &Engine, mut start: Start) -> Result<Started, ApplyError> {
    let worker = engine.worker().filter(|_| start.start_at.is_none());
    // A large graph is written piece by piece, and nothing of it is claimed meanwhile.
    let worker = worker.filter(|_| start.graph.len() <= PIECE);
    let roots = start.graph.roots().take(MAX_ROOTS_CLAIMED).count();
    let offered =
        worker.and_then(|worker| Some((worker, worker.may_claim()?, worker.offer(roots)?)));
    let Some((worker, claims, (offer, permits))) = offered else {
        return engine.store().start(start).await;
    };
    start.offer = Some(offer);
    // By itself, however seldom the caller polls and even if it drops the start: the slots and what is
    // claimed into them must not wait for it.
    let begun = worker
        .runtime
        .spawn(begin_here(Arc::clone(worker), start, permits, claims));
    match begun.await {
        Ok(answer) => answer,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => Err(ApplyError::Store(StoreError::Io {
                path: engine.store().name(),
                detail: "the engine's runtime ended before the answer came".to_owned(),
                unknown: true,
            })),
        },
    }
}

/// Sends a start with an offer of these slots, and runs in them what the store claimed.
async fn begin_here(
    worker: Arc<Worker>,
    start: Start,
    permits: Vec<OwnedSemaphorePermit>,
    _claims: OwnedRwLockReadGuard<()>,
) -> Result<Started, ApplyError> {
    let answer = worker.store.start(start).await;
    if matches!(&answer, Err(ApplyError::Store(error)) if !error.is_definite()) {
        worker.doubt();
    }
    let mut started = answer?;
    let claimed = std::mem::take(&mut started.claimed);
    worker.launch(claimed, permits);
    Ok(started)
}

/// By number, ascending, leaving out nodes without one.
fn node_inputs(inputs: Vec<Option<String>>) -> Vec<(u32, Payload)> {
    let numbered = (1..).zip(inputs);
    let given = numbered.filter_map(|(number, input)| Some((number, Payload::from_json(input?))));
    given.collect()
}

/// What a repeated start is recognised by: the workflow's name, its input, and the nodes of a graph
/// built at run time with theirs. Not its rules and options, which another version may change.
fn input_hash(
    workflow: &str,
    input: Option<&str>,
    graph: &Graph,
    nodes: &[Option<String>],
) -> Result<String, EngineError> {
    #[derive(Serialize)]
    struct Given<'a> {
        workflow: &'a str,
        input: &'a RawValue,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        nodes: Vec<(&'a str, &'a RawValue)>,
    }
    let encode = |source| {
        let what = format!("what workflow `{workflow}` is started with");
        EngineError::Encode { what, source }
    };
    let mut given = Given {
        workflow,
        input: serde_json::from_str(input.unwrap_or("null")).map_err(encode)?,
        nodes: Vec::with_capacity(nodes.len()),
    };
    for (number, json) in (1..).zip(nodes) {
        let json = serde_json::from_str(json.as_deref().unwrap_or("null")).map_err(encode)?;
        given.nodes.push((graph.node_id(number), json));
    }
    let json = serde_json::to_string(&given).map_err(encode)?;
    canonical_digest(&json).map_err(encode)
}
