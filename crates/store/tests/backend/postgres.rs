//! A PostgreSQL schema of a test's own, for tests that run on every backend.

use abide_test_postgres::Schema;
use tokio::sync::OnceCell;
use tokio_postgres::Client;

/// A database that goes away with the test.
pub(crate) struct Database {
    pub(crate) schema: Schema,
    /// The test's own connection, once it asks for something past the store.
    pub(crate) client: OnceCell<Client>,
}

impl Database {
    pub(crate) fn new() -> Database {
        let schema = abide_test_postgres::fresh_schema();
        let client = OnceCell::new();
        Database { schema, client }
    }

    /// The address of the store in it.
    pub(crate) fn url(&self) -> String {
        self.schema.url.clone()
    }
}
