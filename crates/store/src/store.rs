//! The doors, the queries, and what keeps a store going.

use std::path::PathBuf;
use std::sync::Arc;

use abide_core::execution::REASON_DEADLINE;
use abide_core::ids::{ExecutionId, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{
    AddTasks, Cancel, CancelReply, PIECE, Publish, Refusal, Reply, Request, Signal, Signalled,
    Start, Started,
};
use tokio::sync::oneshot;

use crate::answer::Waiting;
use crate::checks::{check_actor, check_words};
use crate::driver::{Driver, on};
use crate::error::{ApplyError, StoreError};
use crate::hints::{EndWatch, Hints};
use crate::job::{Answer, Job};
use crate::postgres::Postgres;
use crate::sqlite::Sqlite;
use crate::stats::Stats;
use crate::upkeep::LeftAside;
use crate::verify::{self, VerifyOptions, VerifyReport};
use crate::{Claims, Fired, StoreOptions};

/// One database home of executions. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Store {
    pub(crate) driver: Driver,
    hints: Arc<Hints>,
    waiting: Arc<Waiting>,
    pub(crate) left_aside: Arc<LeftAside>,
    pub(crate) payload_limit_bytes: usize,
}

impl Store {
    /// Opens a store: a path, or `sqlite:` and a path, whose file is created if it does not exist;
    /// or a `postgres://` address, whose parameter `schema` names the store (default `abide`).
    ///
    /// # Errors
    ///
    /// [`StoreError`] says in words what is wrong with the address, the file or the server.
    pub async fn open(url: &str, options: StoreOptions) -> Result<Store, StoreError> {
        let hints = Arc::new(Hints::default());
        let payload_limit_bytes = options.payload_limit_bytes;
        let driver = if Store::is_postgres(url) {
            Driver::Postgres(Postgres::open(url, &options, hints.clone()).await?)
        } else {
            let path = sqlite_path(url)?;
            let hints = hints.clone();
            let sqlite = blocking(move || Sqlite::open(path, &options, hints)).await?;
            Driver::Sqlite(Arc::new(sqlite))
        };
        Ok(Store {
            driver,
            hints,
            waiting: Arc::default(),
            left_aside: Arc::default(),
            payload_limit_bytes,
        })
    }

    /// Whether an address is of a PostgreSQL store.
    pub fn is_postgres(url: &str) -> bool {
        matches!(url.split_once("://"), Some(("postgres" | "postgresql", _)))
    }

    /// The database's name, for messages.
    pub fn name(&self) -> String {
        on!(self.driver, it => it.name())
    }

    /// The time as this store sees it.
    pub fn now(&self) -> Timestamp {
        on!(self.driver, it => it.now())
    }

    /// Gives the writer a job.
    pub(crate) fn ask<T>(
        &self,
        make: impl FnOnce(Answer<T>) -> Job,
    ) -> Result<oneshot::Receiver<T>, StoreError> {
        on!(self.driver, it => it.ask(make))
    }

    // ---- the two doors ----

    /// Applies a request: whole and durable when this answers `Ok`, or not at all.
    ///
    /// # Errors
    ///
    /// [`ApplyError::Refused`] if the rules refuse it; [`ApplyError::Store`] if it could not be
    /// written, whose [`StoreError::is_definite`] tells whether that is certain.
    pub async fn apply(&self, request: Request) -> Result<Reply, ApplyError> {
        let answer = self.ask(|answer| Job::Apply(Box::new(request), answer))?;
        match self.driver {
            Driver::Sqlite(_) => self.waiting.until(answer).await?,
            // A commit over a network takes longer than waking a thread.
            Driver::Postgres(_) => answer.await.map_err(|_| StoreError::Closed)?,
        }
    }

