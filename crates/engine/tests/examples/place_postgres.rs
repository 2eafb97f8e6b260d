//! Where the examples' stores are: each in a PostgreSQL schema of its own.

use std::path::Path;

use abide_test_postgres::{Schema, client, fresh_schema};

/// The place of an example's store.
pub(crate) struct Place(Schema);

impl Place {
    pub(crate) fn new() -> Place {
        Place(fresh_schema())
    }

    /// How the example is told.
    pub(crate) fn arguments(&self) -> Vec<String> {
        vec!["--db".to_owned(), self.0.url.clone()]
    }

    /// The address of the store of an example, wherever that runs.
    pub(crate) fn url(&self, _home: &Path, _example: &str) -> String {
        self.0.url.clone()
    }

    /// Lets those who died be noticed: as if their leases were over. What they sent before may still be
    /// under way, and is waited for.
    pub(crate) async fn bury(&self) {
        let over = format!(
            "UPDATE {}.workers SET lease_until = 0 WHERE ended_at IS NULL",
            self.0.quoted()
        );
        let client = client(&self.0.url).await;
        let writers = "SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
                       JOIN pg_namespace s ON s.oid = c.relnamespace \
                       WHERE s.nspname = $1 AND l.mode = 'RowExclusiveLock'";
        let writes = async || client.query(writers, &[&self.0.name]).await.expect("sound");
        while !writes().await.is_empty() {
            tokio::task::yield_now().await;
        }
        client.batch_execute(&over).await.expect("sound");
    }
}
