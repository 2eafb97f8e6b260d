//! The doors, the queries, and what keeps a store going.

use std::path::PathBuf;
use std::sync::Arc;

use abide_core::execution::REASON_DEADLINE;
use abide_core::graph::{Graph, Uses};
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{
    AddTasks, Cancel, CancelReply, Claimed, Held, PIECE, Publish, Recover, Recovered, Refusal,
    Reply, Request, Signal, Signalled, Start, Started,
};
use abide_core::payload::Payload;
use abide_core::step::StepRecord;
use abide_core::text;

use crate::answer::Waiting;
use crate::error::{ApplyError, StoreError};
use crate::hints::{EndWatch, Hints};
use crate::rollup::Rollup;
use crate::sqlite::{Job, Sqlite, WorkersLock, maintenance};
use crate::stats::Stats;
use crate::verify::{self, VerifyOptions, VerifyReport};
use crate::views::{
    EndView, EventFilter, EventView, ExecutionFilter, ExecutionView, TaskInputs, TaskView,
    VersionInfo, WorkerRow, WorkflowKind,
};
use crate::{Claims, Fired, StoreOptions};

/// One database home of executions. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Store {
    driver: Arc<Sqlite>,
    hints: Arc<Hints>,
    waiting: Arc<Waiting>,
    payload_limit_bytes: usize,
}

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoverySummary {
    /// Workers declared dead.
    pub workers: u32,
    /// Tasks that can be claimed again.
    pub recovered: u32,
    /// Tasks abandoned.
    pub abandoned: u32,
    /// Tasks cancelled with their execution.
    pub cancelled: u32,
    /// Tasks woken because this may be the code they wait for.
    pub woken_for_code: u32,
    /// Starts of large graphs that were never finished, removed.
    pub removed: u32,
}

/// Tasks taken back in one transaction.
const RECOVERY_BATCH: u32 = 500;

impl Store {
    /// Opens a store: a path, or `sqlite:` and a path. The file is created if it does not exist.
    ///
    /// # Errors
    ///
    /// [`StoreError`] says in words what is wrong with the address, the file or its directory.
    pub async fn open(url: &str, options: StoreOptions) -> Result<Store, StoreError> {
        let path = sqlite_path(url)?;
        let hints = Arc::new(Hints::default());
        let payload_limit_bytes = options.payload_limit_bytes;
        let driver_hints = hints.clone();
        let driver = blocking(move || Sqlite::open(path, &options, driver_hints)).await?;
        Ok(Store {
            driver: Arc::new(driver),
            hints,
            waiting: Arc::default(),
            payload_limit_bytes,
        })
    }

    /// The database's name, for messages.
    pub fn name(&self) -> String {
        self.driver.name()
    }

    /// The time as this store sees it.
    pub fn now(&self) -> Timestamp {
        (self.driver.clock)()
    }

    // ---- the two doors ----

    /// Applies a request: whole and durable when this answers `Ok`, or not at all.
    ///
    /// # Errors
    ///
    /// [`ApplyError::Refused`] if the rules refuse it; [`ApplyError::Store`] if it could not be
    /// written, whose [`StoreError::is_definite`] tells whether that is certain.
    pub async fn apply(&self, request: Request) -> Result<Reply, ApplyError> {
        let answer = self
            .driver
            .send(|answer| Job::Apply(Box::new(request), answer))?;
        self.waiting.until(answer).await?
    }

