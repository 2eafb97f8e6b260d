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

    /// Makes the database refuse every change of a task.
    pub(crate) async fn refuse_changes(&self) {
        self.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON task_executions BEGIN SELECT RAISE(ABORT, 'out of sorts'); END",
        );
    }

    pub(crate) async fn allow_changes(&self) {
        self.execute("DROP TRIGGER refuse");
    }

    /// Makes what was written of every history so far unreadable.
    pub(crate) async fn damage_histories(&self) {
        self.execute("UPDATE execution_events SET type = 9999");
    }

    /// The store is of the next version, as after a newer program has opened it; or of this one again.
    pub(crate) async fn is_newer(&self, newer: bool) {
        let version = if newer { 2 } else { 1 };
        self.execute(&format!("PRAGMA user_version = {version}"));
    }

    fn execute(&self, sql: &str) {
        let connection = rusqlite::Connection::open(self.path()).expect("opens");
        let patience = std::time::Duration::from_secs(60);
        connection.busy_timeout(patience).expect("set");
        connection.execute_batch(sql).expect("sound");
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }
}
