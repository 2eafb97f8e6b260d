//! Wake-ups between processes on one file. Who commits something that other workers should look at
//! touches their files (see [`workers`](super::workers)); each worker watches its own. A process
//! that only observes watches the log instead, since it waits for what others write.
//!
//! Hints only: the truth is in the store, and the heartbeat looks there anyway.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use abide_core::ids::WorkerId;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::error::StoreError;
use crate::flush::After;

use super::connection::Database;
use super::workers::WorkerFiles;

/// Other workers are woken no more often than this.
const WAKE_PAUSE: Duration = Duration::from_millis(1);
/// How long a burst of changes is left to gather before it is looked at once.
const GATHER: Duration = Duration::from_millis(2);
/// How long it may take, once something was written to the log, until it is synced and can be read:
/// for so long an observer looks again and again, ever more seldom.
const LONGEST_SYNC: Duration = Duration::from_secs(1);
/// Looking takes no more than this part of the time.
const LOOK_PART: u32 = 5;

/// Wakes the other processes' workers.
pub(crate) struct Waker {
    files: Arc<WorkerFiles>,
    everybody: bool,
    some: BTreeSet<WorkerId>,
    last: Option<Instant>,
}

impl Waker {
    pub(crate) fn new(files: Arc<WorkerFiles>) -> Waker {
        Waker {
            files,
            everybody: false,
            some: BTreeSet::new(),
            last: None,
        }
    }

    /// Notes whom a commit concerns.
    pub(crate) fn note(&mut self, after: &After) {
        self.everybody |= after.work || after.earliest_timer.is_some() || !after.ended.is_empty();
        let others = after.inboxes.iter().copied();
        self.some
            .extend(others.filter(|id| !self.files.is_ours(*id)));
    }

    /// Wakes whom the last commits concern, unless somebody was woken just now: then this answers
    /// how long to wait.
    pub(crate) fn wake(&mut self) -> Option<Duration> {
        if !self.everybody && self.some.is_empty() {
            return None;
        }
        let others = self.files.others();
        if !others.is_empty() {
            let pause = self.last.map_or(Duration::ZERO, |last| {
                WAKE_PAUSE.saturating_sub(last.elapsed())
            });
            if !pause.is_zero() {
                return Some(pause);
            }
            let concerned = others
                .iter()
                .filter(|id| self.everybody || self.some.contains(id));
            concerned.for_each(|id| self.files.touch(*id));
            self.last = Some(Instant::now());
        }
        self.everybody = false;
        self.some.clear();
        None
    }

    /// Wakes them now, since there is no later.
    pub(crate) fn wake_at_last(&mut self) {
        self.last = None;
        self.wake();
    }
}

/// What a watch is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    /// The files of this store's workers, added one by one.
    Workers,
    /// Every change of the database.
    Log,
}

/// Calls `changed` from a thread of its own after other processes may have changed something, for
/// as long as it is kept.
pub(crate) struct ForeignWatch {
    watcher: Mutex<RecommendedWatcher>,
    name: String,
}

impl ForeignWatch {
    pub(crate) fn start(
        database: &Database,
        watched: Watched,
        changed: impl FnMut() + Send + 'static,
    ) -> Result<ForeignWatch, StoreError> {
        let log: Vec<PathBuf> = match watched {
            Watched::Workers => Vec::new(),
            Watched::Log => vec![database.beside("-wal"), database.beside("")],
        };
        let names: Vec<_> = log
            .iter()
            .filter_map(|path| path.file_name().map(ToOwned::to_owned))
            .collect();
        let (tell, told) = sync_channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            let ours = names.is_empty()
                || event.paths.iter().any(|path| {
                    path.file_name()
                        .is_some_and(|name| names.iter().any(|n| n == name))
                });
            if ours && !matches!(event.kind, EventKind::Access(_)) {
                // A full channel means that a look is due already; a closed one that nobody looks.
                tell.try_send(()).ok();
            }
        });
        let watch = ForeignWatch {
            watcher: Mutex::new(watcher.map_err(|error| cannot_watch(&database.name(), &error))?),
            name: database.name(),
        };
        if watched == Watched::Log {
            let path = database.beside("");
            watch.add(path.parent().unwrap_or_else(|| ".".as_ref()))?;
        }
        std::thread::Builder::new()
            .name("abide-watch".into())
            .spawn(move || look(&told, watched, changed))
            .map_err(|error| {
                StoreError::Internal(format!("no thread to watch the database: {error}"))
            })?;
        Ok(watch)
    }

    /// Watches that, too.
    pub(crate) fn add(&self, path: &Path) -> Result<(), StoreError> {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        let added = watcher.watch(path, RecursiveMode::NonRecursive);
        added.map_err(|error| cannot_watch(&self.name, &error))
    }

    /// Watches that no longer.
    pub(crate) fn remove(&self, path: &Path) {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        // An error means that it is not watched, as after the file was removed.
        watcher.unwatch(path).ok();
    }
}

fn cannot_watch(name: &str, error: &notify::Error) -> StoreError {
    StoreError::CannotOpen {
        path: name.to_owned(),
        detail: format!("it cannot be watched: {error}"),
    }
}

fn look(told: &Receiver<()>, watched: Watched, mut changed: impl FnMut()) {
    // How long to wait before looking without being told.
    let mut again: Option<Duration> = None;
    loop {
        let next = match again {
            None => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(pause) => told.recv_timeout(pause),
        };
        let is_told = match next {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if is_told && watched == Watched::Log {
            std::thread::sleep(GATHER);
            while told.try_recv().is_ok() {}
        }
        let begun = Instant::now();
        changed();
        // What comes meanwhile is looked at after that.
        std::thread::sleep(GATHER.max(begun.elapsed() * (LOOK_PART - 1)));
        again = match (watched, again) {
            // They are told after the commit.
            (Watched::Workers, _) => None,
            (Watched::Log, _) if is_told => Some(GATHER),
            (Watched::Log, again) => again
                .map(|pause| pause * 2)
                .filter(|pause| *pause <= LONGEST_SYNC),
        };
    }
}
