//! Wake-ups between processes on one file. Who commits something that other workers should look at
//! touches their files (see [`workers`](super::workers)); each worker watches its own. A process
//! that only observes watches the log instead, since it waits for what others write.
//!
//! Hints only: the truth is in the store, and the heartbeat looks there anyway.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use abide_core::ids::WorkerId;
use notify::{EventKind, RecursiveMode, Watcher};

use crate::error::StoreError;
use crate::flush::After;

use super::connection::Database;
use super::poll::Poll;
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

    /// Wakes them now, since there may be no later.
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
/// as long as it is kept. Where the system has no room for another watch, the files are looked at
/// again and again instead.
pub(crate) struct ForeignWatch {
    eyes: Mutex<Eyes>,
    stop: Arc<AtomicBool>,
    tell: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
    /// What is watched.
    paths: Mutex<BTreeSet<PathBuf>>,
    name: String,
    polls: Arc<AtomicBool>,
}

/// How changes are noticed.
enum Eyes {
    Told(Box<dyn Watcher + Send>),
    Polling(Poll),
}

type OnEvent = Box<dyn FnMut(notify::Result<notify::Event>) + Send>;
type Told = notify::Result<Box<dyn Watcher + Send>>;

fn told_by_system(on_event: OnEvent) -> Told {
    Ok(Box::new(notify::recommended_watcher(on_event)?))
}

impl ForeignWatch {
    /// Watches for as long as what this returns is kept. `polls` tells whether somebody was warned
    /// already that the system has no room for watches.
    pub(crate) fn start(
        database: &Database,
        watched: Watched,
        polls: &Arc<AtomicBool>,
        changed: impl FnMut() + Send + 'static,
    ) -> Result<ForeignWatch, StoreError> {
        ForeignWatch::start_with(told_by_system, database, watched, polls, changed)
    }

    fn start_with(
        told_by: impl FnOnce(OnEvent) -> Told,
        database: &Database,
        watched: Watched,
        polls: &Arc<AtomicBool>,
        changed: impl FnMut() + Send + 'static,
    ) -> Result<ForeignWatch, StoreError> {
        let log = match watched {
            Watched::Workers => Vec::new(),
            Watched::Log => vec![database.beside("-wal"), database.beside("")],
        };
        let (tell, told) = sync_channel(1);
        let told_by = told_by(on_event(&log, tell.clone()));
        let name = database.name();
        let eyes = match told_by {
            Ok(watcher) => Eyes::Told(watcher),
            Err(error) => Eyes::Polling(poll(&tell, &name, polls, &error)?),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("abide-watch".into())
            .spawn(move || look(&told, &stopped, watched, changed))
            .map_err(no_thread)?;
        let watch = ForeignWatch {
            eyes: Mutex::new(eyes),
            stop,
            tell,
            thread: Some(thread),
            paths: Mutex::default(),
            name,
            polls: Arc::clone(polls),
        };
        // The system tells of files that do not exist yet only where it watches their directory.
        if let [_, main] = &log[..] {
            let mut eyes = locked(&watch.eyes);
            let directory = main.parent().unwrap_or_else(|| ".".as_ref());
            watch.add_to(&mut eyes, directory, &log)?;
        }
        Ok(watch)
    }

    /// Watches that file, too.
    pub(crate) fn add(&self, path: &Path) -> Result<(), StoreError> {
        let mut eyes = locked(&self.eyes);
        locked(&self.paths).insert(path.to_owned());
        let all: Vec<PathBuf> = locked(&self.paths).iter().cloned().collect();
        self.add_to(&mut eyes, path, &all)
    }

    /// Has the system tell of changes of `path`; where it has no room for that, `polled` are looked at.
    fn add_to(&self, eyes: &mut Eyes, path: &Path, polled: &[PathBuf]) -> Result<(), StoreError> {
        if let Eyes::Told(watcher) = eyes {
            let Err(error) = watcher.watch(path, RecursiveMode::NonRecursive) else {
                return Ok(());
            };
            *eyes = Eyes::Polling(poll(&self.tell, &self.name, &self.polls, &error)?);
        }
        if let Eyes::Polling(poll) = eyes {
            polled.iter().for_each(|path| poll.add(path));
        }
        Ok(())
    }

    /// Watches that file no longer.
    pub(crate) fn remove(&self, path: &Path) {
        let mut eyes = locked(&self.eyes);
        if !locked(&self.paths).remove(path) {
            return;
        }
        match &mut *eyes {
            // An error means that it is not watched, as after the file was removed.
            Eyes::Told(watcher) => drop(watcher.unwatch(path)),
            Eyes::Polling(poll) => poll.remove(path),
        }
    }
}

impl Drop for ForeignWatch {
    /// Waits for the thread, whose connection is closed then; unless it is this one.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // A full channel wakes it as well.
        self.tell.try_send(()).ok();
        let thread = self.thread.take();
        let other = thread.filter(|thread| thread.thread().id() != std::thread::current().id());
        if other.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that watches the database panicked");
        }
    }
}

