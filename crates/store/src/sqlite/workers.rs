//! The workers' files. Each worker has one in the directory `<db>-workers`, named by its id, and
//! its process holds the file's lock for as long as the worker lives. The system frees the lock
//! when the process dies, however it dies, so that whoever finds it free knows that the worker is
//! gone; no clock is asked. Whoever takes a dead worker's lock is the one to recover its tasks.
//!
//! Files are made, taken from the dead and removed only inside a write transaction of the
//! database, so that no two processes do so at once. Everything else only looks.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use abide_core::ids::WorkerId;
use rustc_hash::FxHashMap;

use super::connection::Database;

/// How often a worker's own file is made anew because somebody looked at it in that instant.
const MAX_TRIES: u32 = 100;
/// A directory that changed again within this time may show the same time of change.
const TIME_GRAIN: Duration = Duration::from_millis(50);

/// The workers' files, and the locks that this store holds.
#[derive(Debug)]
pub(crate) struct WorkerFiles {
    database: PathBuf,
    directory: PathBuf,
    held: Mutex<FxHashMap<WorkerId, Holding>>,
    listed: Mutex<Option<Listed>>,
    /// Dead workers with tasks that cannot be recovered.
    given_up: Mutex<BTreeSet<WorkerId>>,
}

/// A lock that is held.
#[derive(Debug)]
struct Holding {
    file: File,
    /// Whether it is a dead worker's, whose tasks this process recovers.
    of_dead: bool,
}

/// The directory as it was when it was last read.
#[derive(Debug)]
struct Listed {
    changed: SystemTime,
    /// Since when it is known to have changed then.
    seen: Instant,
    read: Instant,
    ids: Vec<WorkerId>,
}

impl WorkerFiles {
    pub(crate) fn new(database: &Database) -> WorkerFiles {
        WorkerFiles {
            database: database.path.to_path_buf(),
            directory: database.beside("-workers"),
            held: Mutex::default(),
            listed: Mutex::default(),
            given_up: Mutex::default(),
        }
    }

    pub(crate) fn path(&self, id: WorkerId) -> PathBuf {
        self.directory.join(id.to_string())
    }

    // ---- in a write transaction ----

    /// Makes the file of a new worker and locks it.
    pub(crate) fn register(&self, id: WorkerId) -> io::Result<()> {
        if self.is_ours(id) {
            return Ok(());
        }
        let file = self.make(id)?;
        let of_dead = false;
        self.held().insert(id, Holding { file, of_dead });
        Ok(())
    }

    /// Takes a worker's lock if it is dead: true if this store is to recover its tasks. A file that
    /// somebody removed is a dead worker's as well.
    pub(crate) fn take_from_dead(&self, id: WorkerId) -> io::Result<bool> {
        if let Some(holding) = self.held().get(&id) {
            return Ok(holding.of_dead);
        }
        let file = match self.open(id) {
            Ok(file) => match file.try_lock() {
                Ok(()) => file,
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) => return Err(error),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make(id)?,
            Err(error) => return Err(error),
        };
        let of_dead = true;
        self.held().insert(id, Holding { file, of_dead });
        Ok(true)
    }

