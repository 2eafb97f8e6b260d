//! The SQLite driver: one file, one connection that writes, and read connections.

mod answer;
mod checkpoint;
mod commits;
pub(crate) mod connection;
mod desk;
mod identity;
mod load;
mod maintenance;
mod news;
mod permissions;
mod poll;
mod process;
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
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use abide_core::ids::{Timestamp, WorkerId};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::graphs::GraphCache;
use crate::hints::Hints;
use crate::job::{Answer, Job};
use crate::migrations::Migrations;
use crate::stats::{Counters, Stats};
use crate::{Clock, StoreOptions};

use answer::Waiting;
use connection::Database;
use desk::Desk;
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
    desk: Arc<Desk>,
    waiting: Waiting,
    writer: Mutex<Option<JoinHandle<()>>>,
    readers: Mutex<Readers>,
    graphs: Arc<GraphCache>,
    hints: Arc<Hints>,
    counters: Arc<Counters>,
    workers: Arc<WorkerFiles>,
    /// Of the files of this store's workers.
    wakes: Mutex<Option<ForeignWatch>>,
    /// Of whatever others write.
    log: Mutex<Option<ForeignWatch>>,
    /// Whether it was said that changes are looked for instead of being told.
    polls: Arc<AtomicBool>,
    commits: commits::Commits,
    clock: Clock,
}

/// Read connections.
#[derive(Default)]
struct Readers {
    idle: Vec<Connection>,
    closed: bool,
}

