//! Where the tests' stores are: each in a SQLite file of its own.

use std::path::PathBuf;

/// A place for a store and other files, gone with the test.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Place {
        Place(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.file("app.db")
    }

    /// The address of the store.
    pub(crate) fn url(&self) -> String {
        self.path().to_str().expect("utf-8").to_owned()
    }

    /// Changes what is stored, past the store.
    #[expect(clippy::unused_async, reason = "it waits on other backends")]
    pub(crate) async fn execute(&self, sql: &str) {
        let sqlite = rusqlite::Connection::open(self.path()).expect("opens");
        sqlite.execute_batch(sql).expect("sound");
    }
}