    /// Claims at most `max` tasks of these queues, and empties the worker's inbox.
    pub async fn claim(
        &self,
        worker: WorkerId,
        queues: Arc<[VersionId]>,
        max: u32,
    ) -> Result<Claims, StoreError> {
        let answer = self.ask(|answer| Job::Claim {
            worker,
            queues,
            max,
            answer,
        })?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Acts on at most `limit` timers that are due.
    pub async fn fire_timers(&self, limit: u32) -> Result<Fired, StoreError> {
        let answer = self.ask(|answer| Job::FireTimers { limit, answer })?;
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
        let id = start.id;
        let mut requests = requests(start).into_iter();
        let first = requests.next().expect("a start takes a request");
        let begun = self.started(first).await?;
        if !begun.created || requests.len() == 0 {
            return Ok(begun);
        }
        let publish = requests.next_back().expect("not empty");
        for piece in requests {
            self.apply(piece).await?;
        }
        let published = self.started(publish).await;
        if !matches!(&published, Ok(started) if started.id == id) {
            // Another start of the same instance was first.
            self.remove_unpublished(id).await?;
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
        self.check_signal(&signal)?;
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
        if reply.status.is_terminal() || self.has_workers().await? {
            return Ok(reply);
        }
        // Nobody else is there to go on with the pieces of a large graph.
        while self.fire_timers(16).await?.fired > 0 {}
        let status = self
            .execution(id)
            .await?
            .map_or(reply.status, |view| view.execution.status);
        Ok(CancelReply { status, ..reply })
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
        on!(self.driver, it => it.watch_others(all))
    }

    /// What this process asked of the store so far.
    pub fn stats(&self) -> Stats {
        on!(self.driver, it => it.stats())
    }

    /// Checks whether everything stored keeps the store's promises, as of one moment, on a
    /// connection of its own. Work goes on meanwhile.
    pub async fn verify(&self, options: VerifyOptions) -> Result<VerifyReport, StoreError> {
        match &self.driver {
            Driver::Sqlite(driver) => {
                let driver = driver.clone();
                blocking(move || {
                    let connection = driver.database().open_reader()?;
                    verify::run(driver.database(), &connection, &options)
                })
                .await
            }
            Driver::Postgres(driver) => driver.verify(options).await,
        }
    }

    /// Finishes what was asked, and closes the database. Later requests answer
    /// [`StoreError::Closed`].
    pub async fn close(&self) {
        on!(self.driver, it => it.close().await);
    }
}

/// The requests that a start takes, in order: one; or for a large graph one that nobody sees the
/// execution of, the pieces of the graph, and one that publishes it.
pub(crate) fn requests(start: Start) -> Vec<Request> {
    if start.graph.len() <= PIECE {
        return vec![Request::Start(Box::new(start))];
    }
    let (execution, graph, inputs) = (start.id, start.graph.clone(), start.node_inputs.clone());
    let publish = Publish {
        execution,
        input_hash: start.input_hash.clone(),
        if_exists: start.if_exists,
    };
    let begin = Start {
        node_inputs: Vec::new(),
        ..start
    };
    let mut requests = vec![Request::Start(Box::new(begin))];
    for first in (1..=graph.len()).step_by(PIECE as usize) {
        let last = graph.len().min(first + PIECE - 1);
        let of_piece = inputs
            .iter()
            .filter(|(number, _)| (first..=last).contains(number));
        requests.push(Request::AddTasks(AddTasks {
            execution,
            graph: graph.clone(),
            first,
            last,
            node_inputs: of_piece.cloned().collect(),
        }));
    }
    requests.push(Request::Publish(publish));
    requests
}

pub(crate) fn unexpected(reply: &Reply) -> ApplyError {
    ApplyError::Store(StoreError::Internal(format!(
        "an answer of another kind: {reply:?}"
    )))
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(StoreError::Internal(error.to_string())))
}

/// The path that an address names.
pub(crate) fn sqlite_path(url: &str) -> Result<PathBuf, StoreError> {
    let path = match url.split_once(':') {
        Some(("sqlite", path)) => path.strip_prefix("//").unwrap_or(path),
        // A scheme has at least two letters, a Windows drive has one.
        Some((scheme, _))
            if scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphabetic()) =>
        {
            return Err(StoreError::Invalid(format!(
                "`{scheme}:` is no kind of store: name a SQLite file, such as `sqlite:app.db`, or a PostgreSQL database, such as `postgres://user@host/database`"
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
