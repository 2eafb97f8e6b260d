//! Whose turn it is to write. SQLite's own lock goes to whoever asks at the right moment, so that a
//! process which commits one batch after the other keeps another waiting for seconds. Before it asks
//! SQLite, a writer passes two locks: it holds `<db>-turn` while it waits for `<db>-write`, which
//! whoever writes holds; so a busy process that wants to write again is behind whoever waits.
//!
//! A courtesy, no safeguard: SQLite's lock is what counts, and other programs know nothing of this.
//! Whoever waits too long goes past: a process that is stopped with a lock in its hands holds
//! nobody up for good.

use std::fs::{File, TryLockError};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::Database;
use super::permissions::{allow_like, make_private};

/// A moment in which the lock is asked for again and again.
const SPIN: Duration = Duration::from_micros(20);
/// The pause between two tries, and how it grows: another's transaction takes about a millisecond.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// The two locks.
pub(crate) struct Turnstile {
    locks: Option<Locks>,
    patience: Duration,
    /// Whether the last wait was in vain: then nobody waits again before a lock is found free.
    stuck: bool,
}

struct Locks {
    turn: File,
    write: Arc<File>,
}

/// Held while this process writes.
#[must_use = "the turn is over when this is dropped"]
pub(crate) struct Turn {
    write: Option<Arc<File>>,
}

impl Turnstile {
    /// Opens the locks. Where they cannot be had, SQLite's has to do.
    pub(crate) fn new(database: &Database) -> Turnstile {
        let locks = || -> io::Result<Locks> {
            Ok(Locks {
                turn: open(database, "-turn")?,
                write: Arc::new(open(database, "-write")?),
            })
        };
        let locks = locks().inspect_err(|error| {
            tracing::debug!(%error, "writers of this file don't take turns");
        });
        Turnstile {
            locks: locks.ok(),
            patience: database.busy_timeout / 2,
            stuck: false,
        }
    }

    /// Waits until it is this process's turn to write, or for as long as it has patience.
    pub(crate) fn pass(&mut self) -> Turn {
        let patience = if self.stuck {
            Duration::ZERO
        } else {
            self.patience
        };
        let turn = self.pass_within(patience);
        self.stuck = turn.is_none();
        turn.unwrap_or(Turn { write: None })
    }

    /// Passes if that needs no waiting.
    pub(crate) fn try_pass(&self) -> Option<Turn> {
        self.pass_within(Duration::ZERO)
    }

    fn pass_within(&self, patience: Duration) -> Option<Turn> {
        let Some(locks) = &self.locks else {
            return Some(Turn { write: None });
        };
        let until = Instant::now() + patience;
        let has_turn = take(&locks.turn, until);
        let has_write = has_turn && take(&locks.write, until);
        if has_turn {
            free(&locks.turn);
        }
        let write = Arc::clone(&locks.write);
        has_write.then_some(Turn { write: Some(write) })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(write) = &self.write {
            free(write);
        }
    }
}

fn open(database: &Database, suffix: &str) -> io::Result<File> {
    let path = database.beside(suffix);
    let made = match make_private(&path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
        Err(error) => return Err(error),
    };
    // One that exists as well: the database's may have been changed since.
    allow_like(&database.path, &path, false);
    match made {
        Some(file) => Ok(file),
        None => File::open(&path),
    }
}

/// Tries to take a lock until then, at least once.
fn take(file: &File, until: Instant) -> bool {
    let begun = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match file.try_lock() {
            Ok(()) => return true,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "a lock that writers take turns with cannot be had");
                return false;
            }
        }
        let now = Instant::now();
        if now >= until {
            return false;
        }
        if now - begun < SPIN {
            std::hint::spin_loop();
            continue;
        }
        std::thread::sleep(pause.min(until - now));
        // Twenty tries at each pause.
        pause = LONGEST_PAUSE.min(FIRST_PAUSE.max((now - begun) / 20));
    }
}

fn free(file: &File) {
    if let Err(error) = file.unlock() {
        tracing::warn!(%error, "a lock that writers take turns with could not be freed");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;

    /// A database that need not exist: the locks are beside it.
    fn database(directory: &tempfile::TempDir, busy_timeout: Duration) -> Database {
        let path = directory.path().join("app.db");
        std::fs::write(&path, "").expect("written");
        Database::new(path, busy_timeout)
    }

    #[test]
    fn a_writer_that_never_pauses_keeps_nobody_waiting_for_more_than_its_next_turn() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let database = database(&directory, Duration::from_secs(60));
        let (done, turns) = (AtomicBool::new(false), AtomicU32::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut busy = Turnstile::new(&database);
                while !done.load(Ordering::Acquire) {
                    let turn = busy.pass();
                    assert!(turn.write.is_some());
                    turns.fetch_add(1, Ordering::AcqRel);
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let other = Turnstile::new(&database);
            let locks = other.locks.as_ref().expect("made");
            let until = Instant::now() + database.busy_timeout;
            for _ in 0..50 {
                assert!(take(&locks.turn, until));
                let before = turns.load(Ordering::Acquire);
                assert!(take(&locks.write, until));
                // The one that was under way.
                assert!(turns.load(Ordering::Acquire) <= before + 1);
                free(&locks.turn);
                free(&locks.write);
            }
            done.store(true, Ordering::Release);
        });
    }

    #[test]
    fn a_lock_that_is_never_freed_holds_nobody_up_for_good_nor_twice() {
        for stuck in ["-turn", "-write"] {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let database = database(&directory, Duration::from_millis(200));
            let mut turnstile = Turnstile::new(&database);
            let stopped = File::open(database.beside(stuck)).expect("it is there");
            stopped.lock().expect("locked");
            assert!(turnstile.pass().write.is_none());
            turnstile.patience = Duration::MAX / 2;
            assert!(turnstile.pass().write.is_none(), "would hang");
            stopped.unlock().expect("freed");
            assert!(turnstile.pass().write.is_some());
            assert!(!turnstile.stuck);
        }
    }

    #[test]
    fn where_no_lock_can_be_made_writers_go_past() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("gone").join("app.db");
        let mut turnstile = Turnstile::new(&Database::new(path, Duration::from_secs(60)));
        assert!(turnstile.pass().write.is_none());
    }
}
