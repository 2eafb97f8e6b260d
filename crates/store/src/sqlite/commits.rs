//! Looks for the commits of users' own transactions, which nobody tells the store of: a thread asks
//! SQLite every now and then whether anybody committed, and looks then for what was written in such
//! a transaction. Where it gives up, the heartbeat's look finds it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use abide_core::ids::ExecutionId;
use abide_core::kernel::{Reply, Request};
use rusqlite::{Connection, params};

use crate::error::StoreError;
use crate::flush::After;
use crate::hints::Hints;

use super::connection::Database;
use super::wake::Waker;
use super::workers::WorkerFiles;
use super::writer::foreign;

/// How long a transaction's commit is looked for. One that was rolled back is never found.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Pauses between two looks, while the youngest of what is looked for is younger than that.
const PAUSES: [(Duration, Duration); 2] = [
    (Duration::from_millis(100), Duration::from_millis(1)),
    (Duration::from_secs(2), Duration::from_millis(5)),
];
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A row that is there once its transaction has committed.
pub(crate) enum Trace {
    Execution(ExecutionId),
    Signal {
        instance: Arc<str>,
        name: Arc<str>,
        number: i64,
    },
}

impl Trace {
    /// What is left by requests that came to this.
    pub(crate) fn of(reply: &Reply, requests: &[Request]) -> Trace {
        match (reply, requests) {
            (Reply::Started(started), _) => Trace::Execution(started.id),
            (Reply::Signalled(signalled), [Request::Signal(signal)]) => Trace::Signal {
                instance: signal.instance.clone(),
                name: signal.name.clone(),
                number: signalled.number,
            },
            _ => unreachable!("a start or a signal"),
        }
    }

    fn is_there(&self, connection: &Connection) -> rusqlite::Result<bool> {
        match self {
            Trace::Execution(id) => connection
                .prepare_cached("SELECT 1 FROM executions WHERE id = ?1")?
                .exists([id.0]),
            Trace::Signal {
                instance,
                name,
                number,
            } => connection
                .prepare_cached(
                    "SELECT 1 FROM signals WHERE instance = ?1 AND name = ?2 AND number = ?3",
                )?
                .exists(params![&**instance, &**name, number]),
        }
    }
}

/// What to tell whom once a transaction has committed.
pub(crate) struct Awaited {
    pub(crate) trace: Trace,
    pub(crate) after: After,
}

/// The thread that looks, once there is something to look for.
pub(crate) struct Commits {
    hints: Arc<Hints>,
    workers: Arc<WorkerFiles>,
    thread: Mutex<Looking>,
}

enum Looking {
    NotYet,
    Runs(Sender<(Instant, Awaited)>, JoinHandle<()>),
    Closed,
}

impl Commits {
    pub(crate) fn new(hints: Arc<Hints>, workers: Arc<WorkerFiles>) -> Commits {
        Commits {
            hints,
            workers,
            thread: Mutex::new(Looking::NotYet),
        }
    }

    /// Looks for a transaction's commit from now on.
    pub(crate) fn expect(&self, database: &Database, awaited: Awaited) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*thread, Looking::NotYet) {
            match self.start(database) {
                Ok(looking) => *thread = looking,
                Err(error) => {
                    tracing::warn!(%error, "a commit is noticed at the next heartbeat");
                    return;
                }
            }
        }
        if let Looking::Runs(sender, _) = &*thread {
            // An error means that it panicked; the heartbeat is left.
            sender.send((Instant::now(), awaited)).ok();
        }
    }

    fn start(&self, database: &Database) -> std::io::Result<Looking> {
        let (sender, asked) = channel();
        let look = Look {
            database: database.clone(),
            hints: self.hints.clone(),
            waker: Waker::new(self.workers.clone()),
        };
        let named = std::thread::Builder::new().name("abide-commits".into());
        let thread = named.spawn(move || look.run(&asked))?;
        Ok(Looking::Runs(sender, thread))
    }

    /// Ends the thread and closes its connection.
    pub(crate) fn close(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *thread, Looking::Closed);
        drop(thread);
        if let Looking::Runs(sender, thread) = before {
            drop(sender);
            if thread.join().is_err() {
                tracing::error!("the thread that looks for commits panicked");
            }
        }
    }
}

struct Look {
    database: Database,
    hints: Arc<Hints>,
    waker: Waker,
}

impl Look {
    /// Runs until nobody can ask any more. The connection is kept open only while there is
    /// something to look for.
    fn run(mut self, asked: &Receiver<(Instant, Awaited)>) {
        while let Ok(first) = asked.recv() {
            match self.look_for(first, asked) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::warn!(%error, "commits are noticed at the next heartbeat"),
            }
        }
    }

    fn wake_others(&mut self) {
        while let Some(pause) = self.waker.wake() {
            std::thread::sleep(pause);
        }
    }

    /// Looks until everything was found or given up. False once nobody can ask any more.
    fn look_for(
        &mut self,
        first: (Instant, Awaited),
        asked: &Receiver<(Instant, Awaited)>,
    ) -> Result<bool, StoreError> {
        let connection = self.database.open_reader()?;
        let database = self.database.clone();
        let fail = |error| database.error(error, false);
        let mut youngest = first.0;
        let mut waiting = vec![first];
        let mut seen = None;
        loop {
            // Before the rows are looked at, so that no commit falls in between.
            let committed = Some(foreign(&connection).map_err(fail)?);
            if committed != seen {
                let mut left = Vec::with_capacity(waiting.len());
                for (since, awaited) in waiting {
                    if awaited.trace.is_there(&connection).map_err(fail)? {
                        awaited.after.tell(&self.hints);
                        self.waker.note(&awaited.after);
                    } else {
                        left.push((since, awaited));
                    }
                }
                (waiting, seen) = (left, committed);
                self.wake_others();
            }
            waiting.retain(|(since, _)| since.elapsed() < GIVE_UP);
            if waiting.is_empty() {
                return Ok(true);
            }
            match asked.recv_timeout(pause(youngest.elapsed())) {
                Ok(next) => {
                    youngest = next.0;
                    waiting.push(next);
                    // It may have been committed before anybody looked for it.
                    seen = None;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
    }
}

fn pause(age: Duration) -> Duration {
    let pause = PAUSES.iter().find(|(until, _)| age < *until);
    pause.map_or(LONGEST_PAUSE, |(_, pause)| *pause)
}
