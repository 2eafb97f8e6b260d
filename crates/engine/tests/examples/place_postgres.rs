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

    /// Lets those who died be noticed: as if their leases were over.
    pub(crate) async fn bury(&self) {
        let over = format!(
            "UPDATE {}.workers SET lease_until = 0 WHERE ended_at IS NULL",
            self.0.quoted()
        );
        let client = client(&self.0.url).await;
        client.batch_execute(&over).await.expect("sound");
    }
}
