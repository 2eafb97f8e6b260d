//! The SQLite driver: one file, one writer thread, read connections apart.

mod checkpoint;
mod commits;
pub(crate) mod connection;
mod load;
mod maintenance;
mod news;
mod queries;
mod rollup;
pub(crate) mod rows;
pub(crate) mod schema;
mod turnstile;
mod upkeep;
mod wake;
mod within;
mod workers;
mod write;
mod writer;

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use abide_core::ids::Timestamp;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::graphs::GraphCache;
use crate::hints::Hints;
use crate::job::{Answer, Job};
use crate::stats::{Counters, Stats};
use crate::{Clock, StoreOptions};

use connection::Database;
pub(crate) use queries::Reader;
use turnstile::Turnstile;
use wake::{ForeignWatch, Waker, Watched};
use workers::WorkerFiles;
use writer::Sent;

/// Read connections that are kept open for the next query.
const IDLE_READERS: usize = 4;

/// One open database file.
pub(crate) struct Sqlite {
    database: Database,
    sender: Mutex<Sender<Sent>>,
    readers: Mutex<Vec<Connection>>,
    graphs: Arc<GraphCache>,
    hints: Arc<Hints>,
    counters: Arc<Counters>,
    workers: Arc<WorkerFiles>,
    /// Of the files of this store's workers.
    wakes: OnceLock<ForeignWatch>,
    /// Of whatever others write.
    log: OnceLock<ForeignWatch>,
    commits: commits::Commits,
    clock: Clock,
}

impl Sqlite {
    /// Opens the file, brings it to the newest schema and starts the writer thread.
    pub(crate) fn open(
        path: PathBuf,
        options: &StoreOptions,
        hints: Arc<Hints>,
    ) -> Result<Sqlite, StoreError> {
        let database = Database::new(path, options.busy_timeout);
        let mut connection = database.open_writer(options.create)?;
        let database = database.resolved()?;
        schema::migrate(&database, &mut connection)?;
        let graphs = Arc::new(GraphCache::default());
        let counters = Arc::new(Counters::default());
        let workers = Arc::new(WorkerFiles::new(&database));
        let checkpoints = checkpoint::Checkpoints::start(&database)?;
        let clock = options
            .now
            .clone()
            .unwrap_or_else(|| Arc::new(crate::system_now));
        let writer = writer::Writer {
            waker: Waker::new(workers.clone()),
            turnstile: Turnstile::new(&database),
            database: database.clone(),
            clock: clock.clone(),
            graphs: graphs.clone(),
            hints: hints.clone(),
            counters: counters.clone(),
            workers: workers.clone(),
            foreign: writer::foreign(&connection).map_err(|error| database.error(error, false))?,
        };
        let (sender, sent) = channel();
        std::thread::Builder::new()
            .name("abide-writer".into())
            .spawn(move || writer.run(connection, checkpoints, &sent))
            .map_err(|error| StoreError::Internal(format!("no thread for the writer: {error}")))?;
        Ok(Sqlite {
            commits: commits::Commits::new(hints.clone(), workers.clone()),
            database,
            sender: Mutex::new(sender),
            readers: Mutex::default(),
            graphs,
            hints,
            counters,
            workers,
            wakes: OnceLock::new(),
            log: OnceLock::new(),
            clock,
        })
    }

    pub(crate) fn name(&self) -> String {
        self.database.name()
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.counters.read()
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Sends the writer something; the answer comes after the commit.
    fn send<T>(
        &self,
        make: impl FnOnce(Answer<T>) -> Sent,
    ) -> Result<oneshot::Receiver<T>, StoreError> {
        let (answer, receiver) = oneshot::channel();
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        sender.send(make(answer)).map_err(|_| StoreError::Closed)?;
        Ok(receiver)
    }

    /// Gives the writer a job.
    pub(crate) fn ask<T>(
        &self,
        make: impl FnOnce(Answer<T>) -> Job,
    ) -> Result<oneshot::Receiver<T>, StoreError> {
        self.send(|answer| Sent::Job(make(answer)))
    }

    /// Runs something on the write connection, in a transaction with whatever else waits.
    async fn errand<T: Send + 'static>(
        &self,
        what: &'static str,
        run: impl Fn(&Connection, Timestamp) -> maintenance::Run<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let errand = maintenance::errand(what, run);
        let answer = self.send(|answer| Sent::Errand(errand, answer))?;
        answer.await.map_err(|_| StoreError::Closed)?.map(of_errand)
    }

    /// Like [`Sqlite::errand`], for a thread outside the runtime.
    fn errand_blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        run: impl Fn(&Connection, Timestamp) -> maintenance::Run<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let errand = maintenance::errand(what, run);
        let answer = self.send(|answer| Sent::Errand(errand, answer))?;
        answer
            .blocking_recv()
            .map_err(|_| StoreError::Closed)?
            .map(of_errand)
    }

    /// Finishes what was asked and closes the file.
    pub(crate) async fn close(&self) {
        self.commits.close();
        if let Ok(answer) = self.send(Sent::Close) {
            // An error means that the thread had ended already.
            drop(answer.await);
        }
        self.workers.let_go_of_all();
    }

    /// Runs a query on a read connection, on this thread: queries touch few rows.
    pub(crate) fn read<T>(
        &self,
        query: impl FnOnce(&Reader<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = self
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.database.open_reader()?,
        };
        self.counters.add_read();
        let reader = Reader {
            database: &self.database,
            connection: &connection,
            graphs: &self.graphs,
        };
        let result = query(&reader);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < IDLE_READERS {
            readers.push(connection);
        }
        result
    }

    /// Turns changes by other processes into hints, from now on: what they tell this store's
    /// workers is heard anyway.
    pub(crate) fn watch_others(self: &Arc<Self>, all: bool) -> Result<(), StoreError> {
        if !all || self.log.get().is_some() {
            return Ok(());
        }
        let connection = self.database.open_reader()?;
        let mut last = None;
        let store = Arc::downgrade(self);
        let watch = ForeignWatch::start(&self.database, Watched::Log, move || {
            let Some(store) = store.upgrade() else { return };
            // Where that cannot be told there may always be something new.
            let version = writer::foreign(&connection).ok();
            if version.is_none() || version != last {
                last = version;
                store.look_around();
            }
        })?;
        // Another thread may have been first; its watch does as well.
        drop(self.log.set(watch));
        Ok(())
    }

    /// The watch of the files of this store's workers.
    fn wakes(self: &Arc<Self>) -> Result<&ForeignWatch, StoreError> {
        if let Some(watch) = self.wakes.get() {
            return Ok(watch);
        }
        let store = Arc::downgrade(self);
        let watch = ForeignWatch::start(&self.database, Watched::Workers, move || {
            if let Some(store) = store.upgrade() {
                store.look_around();
            }
        })?;
        Ok(self.wakes.get_or_init(|| watch))
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.workers.let_go_of_all();
    }
}

/// What an errand answered.
fn of_errand<T: 'static>(value: Box<dyn std::any::Any + Send>) -> T {
    *value
        .downcast()
        .expect("an errand answers the type it was built with")
}
