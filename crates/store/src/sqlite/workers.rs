//! The workers' files. Each worker has one in the directory `<db>-workers`, named by its id, and
//! its process holds the file's lock for as long as the worker lives. The system frees the lock
//! when the process dies, however it dies, so that whoever finds it free knows that the worker is
//! gone; no clock is asked. Whoever takes a dead worker's lock is the one to recover its tasks.
//!
//! A file says, besides, which process made it ([`Process`]) and which database file it is for
//! ([`FileId`]): a lock that only a forked child still holds keeps nobody's tasks, and a process that
//! still works on a file which was replaced is noticed.
//!
//! Files are made, taken from the dead and removed only inside a write transaction of the
//! database, so that no two processes do so at once. Everything else only looks.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use abide_core::ids::WorkerId;
use rustc_hash::FxHashMap;

use crate::error::StoreError;

use super::connection::Database;
use super::identity::FileId;
use super::permissions::{allow_like, make_private, make_private_directory};
use super::process::Process;

/// How often a worker's own file is made anew because somebody looked at it in that instant.
const MAX_TRIES: u32 = 100;
/// A directory that changed again within this time may show the same time of change.
const TIME_GRAIN: Duration = Duration::from_millis(50);

/// With which every file begins where a system tells databases apart: see [`Made`].
const FIRST_BYTE: &[u8] = b"d";

