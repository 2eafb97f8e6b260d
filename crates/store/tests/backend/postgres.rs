//! A PostgreSQL schema of a test's own, for tests that run on every backend.

use abide_test_postgres::Schema;

/// A database that goes away with the test.
pub(crate) struct Database {
    pub(crate) schema: Schema,
}

impl Database {
    pub(crate) fn new() -> Database {
        let schema = abide_test_postgres::fresh_schema();
        Database { schema }
    }

    /// The address of the store in it.
    pub(crate) fn url(&self) -> String {
        self.schema.url.clone()
    }
}
