//! Where the tests' stores are: each in a SQLite file of its own.

use std::path::PathBuf;

use tempfile::TempDir;

/// A store that goes away with the test.
pub(crate) struct Home {
    directory: TempDir,
}

impl Home {
    pub(crate) fn new() -> Home {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Home { directory }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("app.db")
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }
}
