//! The doors, the queries, and what keeps a store going.

use std::path::PathBuf;
use std::sync::Arc;

use abide_core::ids::{ExecutionId, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{
    Act, Acted, AddTasks, Ask, PIECE, Publish, Refusal, Request, Signal, Signalled, Standing,
    Start, Started,
};
use abide_core::status::ExecutionStatus;
use tokio::sync::oneshot;

use crate::checks::{check_act, check_payload, check_signal, check_start};
use crate::driver::{Driver, on};
use crate::error::{ApplyError, StoreError};
use crate::hints::{EndWatch, Hints};
use crate::job::{Answer, Job};
use crate::left_aside::LeftAside;
use crate::location::Location;
use crate::migrations::Migrations;
#[cfg(feature = "postgres")]
use crate::postgres::Postgres;
#[cfg(feature = "sqlite")]
use crate::sqlite::Sqlite;
use crate::stats::Stats;
#[cfg(feature = "sqlite")]
use crate::verify::{self, VerifyOptions, VerifyReport};
use crate::{Claims, Fired, StoreOptions};

/// One database home of executions. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Store {
    pub(crate) driver: Driver,
    hints: Arc<Hints>,
    pub(crate) left_aside: Arc<LeftAside>,
    pub(crate) payload_limit_bytes: usize,
}

impl Store {
    /// Opens a store: a path, or `sqlite:` and a path, whose file is created if it does not exist;
    /// or a `postgres://` address, whose parameter `schema` names the store (default `abide`).
    /// After a path, `?mode=rwc` is accepted and changes nothing; any other parameter is refused.
    ///
    /// # Errors
    ///
    /// [`StoreError`] says in words what is wrong with the address, the file or the server. An
    /// address that can't be read is not repeated, since it may hold a password. A `postgres://`
    /// address needs the feature `postgres`, a file the feature `sqlite`; the error names the one
    /// that is missing.
    pub async fn open(url: &str, options: StoreOptions) -> Result<Store, StoreError> {
        Store::open_with(url, options, None).await
    }

