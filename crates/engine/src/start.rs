//! Starting executions: the request, and how it is carried out.

use std::fmt;
use std::future::{IntoFuture, poll_fn};
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use abide_core::graph::Graph;
use abide_core::ids::Timestamp;
use abide_core::kernel::{IfExists, PIECE, Start, Started};
use abide_core::payload::{Payload, canonical_digest};
use abide_core::table::By;
use abide_core::text::check_name;
use abide_store::{ApplyError, StoreError, Transaction};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::{OwnedRwLockReadGuard, OwnedSemaphorePermit};

use crate::authoring::{BoxFuture, BuiltGraph, GraphOf};
use crate::client::Client;
use crate::clock::us_of;
use crate::error::EngineError;
use crate::run::Run;
use crate::versions::{Asked, Startable};
use crate::worker::Worker;

/// How many roots of a graph are claimed with its start.
const MAX_ROOTS_CLAIMED: usize = 8;

/// How many ids are tried for one start. Two processes whose generators drew the same tag may make
/// the same id.
const MAX_IDS: u32 = 16;

/// A request to start an execution. Set its options, then `.await` it to start the execution.
///
/// On `Ok` the execution is durable. After an error that is not definite, or if the future is
/// dropped, the execution may or may not exist: start it again with the same instance id and the
/// same input.
#[must_use = "a start does nothing until it is awaited"]
pub struct StartRequest<'a, I, O> {
    client: &'a Client,
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
    pub(crate) fn new(client: &'a Client, asked: Asked, instance: &str) -> StartRequest<'a, I, O> {
        StartRequest {
            client,
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
            actor: client.actor(),
            types: PhantomData,
        }
    }

    /// The workflow's input, in addition to a graph whose nodes have inputs of their own.
    pub fn input(mut self, input: &I) -> Self {
        self.input = Some(serde_json::to_string(input));
        self
    }

    /// A graph built at run time, instead of the workflow's own graph.
    pub fn graph<W>(mut self, graph: GraphOf<W>) -> Self {
        self.graph = Some(graph.build().map_err(EngineError::from));
        self
    }

    /// What happens if the instance already has an execution. Default:
    /// [`UseExisting`](IfExists::UseExisting): a start with the same workflow and input returns
    /// that execution, whatever its status; another workflow or input is refused.
    pub fn if_exists(mut self, if_exists: IfExists) -> Self {
        self.if_exists = if_exists;
        self
    }

    /// The earliest time at which the execution may begin.
    pub fn at(mut self, at: SystemTime) -> Self {
        self.at = Some(Timestamp::from(at));
        self
    }

    /// The shortest time from now until the execution may begin.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// The longest wall-clock time from when the execution may begin to its end. After this time it
    /// ends TimedOut. Default: the workflow's deadline.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The priority of the execution's tasks: higher ones run first. Default: the workflow's.
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = Some(priority);
        self
    }

    /// A tag, in addition to the workflow's tags: 1 to 255 bytes without control characters.
    /// Otherwise the start is refused.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// The actor that history records for the start. Default: the actor of the client, see
    /// [`acting_as`](Client::acting_as).
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(Arc::from(actor.into()));
        self
    }

    /// Starts the execution inside your own transaction, in the database of the engine's store: the
    /// execution exists if and only if the transaction commits. No task of it runs before, and the
    /// [`Run`] shows nothing before. [`Transaction`] says what is promised, and how long the
    /// transaction may stay open.
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
    /// On any error nothing was written. After [`StoreError::Conflict`] the transaction must be
    /// rolled back and run again. After any other error it is as it was before the call, unless its
    /// connection is lost.
    pub async fn within<T: Transaction + ?Sized>(
        self,
        transaction: &mut T,
    ) -> Result<Run<O>, EngineError> {
        let client = self.client;
        let instance = Arc::clone(&self.instance);
        let version = client.versions().find_in(transaction, &self.asked).await?;
        let mut start = self.describe(version)?;
        for _ in 1..MAX_IDS {
            match client.store().start_in(transaction, start.clone()).await {
                Err(ApplyError::Store(StoreError::IdTaken)) => {
                    start.id = client.next_execution_id();
                }
                answer => return Ok(Run::of(client, instance, &answer?)),
            }
        }
        let started = client.store().start_in(transaction, start).await?;
        Ok(Run::of(client, instance, &started))
    }

    async fn make(self) -> Result<Run<O>, EngineError> {
        let client = self.client;
        let instance = Arc::clone(&self.instance);
        let version = client.versions().find(&self.asked).await?;
        let start = self.describe(version)?;
        let started = send(client, start).await?;
        Ok(Run::of(client, instance, &started))
    }

    fn describe(self, version: Startable) -> Result<Start, EngineError> {
        let now = self.client.clock().now();
        let input = self.input.transpose().map_err(|error| {
            let what = format!("the input of workflow `{}`", version.spec.name);
            EngineError::Encode { what, error }
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
        if let Some(input) = &input {
            self.client.store().check_payload("the input", input)?;
        }
        let input_hash = input_hash(&spec.name, input.as_deref(), &graph, &inputs)?;
        let delayed = self.delay.map(|delay| now.plus_us(us_of(delay)));
        let start_at = self.at.max(delayed).filter(|at| *at > now);
        let deadline_us = self.deadline.map(us_of).or(spec.deadline_us);
        for tag in &self.tags {
            check_name("tag", tag).map_err(|error| EngineError::Option(error.to_string()))?;
        }
        let mut tags = spec.tags.clone();
        tags.extend(self.tags);
        Ok(Start {
            id: self.client.next_execution_id(),
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

impl<I, O> fmt::Debug for StartRequest<'_, I, O> {
    /// Without the input, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartRequest")
            .field("instance", &self.instance)
            .field("if_exists", &self.if_exists)
            .field("tags", &self.tags)
            .finish_non_exhaustive()
    }
}

/// Sends a start to the store, with another id if its own is taken.
async fn send(client: &Client, mut start: Start) -> Result<Started, EngineError> {
    for _ in 1..MAX_IDS {
        match send_once(client, start.clone()).await {
            Err(ApplyError::Store(StoreError::IdTaken)) => start.id = client.next_execution_id(),
            answer => return Ok(answer?),
        }
    }
    Ok(send_once(client, start).await?)
}

/// Sends a start to the store. With a free slot, its first tasks begin in the same transaction.
async fn send_once(client: &Client, mut start: Start) -> Result<Started, ApplyError> {
    let worker = client.worker().filter(|_| start.start_at.is_none());
    // A large graph is written in pieces, and none of its tasks is claimed meanwhile.
    let worker = worker.filter(|_| start.graph.len() <= PIECE);
    let roots = start.graph.roots().take(MAX_ROOTS_CLAIMED).count();
    let offered =
        worker.and_then(|worker| Some((worker, worker.may_claim()?, worker.offer(roots)?)));
    let Some((worker, claims, (offer, permits))) = offered else {
        return client.store().start(start).await;
    };
    start.offer = Some(offer);
    let mut begun = Box::pin(begin_here(Arc::clone(worker), start, permits, claims));
    // A caller that is alone writes it here, and then has the answer at once.
    if let Poll::Ready(answer) = poll_fn(|cx| Poll::Ready(begun.as_mut().poll(cx))).await {
        return answer;
    }
    // On a runtime of its own, so that it proceeds even if the caller polls seldom or drops the
    // start: the slots, and the tasks claimed into them, must not wait for the caller. And the
    // caller must not wait for tasks that occupy the threads of their runtime.
    match worker.own().spawn(begun).await {
        Ok(answer) => answer,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => Err(ApplyError::Store(StoreError::Io {
                path: client.store().name(),
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
    claims: OwnedRwLockReadGuard<()>,
) -> Result<Started, ApplyError> {
    let answer = worker.store.start(start).await;
    if matches!(&answer, Err(ApplyError::Store(error)) if !error.is_definite()) {
        worker.reconcile_soon();
    }
    let mut started = answer?;
    let claimed = std::mem::take(&mut started.claimed);
    if !claimed.is_empty() {
        let here = Arc::clone(&worker);
        // A thread of the tasks' runtime would keep them until its present task waits.
        worker.own().spawn(async move {
            here.launch(claimed, permits);
            drop(claims);
        });
    }
    Ok(started)
}

/// By number, ascending, without nodes that have none.
fn node_inputs(inputs: Vec<Option<String>>) -> Vec<(u32, Payload)> {
    let numbered = (1..).zip(inputs);
    let given = numbered.filter_map(|(number, input)| Some((number, Payload::from_json(input?))));
    given.collect()
}

/// The values by which a repeated start is recognised: the workflow's name, its input and, for a
/// graph built at run time, its nodes with their inputs. The rules and options are not included,
/// because another version may change them.
fn input_hash(
    workflow: &str,
    input: Option<&str>,
    graph: &Graph,
    nodes: &[Option<String>],
) -> Result<String, EngineError> {
    #[derive(Serialize)]
    struct StartedWith<'a> {
        workflow: &'a str,
        input: &'a RawValue,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        nodes: Vec<(&'a str, &'a RawValue)>,
    }
    let encode = |error| {
        let what = format!("what workflow `{workflow}` is started with");
        EngineError::Encode { what, error }
    };
    let mut given = StartedWith {
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
