//! A SQLite file of a test's own, for tests that run on every backend.

use std::path::PathBuf;

use tempfile::TempDir;

/// A database that goes away with the test.
pub(crate) struct Database {
    pub(crate) directory: TempDir,
}

impl Database {
    pub(crate) fn new() -> Database {
        // In memory where the system has a place for that: these tests don't ask how disks behave.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let directory = directory.expect("a temporary directory");
        Database { directory }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("store.db")
    }

    /// The address of the store in it.
    pub(crate) fn url(&self) -> String {
        let path = self.path();
        path.to_str().expect("utf-8").to_owned()
    }
}