impl Sqlite {
    /// Opens the file, brings it to the newest schema and starts the writer thread.
    pub(crate) fn open(
        path: PathBuf,
        options: &StoreOptions,
        hints: Arc<Hints>,
        migrations: &'static Migrations,
    ) -> Result<Sqlite, StoreError> {
        check_mode(options.file_mode)?;
        let database = Database::new(path, options.busy_timeout)
            .with_mode(options.file_mode)
            .with_migrations(migrations);
        identity::refuse_second_name(&database)?;
        let named = database.clone().resolved().unwrap_or(database.clone());
        WorkerFiles::new(&named).refuse_other_file(&named)?;
        let connection = database.open_writer(options.create)?;
        let database = database.resolved()?;
        schema::migrate(&database, &connection)?;
        let database = database.identified()?;
        let graphs = Arc::new(GraphCache::default());
        let counters = Arc::new(Counters::default());
        let workers = Arc::new(WorkerFiles::new(&database));
        let checkpoints = checkpoint::Checkpoints::start(&database, &connection)?;
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
            pace: Duration::ZERO,
            quick: writer::QUICK,
            connection,
            checkpoints,
        };
        let desk = Arc::new(Desk::new(writer));
        let writer = desk
            .start()
            .map_err(|error| StoreError::Internal(format!("no thread for the writer: {error}")))?;
        Ok(Sqlite {
            commits: commits::Commits::new(hints.clone(), workers.clone()),
            database,
            desk,
            waiting: Waiting::default(),
            writer: Mutex::new(Some(writer)),
            readers: Mutex::default(),
            graphs,
            hints,
            counters,
            workers,
            wakes: Mutex::default(),
            log: Mutex::default(),
            polls: Arc::default(),
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

    /// Puts something at the end of what waits for the writer.
    fn push<T>(
        &self,
        make: impl FnOnce(Answer<T>) -> Sent,
    ) -> Result<oneshot::Receiver<T>, StoreError> {
        let (answer, receiver) = oneshot::channel();
        self.desk.push(make(answer))?;
        Ok(receiver)
    }

    /// Sends the writer something; the answer comes after the commit.
    fn send<T>(
        &self,
        make: impl FnOnce(Answer<T>) -> Sent,
    ) -> Result<oneshot::Receiver<T>, StoreError> {
        let answer = self.push(make)?;
        self.desk.wake();
        Ok(answer)
    }

    /// Gives the writer a job.
    pub(crate) fn ask<T>(
        &self,
        make: impl FnOnce(Answer<T>) -> Job,
    ) -> Result<oneshot::Receiver<T>, StoreError> {
        self.send(|answer| Sent::Job(make(answer)))
    }

    /// Gives the writer a job and waits until it is done. A caller that is alone may write it itself.
    pub(crate) async fn answer<T>(
        &self,
        make: impl FnOnce(Answer<T>) -> Job,
    ) -> Result<T, StoreError> {
        let place = self.waiting.enter();
        let answer = self.push(|answer| Sent::Job(make(answer)))?;
        if place.is_likely_alone() {
            self.desk.write_here();
            return place.written_here(answer).await;
        }
        self.desk.wake();
        place.until(answer).await
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

    /// Writes the log back into the main file, unless another process is in the way.
    pub(crate) async fn checkpoint(&self) -> Result<(), StoreError> {
        let answer = self.send(Sent::Checkpoint)?;
        answer.await.map_err(|_| StoreError::Closed)
    }

    /// Finishes what was asked and closes the file.
    pub(crate) async fn close(&self) {
        self.close_readers();
        if let Ok(answer) = self.send(Sent::Close) {
            // An error means that the thread had ended already.
            drop(answer.await);
        }
        self.workers.let_go_of_all();
    }

    /// Closes every connection but the writer's, which is to be the last: SQLite then leaves no log.
    fn close_readers(&self) {
        self.commits.close();
        drop(locked(&self.log).take());
        drop(locked(&self.wakes).take());
        let mut readers = locked(&self.readers);
        readers.closed = true;
        readers.idle.clear();
    }

    /// Runs a query on a read connection, on this thread: queries touch few rows.
    pub(crate) fn read<T>(
        &self,
        query: impl FnOnce(&Reader<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut readers = locked(&self.readers);
        if readers.closed {
            return Err(StoreError::Closed);
        }
        let idle = readers.idle.pop();
        drop(readers);
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
        let mut readers = locked(&self.readers);
        if readers.idle.len() < IDLE_READERS && !readers.closed {
            readers.idle.push(connection);
        }
        result
    }

    /// Turns changes by other processes into hints, from now on: what they tell this store's
    /// workers is heard anyway.
    pub(crate) fn watch_others(self: &Arc<Self>, all: bool) -> Result<(), StoreError> {
        let mut log = locked(&self.log);
        if !all || log.is_some() {
            return Ok(());
        }
        let connection = self.database.open_reader()?;
        let mut last = None;
        let store = Arc::downgrade(self);
        let watch = ForeignWatch::start(&self.database, Watched::Log, &self.polls, move || {
            let Some(store) = store.upgrade() else { return };
            store.look_for_file();
            // Where that cannot be told there may always be something new.
            let version = writer::foreign(&connection).ok();
            if version.is_none() || version != last {
                last = version;
                store.look_around();
            }
        })?;
        *log = Some(watch);
        Ok(())
    }

    /// Looks around whenever the file of one of this store's workers is touched.
    fn watch_worker(self: &Arc<Self>, id: WorkerId) -> Result<(), StoreError> {
        let mut wakes = locked(&self.wakes);
        if wakes.is_none() {
            let store = Arc::downgrade(self);
            let look = move || {
                if let Some(store) = store.upgrade() {
                    store.look_around();
                }
            };
            let watched = Watched::Workers;
            *wakes = Some(ForeignWatch::start(
                &self.database,
                watched,
                &self.polls,
                look,
            )?);
        }
        match &*wakes {
            Some(watch) => watch.add(&self.workers.path(id)),
            None => Ok(()),
        }
    }

    /// Looks at a worker's file no more. The system stops by itself to watch a file that is removed,
    /// and then complains of being told so: this comes before the file is removed.
    fn unwatch_worker(&self, id: WorkerId) {
        if let Some(watch) = &*locked(&self.wakes) {
            watch.remove(&self.workers.path(id));
        }
    }
}

impl Drop for Sqlite {
    /// Waits until the writer has closed the file: the process may end right after this, and what is
    /// left of the log then is not in the main file.
    fn drop(&mut self) {
        self.close_readers();
        self.desk.close();
        let writer = locked(&self.writer).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the writer's thread panicked");
        }
        self.workers.let_go_of_all();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refuses permissions under which the store could not use its own files.
fn check_mode(mode: u32) -> Result<(), StoreError> {
    if mode & !0o666 == 0 && mode & 0o600 == 0o600 {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "the file mode is {mode:#o}: it must let the owner read and write (0o600), and may let others do so, \
         but has no other bits"
    )))
}

/// What an errand answered.
fn of_errand<T: 'static>(value: Box<dyn std::any::Any + Send>) -> T {
    *value
        .downcast()
        .expect("an errand answers the type it was built with")
}