    /// Claims at most `max` tasks of these queues, and empties the worker's inbox.
    pub async fn claim(
        &self,
        worker: WorkerId,
        queues: Arc<[VersionId]>,
        max: u32,
    ) -> Result<Claims, StoreError> {
        let answer = self.driver.send(|answer| Job::Claim {
            worker,
            queues,
            max,
            answer,
        })?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Acts on at most `limit` timers that are due.
    pub async fn fire_timers(&self, limit: u32) -> Result<Fired, StoreError> {
        let answer = self
            .driver
            .send(|answer| Job::FireTimers { limit, answer })?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    // ---- requests with a typed answer ----

    /// Starts an execution; a large graph is written in pieces under an execution that nobody sees
    /// until the last.
    ///
    /// # Errors
    ///
    /// Names or payloads that cannot be stored, and what [`Store::apply`] says.
    pub async fn start(&self, start: Start) -> Result<Started, ApplyError> {
        self.check_start(&start)?;
        if start.graph.len() <= PIECE {
            return self.started(Request::Start(Box::new(start))).await;
        }
        let (graph, node_inputs) = (start.graph.clone(), start.node_inputs.clone());
        let publish = Publish {
            execution: start.id,
            input_hash: start.input_hash.clone(),
            if_exists: start.if_exists,
        };
        let begun = self
            .started(Request::Start(Box::new(Start {
                node_inputs: Vec::new(),
                ..start
            })))
            .await?;
        if !begun.created {
            return Ok(begun);
        }
        for first in (1..=graph.len()).step_by(PIECE as usize) {
            let last = graph.len().min(first + PIECE - 1);
            let of_piece = node_inputs
                .iter()
                .filter(|(number, _)| (first..=last).contains(number));
            let node_inputs = of_piece.cloned().collect();
            let piece = AddTasks {
                execution: publish.execution,
                graph: graph.clone(),
                first,
                last,
                node_inputs,
            };
            self.apply(Request::AddTasks(piece)).await?;
        }
        let id = publish.execution;
        let published = self.started(Request::Publish(publish)).await;
        if !matches!(&published, Ok(started) if started.id == id) {
            // Another start of the same instance was first.
            self.remove_unpublished(Some(id)).await?;
        }
        published
    }

    async fn started(&self, request: Request) -> Result<Started, ApplyError> {
        match self.apply(request).await? {
            Reply::Started(started) => Ok(started),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a signal to an instance.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownInstance`] and [`Refusal::InstanceEnded`], names or payloads that cannot
    /// be stored, and what [`Store::apply`] says.
    pub async fn signal(&self, signal: Signal) -> Result<Signalled, ApplyError> {
        check_name("signal", &signal.name)?;
        check_actor(signal.actor.as_deref())?;
        self.check_payload("the signal's payload", signal.payload.as_str())?;
        match self.apply(Request::Signal(signal)).await? {
            Reply::Signalled(signalled) => Ok(signalled),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks an execution to stop. On a stopped system it has stopped when this answers.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownExecution`] and [`Refusal::Ended`], a reason that is the engine's own, and
    /// what [`Store::apply`] says.
    pub async fn cancel(&self, cancel: Cancel) -> Result<CancelReply, ApplyError> {
        if cancel.reason == REASON_DEADLINE {
            let what = format!("the reason `{REASON_DEADLINE}` is kept for passed deadlines");
            return Err(StoreError::Invalid(what).into());
        }
        check_words("the reason", &cancel.reason)?;
        check_actor(cancel.actor.as_deref())?;
        let id = cancel.execution;
        let reply = match self.apply(Request::Cancel(cancel)).await? {
            Reply::Cancelled(reply) => reply,
            other => return Err(unexpected(&other)),
        };
        if reply.status.is_terminal() || self.has_workers() {
            return Ok(reply);
        }
        // Nobody else is there to go on with the pieces of a large graph.
        while self.fire_timers(16).await?.fired > 0 {}
        let status = self
            .execution(id)?
            .map_or(reply.status, |view| view.execution.status);
        Ok(CancelReply { status, ..reply })
    }

    // ---- workers ----

    /// Records a worker.
    pub async fn register_worker(&self, worker: WorkerRow) -> Result<(), StoreError> {
        self.errand("a worker", move |connection, _| {
            maintenance::register_worker(connection, &worker)
        })
        .await
    }

    /// Renews a worker's lease. False if it was declared dead.
    pub async fn heartbeat(
        &self,
        worker: WorkerId,
        lease_until: Timestamp,
    ) -> Result<bool, StoreError> {
        self.errand("a worker", move |connection, now| {
            maintenance::heartbeat(connection, now, worker, lease_until)
        })
        .await
    }

    /// Like [`Store::heartbeat`], for a thread outside the runtime.
    pub fn heartbeat_blocking(
        &self,
        worker: WorkerId,
        lease_until: Timestamp,
    ) -> Result<bool, StoreError> {
        let errand = maintenance::errand("a worker", move |connection, now| {
            maintenance::heartbeat(connection, now, worker, lease_until)
        });
        let answer = self.driver.send(|answer| Job::Errand(errand, answer))?;
        let value = answer.blocking_recv().map_err(|_| StoreError::Closed)??;
        Ok(downcast(value))
    }

    /// Records that a worker is gone.
    pub async fn end_worker(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.errand("a worker", move |connection, now| {
            maintenance::end_worker(connection, now, worker)
        })
        .await
    }

    /// Takes the workers' lock of the file, unless another process holds it.
    pub fn try_lock_workers(&self) -> Result<Option<WorkersLock>, StoreError> {
        self.driver.try_lock_workers()
    }

    /// Gives the workers' lock back.
    pub fn unlock_workers(&self, lock: WorkersLock) {
        self.driver.unlock_workers(lock);
    }

    /// Whether any process holds the workers' lock: whether somebody runs the tasks.
    pub fn has_workers(&self) -> bool {
        self.driver.has_workers()
    }

    /// Who holds the workers' lock, in words.
    pub fn lock_holder(&self) -> String {
        self.driver.lock_holder()
    }

    /// Takes back the tasks of every worker but `own`, who all are dead since the caller holds the
    /// workers' lock; wakes tasks that wait for other code; removes unfinished starts.
    pub async fn recover(
        &self,
        crash_cap: u32,
        own: WorkerId,
    ) -> Result<RecoverySummary, ApplyError> {
        let mut summary = RecoverySummary::default();
        let dead = self
            .errand("a worker", move |connection, _| {
                maintenance::other_workers(connection, own)
            })
            .await?;
        for worker in dead {
            self.recover_worker(worker, crash_cap, &mut summary).await?;
            self.end_worker(worker).await?;
            summary.workers += 1;
        }
        for timer in self
            .errand("a timer", |connection, _| {
                maintenance::waiting_for_code(connection)
            })
            .await?
        {
            self.apply(Request::Fire(timer)).await?;
            summary.woken_for_code += 1;
        }
        summary.removed = self.remove_unpublished(None).await?;
        Ok(summary)
    }

    async fn recover_worker(
        &self,
        worker: WorkerId,
        crash_cap: u32,
        summary: &mut RecoverySummary,
    ) -> Result<(), ApplyError> {
        loop {
            let left = self
                .errand("a held task", move |connection, _| {
                    maintenance::left_by(connection, worker, RECOVERY_BATCH)
                })
                .await?;
            let mut answers = Vec::with_capacity(left.len());
            for held in left {
                let reason = "the process that held it is gone".to_owned();
                let request = Request::Recover(Recover {
                    key: held.key,
                    worker,
                    crash_cap,
                    reason,
                });
                answers.push(
                    self.driver
                        .send(|answer| Job::Apply(Box::new(request), answer))?,
                );
            }
            let mut progress = false;
            for answer in answers {
                let recovered = match answer.await.map_err(|_| StoreError::Closed)? {
                    Ok(Reply::Recovered(recovered)) => recovered,
                    Ok(other) => return Err(unexpected(&other)),
                    Err(ApplyError::Store(error @ StoreError::Undecodable { .. })) => {
                        tracing::error!(%error, "a task of a dead worker cannot be taken back");
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                progress = true;
                match recovered {
                    Recovered::Recovered => summary.recovered += 1,
                    Recovered::Abandoned => summary.abandoned += 1,
                    Recovered::Cancelled => summary.cancelled += 1,
                    Recovered::Unchanged => {}
                }
            }
            if !progress {
                return Ok(());
            }
        }
    }

    async fn remove_unpublished(&self, id: Option<ExecutionId>) -> Result<u32, StoreError> {
        let what = "an unfinished start";
        let left = self
            .errand(what, move |connection, now| {
                maintenance::unpublished(connection, now, id)
            })
            .await?;
        for &id in &left {
            let remove = move || {
                self.errand(what, move |connection, _| {
                    maintenance::remove_unpublished(connection, id, PIECE)
                })
            };
            while !remove().await? {}
        }
        Ok(left.len() as u32)
    }

    // ---- workflow versions ----

    /// The id of a workflow version, recorded if it is new.
    pub async fn ensure_version(
        &self,
        name: &str,
        version: &str,
        kind: WorkflowKind,
        graph: Arc<Graph>,
    ) -> Result<VersionId, StoreError> {
        check_name("workflow", name)?;
        let (name, version) = (name.to_owned(), version.to_owned());
        self.errand("a workflow version", move |connection, now| {
            maintenance::ensure_version(connection, now, &name, &version, kind, &graph)
        })
        .await
    }

    /// Every stored workflow version.
    pub fn versions(&self) -> Result<Vec<VersionInfo>, StoreError> {
        self.driver.read(|reader| reader.versions())
    }

    // ---- hints ----

    /// What this process's loops wait on.
    pub fn hints(&self) -> Arc<Hints> {
        self.hints.clone()
    }

    /// Waits for the end of an execution. Take it before reading the status.
    pub fn watch_end(&self, id: ExecutionId) -> EndWatch {
        self.hints.watch_end(id)
    }

    /// Turns what other processes do into hints. The process that runs tasks only needs their
    /// wake-ups; one that observes (`all`) needs every change.
    pub fn watch_others(&self, all: bool) -> Result<(), StoreError> {
        self.driver.watch_others(all)
    }

    /// What this process asked of the store so far.
    pub fn stats(&self) -> Stats {
        self.driver.counters.read()
    }

    // ---- queries ----

    /// An execution.
    pub fn execution(&self, id: ExecutionId) -> Result<Option<ExecutionView>, StoreError> {
        self.driver.read(|reader| reader.execution(id))
    }

    /// The latest execution of an instance.
    pub fn latest(&self, instance: &str) -> Result<Option<ExecutionView>, StoreError> {
        self.driver.read(|reader| reader.latest(instance))
    }

    /// A generation of an instance.
    pub fn generation(
        &self,
        instance: &str,
        generation: u32,
    ) -> Result<Option<ExecutionView>, StoreError> {
        self.driver
            .read(|reader| reader.generation(instance, generation))
    }

    /// Executions, newest first, after the last id of the page before.
    pub fn executions(
        &self,
        filter: &ExecutionFilter,
        before: Option<ExecutionId>,
        limit: u32,
    ) -> Result<Vec<ExecutionView>, StoreError> {
        self.driver
            .read(|reader| reader.executions(filter, before, limit))
    }

    /// Tasks of an execution by number, after the last number of the page before.
    pub fn tasks(
        &self,
        id: ExecutionId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<TaskView>, StoreError> {
        self.driver.read(|reader| reader.tasks(id, after, limit))
    }

    /// An execution and what its tasks add up to, as of now and of one moment. Looks at each task.
    pub fn summary(&self, id: ExecutionId) -> Result<Option<(ExecutionView, Rollup)>, StoreError> {
        let now = self.now();
        self.driver.read(|reader| reader.summary(id, now))
    }

    /// The input that an execution was started with.
    pub fn input(&self, id: ExecutionId) -> Result<Option<Payload>, StoreError> {
        self.driver.read(|reader| reader.execution_input(id))
    }

    /// The position of the last event of all; 0 if there is none.
    pub fn last_position(&self) -> Result<i64, StoreError> {
        self.driver.read(|reader| reader.last_position())
    }

    /// Events, oldest first, after a position.
    pub fn events(
        &self,
        filter: &EventFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<EventView>, StoreError> {
        self.driver
            .read(|reader| reader.events(filter, after, limit))
    }

    /// Recorded operations of a task: ended ones in the order in which they ended, then waits.
    pub fn steps(&self, key: TaskKey) -> Result<Vec<StepRecord>, StoreError> {
        self.driver.read(|reader| reader.steps(key))
    }

    /// How an execution stands, with what it gave if it has ended.
    pub fn end(&self, id: ExecutionId) -> Result<Option<EndView>, StoreError> {
        self.driver.read(|reader| reader.end(id))
    }

    /// A task.
    pub fn task(&self, key: TaskKey) -> Result<Option<TaskView>, StoreError> {
        let found = self.tasks(key.execution, key.number.saturating_sub(1), 1)?;
        Ok(found.into_iter().find(|view| view.task.key == key))
    }

    /// What a claimed task is given to work with, as far as the code that will run asks for it,
    /// which may be newer than the graph it was started with.
    pub fn inputs(&self, claimed: &Claimed, uses: &Uses) -> Result<TaskInputs, StoreError> {
        self.driver.read(|reader| reader.inputs(claimed, uses))
    }

    /// The graph of an execution.
    pub fn graph(
        &self,
        id: ExecutionId,
        version: VersionId,
        own: bool,
    ) -> Result<Arc<Graph>, StoreError> {
        self.driver.read(|reader| reader.graph(id, version, own))
    }

    /// The tasks that a worker holds.
    pub fn held_by(&self, worker: WorkerId) -> Result<Vec<Held>, StoreError> {
        self.driver.read(|reader| reader.held_by(worker))
    }

    /// Workers that have not ended.
    pub fn workers(&self) -> Result<Vec<WorkerRow>, StoreError> {
        self.driver.read(|reader| reader.workers())
    }

    /// Checks whether everything stored keeps the store's promises, as of one moment, on a
    /// connection of its own. Work goes on meanwhile.
    pub async fn verify(&self, options: VerifyOptions) -> Result<VerifyReport, StoreError> {
        let driver = self.driver.clone();
        blocking(move || {
            let connection = driver.database().open_reader()?;
            verify::run(driver.database(), &connection, &options)
        })
        .await
    }

    /// Finishes what was asked, and closes the file. Later requests answer [`StoreError::Closed`].
    pub async fn close(&self) {
        if let Ok(answer) = self.driver.send(Job::Close) {
            // An error means that the thread had ended already.
            drop(answer.await);
        }
    }

    // ---- checks at the door ----

    /// That a payload can be stored: within the limit, and free of NUL characters.
    pub fn check_payload(&self, what: &str, json: &str) -> Result<(), StoreError> {
        if json.len() > self.payload_limit_bytes {
            return Err(StoreError::Invalid(format!(
                "{what} has {} bytes, the limit is {}: keep large data elsewhere and pass a reference, or raise the payload limit",
                json.len(),
                self.payload_limit_bytes
            )));
        }
        if json.starts_with('@') {
            // No JSON does, and the store would take it for one of its references.
            return Err(StoreError::Invalid(format!("{what} is not JSON")));
        }
        text::check_payload(json).map_err(|error| StoreError::Invalid(format!("{what}: {error}")))
    }

    fn check_start(&self, start: &Start) -> Result<(), StoreError> {
        check_name("instance id", &start.instance)?;
        check_actor(start.actor.as_deref())?;
        if let Some(tags) = &start.tags {
            self.check_payload("the tags", tags)?;
        }
        if let Some(input) = &start.input {
            self.check_payload("the input", input.as_str())?;
        }
        for (number, input) in &start.node_inputs {
            self.check_payload("the input of a node", input.as_str())
                .map_err(|error| {
                    StoreError::Invalid(format!("node `{}`: {error}", start.graph.node_id(*number)))
                })?;
        }
        Ok(())
    }

    async fn errand<T: Send + 'static>(
        &self,
        what: &'static str,
        run: impl Fn(&rusqlite::Connection, Timestamp) -> maintenance::Run<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let errand = maintenance::errand(what, run);
        let answer = self.driver.send(|answer| Job::Errand(errand, answer))?;
        let value = answer.await.map_err(|_| StoreError::Closed)??;
        Ok(downcast(value))
    }
}

fn downcast<T: 'static>(value: Box<dyn std::any::Any + Send>) -> T {
    *value
        .downcast()
        .expect("an errand answers the type it was built with")
}

fn check_name(what: &str, name: &str) -> Result<(), StoreError> {
    text::check_name(what, name).map_err(|error| StoreError::Invalid(error.to_string()))
}

fn check_actor(actor: Option<&str>) -> Result<(), StoreError> {
    actor.map_or(Ok(()), |actor| check_name("actor", actor))
}

/// Free text of a person: any length that a person writes, any character but NUL.
fn check_words(what: &str, words: &str) -> Result<(), StoreError> {
    const MAX_BYTES: usize = 4096;
    if words.len() > MAX_BYTES {
        let bytes = words.len();
        return Err(StoreError::Invalid(format!(
            "{what} has {bytes} bytes, the limit is {MAX_BYTES}"
        )));
    }
    if words.contains('\0') {
        return Err(StoreError::Invalid(format!("{what} holds a NUL character")));
    }
    Ok(())
}

fn unexpected(reply: &Reply) -> ApplyError {
    ApplyError::Store(StoreError::Internal(format!(
        "an answer of another kind: {reply:?}"
    )))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(StoreError::Internal(error.to_string())))
}

/// The path that an address names.
pub(crate) fn sqlite_path(url: &str) -> Result<PathBuf, StoreError> {
    let path = match url.split_once(':') {
        Some(("sqlite", path)) => path.strip_prefix("//").unwrap_or(path),
        Some(("postgres" | "postgresql", _)) => {
            return Err(StoreError::Invalid(
                "PostgreSQL is not supported yet: name a SQLite file, such as `sqlite:app.db`"
                    .into(),
            ));
        }
        // A scheme has at least two letters, a Windows drive has one.
        Some((scheme, _))
            if scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) =>
        {
            return Err(StoreError::Invalid(format!(
                "`{scheme}:` is no kind of store: name a SQLite file, such as `sqlite:app.db`"
            )));
        }
        _ => url,
    };
    if path.is_empty() || path == ":memory:" || path.contains('\0') {
        return Err(StoreError::Invalid(format!(
            "`{}` names no file",
            url.escape_debug()
        )));
    }
    Ok(PathBuf::from(path))
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.name()).finish()
    }
}

/// Why a start or signal was refused, if it was the rules that refused it.
impl ApplyError {
    /// The refusal, unless it was the store that failed.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            ApplyError::Refused(refusal) => Some(refusal),
            ApplyError::Store(_) => None,
        }
    }
}
