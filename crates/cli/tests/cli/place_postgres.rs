//! Where the tests' stores are: each in a PostgreSQL schema of its own.

use std::path::PathBuf;

use abide_test_postgres::{Schema, client, fresh_schema};

/// A place for a store and for files, gone with the test.
pub(crate) struct Place {
    directory: tempfile::TempDir,
    schema: Schema,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place {
            directory: tempfile::tempdir().expect("a directory"),
            schema: fresh_schema(),
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The address of the store.
    pub(crate) fn url(&self) -> String {
        self.schema.url.clone()
    }

    /// Changes what is stored, past the store.
    pub(crate) async fn execute(&self, sql: &str) {
        let client = client(&self.schema.url).await;
        let here = format!("SET search_path TO {}; {sql}", self.schema.quoted());
        client.batch_execute(&here).await.expect("sound");
    }
}