/// The workers' files, and the locks that this store holds.
#[derive(Debug)]
pub(crate) struct WorkerFiles {
    database: PathBuf,
    directory: PathBuf,
    /// Whose files are made here.
    process: Option<Process>,
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
            process: Process::this(),
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
        let file = match self.open_to_write(id) {
            Ok(file) => match file.try_lock() {
                Ok(()) => self.written(file)?,
                Err(TryLockError::WouldBlock) if self.made(id).is_gone() => {
                    tracing::warn!(worker = %id, "a forked child, or another program, holds the lock of a dead worker");
                    self.make(id)?
                }
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
            match make_private(&path) {
                Ok(file) => {
                    allow_like(&self.database, &path, false);
                    match file.try_lock() {
                        Ok(()) => return self.written(file),
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

    /// Says in a file whose lock is held for whom it is.
    fn written(&self, mut file: File) -> io::Result<File> {
        let made = Made {
            database: FileId::of(&self.database)?,
            process: self.process.clone(),
        };
        file.set_len(0)?;
        file.write_all(made.to_string().as_bytes())?;
        Ok(file)
    }

    fn make_directory(&self) -> io::Result<()> {
        match make_private_directory(&self.directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        // One that exists as well: the database's may have been changed since.
        allow_like(&self.database, &self.directory, true);
        Ok(())
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

    /// Refuses a database whose name a process still uses for another file, which was deleted or
    /// replaced: SQLite would mix that file's log into this one.
    pub(crate) fn refuse_other_file(&self, database: &Database) -> Result<(), StoreError> {
        let workers = self.list().into_iter().filter(|id| self.is_held(*id));
        let made: Vec<Made> = workers.map(|id| self.made(id)).collect();
        // After the workers' files, since a database is older than its workers.
        let here = FileId::of(&database.path).unwrap_or_default();
        let is_other = |made: &&Made| made.database.is_some() && made.database != here;
        let Some(other) = made.iter().find(is_other) else {
            return Ok(());
        };
        let process = match &other.process {
            Some(process) => format!("process {}", process.pid()),
            None => "another process".to_owned(),
        };
        Err(StoreError::CannotOpen {
            path: database.name(),
            detail: format!(
                "{process} still works on the file that had this name before it was deleted or replaced, and \
                 its log is still here; stop that process first"
            ),
        })
    }

    /// Whether a worker's lock is held by anybody, and for a process that may live.
    pub(crate) fn is_held(&self, id: WorkerId) -> bool {
        if self.held().contains_key(&id) {
            return true;
        }
        match self.open(id) {
            Ok(file) => !matches!(file.try_lock_shared(), Ok(())) && !self.made(id).is_gone(),
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
        let opened = OpenOptions::new().write(true).open(self.path(id));
        let touched = opened.and_then(|file| match file.set_modified(SystemTime::now()) {
            // Only its owner may say when a file was changed; whoever may write to it may change it. Its
            // first byte is always the same, and who makes it just now writes over it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                (&file).write_all(FIRST_BYTE)
            }
            touched => touched,
        });
        if let Err(error) = touched
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(worker = %id, %error, "a worker finds this change at its next heartbeat");
        }
    }

    fn open(&self, id: WorkerId) -> io::Result<File> {
        File::open(self.path(id))
    }

    fn open_to_write(&self, id: WorkerId) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).open(self.path(id))
    }

    /// What a worker's file says.
    fn made(&self, id: WorkerId) -> Made {
        let text = std::fs::read_to_string(self.path(id));
        text.map_or_else(|_| Made::default(), |text| Made::parse(&text))
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

/// For whom a file was made. Nothing is known of a file that is just being written.
#[derive(Debug, Default, PartialEq, Eq)]
struct Made {
    database: Option<FileId>,
    process: Option<Process>,
}

impl Made {
    fn is_gone(&self) -> bool {
        self.process.as_ref().is_some_and(Process::is_gone)
    }

    /// The reverse of `Display`.
    fn parse(text: &str) -> Made {
        let value = |name: &str| {
            let values = text.lines().filter_map(|line| line.split_once(' '));
            let mut values = values.filter(|(found, _)| *found == name);
            values.next().map(|(_, value)| value)
        };
        Made {
            database: value("database").and_then(|value| value.parse().ok()),
            process: value("process").and_then(Process::parse),
        }
    }
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(database) = &self.database {
            writeln!(f, "database {database}")?;
        }
        if let Some(process) = &self.process {
            writeln!(f, "process {process}")?;
        }
        Ok(())
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

    #[cfg(target_os = "linux")]
    #[test]
    fn a_lock_that_only_a_forked_child_still_holds_keeps_no_tasks() {
        let (_directory, mut ours, theirs) = two();
        // The process of the worker; this one is the child, which has the file open as well.
        let mut parent = std::process::Command::new("sleep");
        let mut parent = parent.arg("100000").spawn().expect("a program that waits");
        ours.process = Process::of(parent.id());
        ours.register(ID).expect("made");
        let inherited = ours.held()[&ID].file.try_clone().expect("duplicated");
        drop(ours);
        assert!(theirs.is_held(ID) && !theirs.is_any_free());
        assert!(!theirs.take_from_dead(ID).expect("looked"));

        parent.kill().expect("killed");
        parent.wait().expect("ended");
        assert!(!theirs.is_held(ID) && theirs.is_any_free() && !theirs.is_any_held());
        assert!(theirs.take_from_dead(ID).expect("taken"));
        let database = Database::new(theirs.database.clone(), Duration::ZERO);
        let others = WorkerFiles::new(&database);
        assert!(others.is_held(ID) && !others.take_from_dead(ID).expect("looked"));
        drop(inherited);
        assert!(others.is_held(ID), "whoever recovers its tasks holds it");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_touched_by_writing_says_what_it_said() {
        let (_directory, ours, theirs) = two();
        ours.register(ID).expect("made");
        let made = theirs.made(ID);
        assert!(made.database.is_some());
        let opened = theirs.open_to_write(ID);
        let written = opened.and_then(|mut file| file.write_all(FIRST_BYTE));
        written.expect("written");
        assert_eq!(theirs.made(ID), made);
    }

    #[test]
    fn a_dead_workers_file_says_who_recovers_its_tasks() {
        let (_directory, ours, theirs) = two();
        ours.register(ID).expect("made");
        let text = "process 1 1 pid:[1]\n";
        std::fs::write(ours.path(ID), text).expect("written");
        ours.let_go(ID);
        assert!(theirs.take_from_dead(ID).expect("taken"));
        assert_eq!(theirs.made(ID).process, Process::this());
    }

    #[cfg(unix)]
    #[test]
    fn a_process_on_a_file_that_was_replaced_keeps_others_from_the_new_one() {
        let (_directory, ours, theirs) = two();
        ours.register(ID).expect("made");
        let database = Database::new(ours.database.clone(), Duration::ZERO);
        theirs.refuse_other_file(&database).expect("the same file");
        std::fs::rename(&ours.database, ours.database.with_extension("old")).expect("renamed");
        let error = theirs.refuse_other_file(&database).expect_err("deleted");
        assert!(error.to_string().contains("stop that process"), "{error}");
        std::fs::write(&ours.database, "").expect("written");
        let error = theirs.refuse_other_file(&database).expect_err("replaced");
        assert!(error.to_string().contains("app.db"), "{error}");
        ours.let_go_of_all();
        theirs.refuse_other_file(&database).expect("nobody uses it");
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
