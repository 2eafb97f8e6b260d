//! A store of a test's own, on the backend that the test is built for.

use std::ops::{Deref, DerefMut};

use crate::backend::Database;
use crate::fixture::Fixture;

/// A fixture and its database, which goes away with it.
pub(crate) struct Home {
    pub(crate) fixture: Fixture,
    pub(crate) database: Database,
}

impl Home {
    pub(crate) async fn new() -> Home {
        let database = Database::new();
        let fixture = Fixture::at(&database.url()).await;
        Home { fixture, database }
    }

    /// What is stored, without what stored it.
    pub(crate) fn into_database(self) -> Database {
        self.database
    }
}

impl Deref for Home {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}

impl DerefMut for Home {
    fn deref_mut(&mut self) -> &mut Fixture {
        &mut self.fixture
    }
}