/// Tells of events of these files, or of any if there are none.
fn on_event(files: &[PathBuf], tell: SyncSender<()>) -> OnEvent {
    let names = files.iter().filter_map(|path| path.file_name());
    let names: Vec<_> = names.map(ToOwned::to_owned).collect();
    Box::new(move |event| {
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
    })
}

/// Polls from now on, and says so once.
fn poll(
    tell: &SyncSender<()>,
    name: &str,
    polls: &AtomicBool,
    error: &notify::Error,
) -> Result<Poll, StoreError> {
    if !polls.swap(true, Ordering::AcqRel) {
        tracing::warn!(
            database = name,
            %error,
            "the system does not tell of changes by other processes; looking every {:?} instead \
             (on Linux, raise fs.inotify.max_user_instances or fs.inotify.max_user_watches)",
            super::poll::EVERY,
        );
    }
    Poll::start(tell.clone()).map_err(no_thread)
}

fn no_thread(error: std::io::Error) -> StoreError {
    StoreError::Internal(format!("no thread to watch the database: {error}"))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn look(told: &Receiver<()>, stopped: &AtomicBool, watched: Watched, mut changed: impl FnMut()) {
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
        if stopped.load(Ordering::Acquire) {
            return;
        }
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    /// A system that has room for watchers, but for no file to watch.
    struct Exhausted;

    impl Watcher for Exhausted {
        fn new<F: notify::EventHandler>(_: F, _: notify::Config) -> notify::Result<Self> {
            Ok(Exhausted)
        }

        fn watch(&mut self, _: &Path, _: RecursiveMode) -> notify::Result<()> {
            Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch))
        }

        fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
            Err(notify::Error::watch_not_found())
        }

        fn kind() -> notify::WatcherKind {
            notify::WatcherKind::NullWatcher
        }
    }

    type System = fn(OnEvent) -> Told;

    fn no_watcher(_: OnEvent) -> Told {
        let too_many = std::io::Error::from_raw_os_error(24);
        Err(notify::Error::io(too_many))
    }

    fn no_watches(_: OnEvent) -> Told {
        Ok(Box::new(Exhausted))
    }

    #[test]
    fn where_the_system_tells_of_no_changes_they_are_found_by_looking() {
        let systems: [(System, bool); 3] = [
            (told_by_system, false),
            (no_watcher, true),
            (no_watches, true),
        ];
        for (told_by, is_exhausted) in systems {
            for watched in [Watched::Workers, Watched::Log] {
                let directory = tempfile::tempdir().expect("a temporary directory");
                let database = Database::new(directory.path().join("a.db"), Duration::ZERO);
                let worker = directory.path().join("worker");
                let polls: Arc<AtomicBool> = Arc::default();
                let (tell, told) = channel();
                let changed = move || tell.send(()).expect("somebody waits");
                let watch = ForeignWatch::start_with(told_by, &database, watched, &polls, changed);
                let watch = watch.expect("watches");
                let touched = match watched {
                    Watched::Workers => {
                        std::fs::write(&worker, "").expect("made");
                        watch.add(&worker).expect("watches");
                        worker
                    }
                    Watched::Log => database.beside("-wal"),
                };
                std::fs::write(&touched, "touched").expect("written");
                told.recv().expect("hears of it");
                // If this system is exhausted, it can't be tried how it tells.
                assert!(polls.load(Ordering::Acquire) || !is_exhausted);
                watch.remove(&touched);
                drop(watch);
                // Its thread has ended.
                while told.try_recv().is_ok() {}
                assert_eq!(
                    told.try_recv(),
                    Err(std::sync::mpsc::TryRecvError::Disconnected)
                );
            }
        }
    }
}
