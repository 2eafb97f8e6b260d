//! A PostgreSQL schema that can be put back as it was, for tests that do damage to what is stored.

use abide_store::{Invariant, Store, StoreOptions, VerifyOptions, VerifyReport};

use super::backend::Database;
use super::dump::tables;
use super::planted::{Plant, Who};
use super::raw::NO_NUMBER;
use super::schema::SchemaChange;

/// Whether a long payload is kept apart from the row that it belongs to.
pub(crate) const PAYLOADS_APART: bool = false;

/// How many random sequences are tried, and after how many of its operations each is looked at. A look is a copy of the store here.
pub(crate) const CASES: u32 = 64;
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

/// Changes of the schema, as a person or a program may make them.
pub(crate) const SCHEMA_CHANGES: &[SchemaChange] = &[
    SchemaChange {
        sql: &["DROP INDEX executions_instance"],
        says: &["the index executions_instance of table executions is missing"],
    },
    SchemaChange {
        sql: &["ALTER TABLE timers DROP CONSTRAINT timers_pkey"],
        says: &["the constraint timers_pkey of table timers is missing"],
    },
    SchemaChange {
        sql: &[
            "CREATE FUNCTION eat() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER eats BEFORE INSERT ON task_outbox FOR EACH ROW EXECUTE FUNCTION eat()",
            "ALTER TABLE task_outbox DISABLE TRIGGER eats",
        ],
        says: &["trigger eats of table task_outbox, which is not Abide\'s"],
    },
    SchemaChange {
        sql: &[
            "CREATE TRIGGER eats BEFORE INSERT ON execution_events_first FOR EACH ROW EXECUTE FUNCTION eat()",
        ],
        says: &["trigger eats of table execution_events_first, which is not Abide\'s"],
    },
    SchemaChange {
        sql: &["CREATE RULE stays AS ON DELETE TO timers DO INSTEAD NOTHING"],
        says: &["rule stays of table timers, which is not Abide\'s"],
    },
    SchemaChange {
        sql: &["ALTER TABLE workers ADD COLUMN mood text"],
        says: &["column workers.mood, which is not Abide\'s"],
    },
    SchemaChange {
        sql: &["ALTER TABLE task_executions ALTER COLUMN node SET DEFAULT 'x'"],
        says: &[
            "the column task_executions.node is `text not null default 'x'::text`, it should be `text not null`",
        ],
    },
    SchemaChange {
        sql: &["ALTER TABLE signals ALTER COLUMN payload DROP NOT NULL"],
        says: &["the column signals.payload is `text`, it should be `text not null`"],
    },
    SchemaChange {
        sql: &["ALTER TABLE timers ALTER COLUMN piece TYPE bigint"],
        says: &["the column timers.piece is `bigint not null`"],
    },
    SchemaChange {
        sql: &["ALTER TABLE store DROP CONSTRAINT store_only_row_check"],
        says: &["the constraint store_only_row_check of table store is missing"],
    },
    SchemaChange {
        sql: &["ALTER TABLE executions ADD CONSTRAINT never CHECK (open < 0) NOT VALID"],
        says: &["constraint never of table executions, which is not Abide\'s"],
    },
    SchemaChange {
        sql: &["ALTER TABLE steps SET UNLOGGED"],
        says: &["the table steps is `table unlogged`, it should be `table`"],
    },
    SchemaChange {
        sql: &["ALTER TABLE workflow_versions ENABLE ROW LEVEL SECURITY"],
        says: &["the table workflow_versions is `table with row level security`"],
    },
    SchemaChange {
        sql: &["CREATE UNIQUE INDEX once ON executions (workflow_version, id)"],
        says: &["index once of table executions, which is not Abide\'s"],
    },
    SchemaChange {
        sql: &["CREATE TABLE shadow () INHERITS (signals)"],
        says: &["table shadow whose rows are shown in table signals, which is not Abide\'s"],
    },
    SchemaChange {
        sql: &["ALTER TABLE execution_events DETACH PARTITION execution_events_first"],
        says: &[
            "the table execution_events_first is no partition of execution_events",
            "no partition of execution_events has room for the oldest executions",
            "a partition of execution_events that ends at",
        ],
    },
    SchemaChange {
        sql: &["DROP VIEW task_status"],
        says: &["the view task_status is missing"],
    },
    // What does no harm.
    SchemaChange {
        sql: &[
            "CREATE INDEX mine ON executions (created_at)",
            "CREATE TABLE invoices (id bigint PRIMARY KEY, total bigint UNIQUE)",
            "ALTER TABLE task_executions SET (fillfactor = 90)",
        ],
        says: &[],
    },
];

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
