//! Where the tests' stores are: each in a PostgreSQL schema of its own.

use abide_test_postgres::Schema;

/// A store that goes away with the test.
pub(crate) struct Home {
    schema: Schema,
}

impl Home {
    pub(crate) fn new() -> Home {
        let schema = abide_test_postgres::fresh_schema();
        Home { schema }
    }

    pub(crate) fn url(&self) -> String {
        self.schema.url.clone()
    }
}