    /// The same with other versions of the schema than this program's, if some are given.
    pub(crate) async fn open_with(
        url: &str,
        options: StoreOptions,
        migrations: Option<&'static Migrations>,
    ) -> Result<Store, StoreError> {
        let hints = Arc::new(Hints::default());
        let payload_limit_bytes = options.payload_limit_bytes;
        let driver = match Location::parse(url)? {
            Location::Server(address) => {
                open_postgres(address, &options, &hints, migrations).await?
            }
            Location::File(path) => open_sqlite(path, options, &hints, migrations).await?,
        };
        Ok(Store {
            driver,
            hints,
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

    /// Gives the writer a job and waits until it is done.
    async fn answer<T>(&self, make: impl FnOnce(Answer<T>) -> Job) -> Result<T, StoreError> {
        on!(self.driver, it => it.answer(make).await)
    }

    // ---- the two doors ----

    /// Applies a request: whole and durable when this answers `Ok`, or not at all. The type of the
    /// answer follows from that of the request.
    ///
    /// # Errors
    ///
    /// [`ApplyError::Refused`] if the rules refuse it; [`ApplyError::Store`] if it could not be
    /// written, whose [`StoreError::is_definite`] tells whether that is certain.
    pub async fn apply<A: Ask>(&self, ask: A) -> Result<A::Answer, ApplyError> {
        let request = Box::new(ask.into());
        let reply = self.answer(|answer| Job::Apply(request, answer)).await?;
        reply.map(A::answer)
    }

    /// Claims at most `max` tasks of these queues, and empties the worker's inbox.
    pub async fn claim(
        &self,
        worker: WorkerId,
        queues: Arc<[VersionId]>,
        max: u32,
    ) -> Result<Claims, StoreError> {
        let claim = |answer| Job::Claim {
            worker,
            queues,
            max,
            answer,
        };
        self.answer(claim).await?
    }

    /// Acts on at most `limit` timers that are due.
    pub async fn fire_timers(&self, limit: u32) -> Result<Fired, StoreError> {
        self.answer(|answer| Job::FireTimers { limit, answer })
            .await?
    }

    // ---- what users ask ----

    /// That a payload can be stored: within the limit, and free of NUL characters.
    pub fn check_payload(&self, what: &str, json: &str) -> Result<(), StoreError> {
        check_payload(what, json, self.payload_limit_bytes)
    }

    /// Starts an execution; a large graph is written in pieces under an execution that nobody sees
    /// until the last.
    ///
    /// # Errors
    ///
    /// Names or payloads that cannot be stored, and what [`Store::apply`] says.
    pub async fn start(&self, start: Start) -> Result<Started, ApplyError> {
        check_start(&start, self.payload_limit_bytes)?;
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
        // The first and the last request of a start answer alike.
        self.apply(request).await.map(Start::answer)
    }

    /// Sends a signal to an instance.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownInstance`] and [`Refusal::InstanceEnded`], names or payloads that cannot
    /// be stored, and what [`Store::apply`] says.
    pub async fn signal(&self, signal: Signal) -> Result<Signalled, ApplyError> {
        check_signal(&signal, self.payload_limit_bytes)?;
        self.apply(signal).await
    }

    /// Does what a person or program asks. An execution that is cancelled on a stopped system has
    /// stopped when this answers.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownExecution`], [`Refusal::UnknownInstance`], [`Refusal::NotAllowed`],
    /// [`Refusal::Stale`] and [`Refusal::TooManyReady`]; a reason that is the engine's own or that can't be stored; and what
    /// [`Store::apply`] says.
    pub async fn act(&self, act: Act) -> Result<Acted, ApplyError> {
        check_act(&act)?;
        let acted = self.apply(act).await?;
        if acted.status() != ExecutionStatus::Cancelling || self.has_workers().await? {
            return Ok(acted);
        }
        // No worker is alive, so this call itself runs the remaining pieces of the cancellation.
        while self.fire_timers(16).await?.fired > 0 {}
        let view = self.execution(acted.standing().execution).await?;
        let now = view.map_or(acted.standing(), |view| Standing {
            status: view.execution.status,
            version: view.execution.version,
            ..acted.standing()
        });
        Ok(match acted {
            Acted::Changed(_) => Acted::Changed(now),
            Acted::Unchanged(_) => Acted::Unchanged(now),
        })
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
    /// connection of its own. Work goes on meanwhile. A PostgreSQL store is copied into a temporary
    /// SQLite file first, so this takes the feature `sqlite` for both databases.
    #[cfg(feature = "sqlite")]
    pub async fn verify(&self, options: VerifyOptions) -> Result<VerifyReport, StoreError> {
        match &self.driver {
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(driver) => {
                let driver = driver.clone();
                blocking(move || {
                    let connection = driver.database().open_reader()?;
                    verify::run(driver.database(), &connection, &options)
                })
                .await
            }
            #[cfg(feature = "postgres")]
            Driver::Postgres(driver) => driver.verify(options).await,
        }
    }

    /// SQLite: writes the log back into the main file, so that the one file is the whole database,
    /// unless another process reads or writes at the moment. Does nothing on PostgreSQL.
    ///
    /// # Errors
    ///
    /// [`StoreError::Closed`].
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        match &self.driver {
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(driver) => driver.checkpoint().await,
            #[cfg(feature = "postgres")]
            Driver::Postgres(_) => Ok(()),
        }
    }

    /// Finishes what was asked, and closes the database. Later requests answer
    /// [`StoreError::Closed`].
    pub async fn close(&self) {
        on!(self.driver, it => it.close().await);
    }
}

#[cfg(feature = "postgres")]
async fn open_postgres(
    url: &str,
    options: &StoreOptions,
    hints: &Arc<Hints>,
    migrations: Option<&'static Migrations>,
) -> Result<Driver, StoreError> {
    let migrations = migrations.unwrap_or(&crate::postgres::MIGRATIONS);
    let postgres = Postgres::open(url, options, hints.clone(), migrations).await?;
    Ok(Driver::Postgres(postgres))
}

#[cfg(feature = "sqlite")]
async fn open_sqlite(
    path: PathBuf,
    options: StoreOptions,
    hints: &Arc<Hints>,
    migrations: Option<&'static Migrations>,
) -> Result<Driver, StoreError> {
    let hints = hints.clone();
    let migrations = migrations.unwrap_or(&crate::sqlite::schema::MIGRATIONS);
    let sqlite = blocking(move || Sqlite::open(path, &options, hints, migrations)).await?;
    Ok(Driver::Sqlite(Arc::new(sqlite)))
}

#[cfg(not(feature = "sqlite"))]
async fn open_sqlite(
    _path: PathBuf,
    _options: StoreOptions,
    _hints: &Arc<Hints>,
    _migrations: Option<&'static Migrations>,
) -> Result<Driver, StoreError> {
    Err(not_compiled_in("SQLite", "sqlite"))
}

#[cfg(not(feature = "postgres"))]
async fn open_postgres(
    _url: &str,
    _options: &StoreOptions,
    _hints: &Arc<Hints>,
    _migrations: Option<&'static Migrations>,
) -> Result<Driver, StoreError> {
    Err(not_compiled_in("PostgreSQL", "postgres"))
}

/// The address names a database whose driver was left out of the program. The message leaves out
/// the address, which may hold a password.
#[cfg(any(test, not(all(feature = "sqlite", feature = "postgres"))))]
fn not_compiled_in(database: &str, feature: &str) -> StoreError {
    StoreError::Invalid(format!(
        "this program was built without {database}, which the address asks for: enable the feature `{feature}` of the crate `abide`"
    ))
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

#[cfg(feature = "sqlite")]
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(StoreError::Internal(error.to_string())))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_not_compiled_in_is_refused_by_the_name_of_its_feature() {
        for (database, feature) in [("SQLite", "sqlite"), ("PostgreSQL", "postgres")] {
            let error = not_compiled_in(database, feature).to_string();
            assert!(
                error.contains(&format!("built without {database}")),
                "{error}"
            );
            assert!(error.contains(&format!("feature `{feature}`")), "{error}");
        }
    }
}
