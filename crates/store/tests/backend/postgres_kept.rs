//! A PostgreSQL schema that can be put back as it was, for tests that do damage to what is stored.

use abide_store::{Invariant, Store, StoreOptions, VerifyOptions, VerifyReport};

use super::backend::Database;
use super::dump::tables;
use super::planted::{Plant, Who};
use super::raw::NO_NUMBER;

/// Whether a long payload is kept apart from the row that it belongs to.
pub(crate) const PAYLOADS_APART: bool = false;

/// How many random sequences are tried, and after how many of its operations each is looked at. A look is a copy of the store here.
pub(crate) const CASES: u32 = 32;
pub(crate) const BETWEEN_LOOKS: usize = 20;

/// What plants say in words that stand for this backend's.
pub(crate) const SPELT_HERE: &[(&str, &str)] =
    &[("{no_number}", NO_NUMBER), ("{priority_9}", "rank = -9")];

/// Violations that only this backend can hold.
pub(crate) const PLANTED_HERE: &[Plant] = &[Plant {
    name: "a_payload_that_names_a_place_where_none_are",
    sql: "UPDATE task_executions SET output = '@1' WHERE execution = {caught} AND number = 1",
    breaks: Invariant::I1,
    who: Who::Task("caught", 1),
    says: "which is missing",
}];

/// A store and a copy of its tables.
pub(crate) struct Kept {
    store: Store,
    pub(crate) database: Database,
}

impl Kept {
    pub(crate) async fn new(database: Database) -> Kept {
        for table in tables() {
            let copy = format!("CREATE TEMP TABLE kept_{table} AS TABLE {table}");
            database.execute(&copy).await;
        }
        let store = Store::open(&database.url(), StoreOptions::default()).await;
        let store = store.expect("opens");
        Kept { store, database }
    }

    /// Puts back what was stored.
    pub(crate) async fn restore(&self) {
        for table in tables() {
            self.database.execute(&format!("DELETE FROM {table}")).await;
            let back = format!("INSERT INTO {table} TABLE kept_{table}");
            self.database.execute(&back).await;
        }
    }

    pub(crate) async fn verify(&self) -> VerifyReport {
        let report = self.store.verify(VerifyOptions::default()).await;
        report.expect("reads")
    }
}

impl Database {
    /// How many payloads nothing refers to: they are part of their rows here.
    #[expect(clippy::unused_async, reason = "it asks on other backends")]
    pub(crate) async fn unreferenced_payloads(&self) -> i64 {
        0
    }
}