    /// Removes the file of a worker that has ended and left nothing.
    pub(crate) fn remove(&self, id: WorkerId) {
        let removed = std::fs::remove_file(self.path(id));
        if let Err(error) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(worker = %id, %error, "a worker's file stays behind");
        }
        self.held().remove(&id);
    }

    /// Removes the file of a dead worker that left what cannot be recovered.
    pub(crate) fn give_up(&self, id: WorkerId) {
        self.given_up().insert(id);
        self.remove(id);
    }

    /// Creates and locks a file. Others may look at it for an instant, or for longer if they are
    /// stopped while they do: then it is made again, which nobody else does in this transaction.
    fn make(&self, id: WorkerId) -> io::Result<File> {
        let path = self.path(id);
        self.make_directory()?;
        for _ in 0..MAX_TRIES {
            let made = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path);
            match made {
                Ok(file) => {
                    allow_like(&self.database, &path, false);
                    match file.try_lock() {
                        Ok(()) => return Ok(file),
                        Err(TryLockError::WouldBlock) => {}
                        Err(TryLockError::Error(error)) => return Err(error),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Err(io::Error::other("others always look at it"))
    }

    fn make_directory(&self) -> io::Result<()> {
        match std::fs::create_dir(&self.directory) {
            Ok(()) => {
                allow_like(&self.database, &self.directory, true);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    // ---- at any time ----

    /// Frees a lock: whoever looks next finds the worker dead.
    pub(crate) fn let_go(&self, id: WorkerId) {
        self.held().remove(&id);
    }

    pub(crate) fn let_go_of_all(&self) {
        self.held().clear();
    }

    /// Whether the worker is one of this store.
    pub(crate) fn is_ours(&self, id: WorkerId) -> bool {
        self.held().get(&id).is_some_and(|holding| !holding.of_dead)
    }

    /// Whether somebody removed the file of a worker of this store, so that others take it for dead.
    pub(crate) fn has_lost(&self, id: WorkerId) -> bool {
        let held = self.held();
        let Some(holding) = held.get(&id) else {
            return false;
        };
        match same_file(&holding.file, &self.path(id)) {
            Ok(same) => !same,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Whether a worker's lock is held by anybody.
    pub(crate) fn is_held(&self, id: WorkerId) -> bool {
        if self.held().contains_key(&id) {
            return true;
        }
        match self.open(id) {
            Ok(file) => !matches!(file.try_lock_shared(), Ok(())),
            // Who cannot even look must not declare anybody dead.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Whether there is a file whose lock is free. Asks nothing of the database.
    pub(crate) fn is_any_free(&self) -> bool {
        self.list().iter().any(|id| !self.is_held(*id))
    }

    /// Whether there is a worker, of this process or another.
    pub(crate) fn is_any_held(&self) -> bool {
        !self.held().is_empty() || self.list().iter().any(|id| self.is_held(*id))
    }

    /// The workers that have a file, dead ones included.
    pub(crate) fn list(&self) -> Vec<WorkerId> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::warn!(%error, "the workers' files cannot be listed");
                return Vec::new();
            }
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        let ids = names.filter_map(|name| name.to_str()?.parse().ok());
        ids.collect()
    }

    /// The other workers that have a file. Reads the directory only when it has changed.
    pub(crate) fn others(&self) -> Vec<WorkerId> {
        let Ok(changed) = std::fs::metadata(&self.directory).and_then(|found| found.modified())
        else {
            return Vec::new();
        };
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let seen = match &*listed {
            Some(last) if last.changed == changed => last.seen,
            _ => now,
        };
        let ids = match listed.take() {
            Some(last) if last.changed == changed && last.read - last.seen > TIME_GRAIN => {
                *listed = Some(last);
                None
            }
            _ => Some(self.list()),
        };
        if let Some(ids) = ids {
            let read = now;
            *listed = Some(Listed {
                changed,
                seen,
                read,
                ids,
            });
        }
        let ids = listed.as_ref().map_or(&[][..], |listed| &listed.ids);
        let held = self.held();
        ids.iter()
            .filter(|id| !held.contains_key(id))
            .copied()
            .collect()
    }

    /// Wakes whoever watches a worker's file.
    pub(crate) fn touch(&self, id: WorkerId) {
        let touched = OpenOptions::new()
            .write(true)
            .open(self.path(id))
            .and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = touched
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(worker = %id, %error, "a worker finds this change at its next heartbeat");
        }
    }

    fn open(&self, id: WorkerId) -> io::Result<File> {
        File::open(self.path(id))
    }

    pub(crate) fn is_given_up(&self, id: WorkerId) -> bool {
        self.given_up().contains(&id)
    }

    fn given_up(&self) -> MutexGuard<'_, BTreeSet<WorkerId>> {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, FxHashMap<WorkerId, Holding>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether that is still the file's name.
#[cfg(unix)]
fn same_file(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (ours, named) = (file.metadata()?, std::fs::metadata(path)?);
    Ok((ours.dev(), ours.ino()) == (named.dev(), named.ino()))
}

/// Where open files cannot be removed it is.
#[cfg(not(unix))]
fn same_file(_: &File, path: &Path) -> io::Result<bool> {
    std::fs::metadata(path).map(|_| true)
}

/// Lets those use a file who may use the database.
#[cfg(unix)]
pub(super) fn allow_like(database: &Path, path: &Path, directory: bool) {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    let allowed = std::fs::metadata(database).and_then(|found| {
        let mode = found.permissions().mode() & 0o666;
        // Who may read a directory must be able to enter it.
        let enter = if directory { (mode & 0o444) >> 2 } else { 0 };
        std::fs::set_permissions(path, Permissions::from_mode(mode | enter))
    });
    if let Err(error) = allowed {
        tracing::debug!(path = %path.display(), %error, "its permissions are not the database's");
    }
}

#[cfg(not(unix))]
pub(super) fn allow_like(_: &Path, _: &Path, _: bool) {}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: WorkerId = WorkerId(7);

    /// A database that need not be one, and the files of two processes beside it.
    fn two() -> (tempfile::TempDir, WorkerFiles, WorkerFiles) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("app.db");
        std::fs::write(&path, "").expect("written");
        let database = Database::new(path, Duration::ZERO);
        let files = || WorkerFiles::new(&database);
        (directory, files(), files())
    }

    #[test]
    fn a_worker_is_alive_until_its_lock_is_free_and_then_one_takes_it() {
        let (_directory, ours, theirs) = two();
        assert!(!theirs.is_held(ID));
        ours.register(ID).expect("made");
        assert!(ours.is_ours(ID) && !theirs.is_ours(ID));
        assert!(theirs.is_held(ID) && !theirs.is_any_free() && theirs.is_any_held());
        assert!(!theirs.take_from_dead(ID).expect("looked"));
        ours.let_go(ID);
        assert!(theirs.is_any_free() && !theirs.is_any_held());
        assert!(theirs.take_from_dead(ID).expect("taken"));
        // Whoever recovers its tasks holds it now, and may look again.
        assert!(!ours.is_any_free() && !ours.take_from_dead(ID).expect("looked"));
        assert!(theirs.take_from_dead(ID).expect("held") && !theirs.is_ours(ID));
        theirs.remove(ID);
        assert_eq!(ours.list(), []);
    }

    #[test]
    fn who_only_looks_at_a_file_keeps_nobody_from_registering() {
        let (_directory, ours, theirs) = two();
        theirs.make_directory().expect("made");
        std::fs::write(theirs.path(ID), "").expect("left by somebody who died in between");
        let looking = theirs.open(ID).expect("it is there");
        looking.lock_shared().expect("free");
        ours.register(ID).expect("made again");
        assert!(theirs.is_held(ID) && !ours.has_lost(ID));
    }

    #[test]
    fn a_worker_notices_that_its_file_was_removed_or_is_somebody_elses() {
        let (_directory, ours, theirs) = two();
        ours.register(ID).expect("made");
        assert!(!ours.has_lost(ID));
        std::fs::remove_file(ours.path(ID)).expect("removed");
        assert!(ours.has_lost(ID) && !theirs.is_held(ID));
        assert!(theirs.take_from_dead(ID).expect("made again"));
        assert!(ours.has_lost(ID));
        ours.let_go(ID);
        assert!(!ours.has_lost(ID));
    }

    #[test]
    fn others_are_known_from_the_first_look_after_they_came_and_went() {
        let (_directory, ours, theirs) = two();
        ours.register(WorkerId(1)).expect("made");
        for round in 2..200 {
            let id = WorkerId(round);
            theirs.register(id).expect("made");
            assert_eq!(ours.others(), [id]);
            assert_eq!(theirs.others(), [WorkerId(1)]);
            if round % 10 == 0 {
                // Long enough for what was read to be relied on.
                std::thread::sleep(TIME_GRAIN * 2);
                assert_eq!(ours.others(), [id]);
            }
            theirs.remove(id);
            assert_eq!(ours.others(), []);
        }
    }

    #[cfg(unix)]
    #[test]
    fn whoever_may_use_the_database_may_use_the_files() {
        use std::os::unix::fs::PermissionsExt;
        let (_directory, ours, _) = two();
        let shared = std::fs::Permissions::from_mode(0o664);
        std::fs::set_permissions(&ours.database, shared).expect("allowed");
        ours.register(ID).expect("made");
        let mode = |path: &Path| {
            let found = std::fs::metadata(path).expect("it is there");
            found.permissions().mode() & 0o777
        };
        assert_eq!(mode(&ours.path(ID)), 0o664);
        assert_eq!(mode(&ours.directory), 0o775);
    }
}
