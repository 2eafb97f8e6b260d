//! The workers' lock: one process at a time runs the tasks of a file. The system frees it when
//! the process dies, so that whoever takes it next knows the last one is gone.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::time::Duration;

use crate::error::StoreError;

use super::connection::Database;

/// How often the lock is tried while others look at it, and how long a look may take.
const MAX_LOOKS: u32 = 100;
const LOOK: Duration = Duration::from_millis(1);

/// Held for as long as this process runs tasks of the file.
#[derive(Debug)]
pub struct WorkersLock {
    _file: Option<File>,
}

impl WorkersLock {
    /// For a store that several processes may work on.
    pub(crate) fn none() -> WorkersLock {
        WorkersLock { _file: None }
    }
}

fn open(database: &Database) -> std::io::Result<File> {
    OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(database.beside("-lock"))
}

/// Takes the lock, unless another process holds it.
pub(crate) fn try_take(database: &Database) -> Result<Option<WorkersLock>, StoreError> {
    let refuse = |error: std::io::Error| StoreError::CannotOpen {
        path: database.beside("-lock").display().to_string(),
        detail: error.to_string(),
    };
    let mut file = open(database).map_err(refuse)?;
    if !take(&file).map_err(refuse)? {
        return Ok(None);
    }
    // For people only: the lock is what counts.
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{}", std::process::id()))
        .and_then(|()| file.flush());
    written.map_err(refuse)?;
    Ok(Some(WorkersLock { _file: Some(file) }))
}

/// Takes the lock. Whoever only looks whether it is held has it shared for an instant, which must
/// not pass for a worker.
fn take(file: &File) -> std::io::Result<bool> {
    for _ in 0..MAX_LOOKS {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        match file.try_lock_shared() {
            Ok(()) => file.unlock()?,
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        std::thread::sleep(LOOK);
    }
    Ok(false)
}

/// Whether any process holds the lock.
pub(crate) fn is_held(database: &Database) -> bool {
    match open(database) {
        Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
        // Who cannot even look must not declare anybody dead.
        Err(_) => true,
    }
}

/// The process that holds the lock, in words.
pub(crate) fn holder(database: &Database) -> String {
    let mut pid = String::new();
    let read =
        File::open(database.beside("-lock")).and_then(|mut file| file.read_to_string(&mut pid));
    match read {
        Ok(_) if !pid.is_empty() => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}
