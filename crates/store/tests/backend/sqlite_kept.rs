//! A SQLite file that can be put back as it was, for tests that do damage to what is stored.

use abide_store::{Invariant, VerifyOptions, VerifyReport, verify_file};

use super::backend::Database;
use super::planted::{Plant, Who};
use super::raw::NO_NUMBER;
use super::schema::SchemaChange;

/// Whether a long payload is kept apart from the row that it belongs to.
pub(crate) const PAYLOADS_APART: bool = true;

/// How many random sequences are tried, and after how many of its operations each is looked at.
pub(crate) const CASES: u32 = 128;
pub(crate) const BETWEEN_LOOKS: usize = 1;

/// What plants say in words that stand for this backend's.
pub(crate) const SPELT_HERE: &[(&str, &str)] =
    &[("{no_number}", NO_NUMBER), ("{priority_9}", "rank = -9")];

/// Violations that only this backend can hold.
pub(crate) const PLANTED_HERE: &[Plant] = &[
    Plant {
        name: "a_payload_that_is_gone",
        sql: "DELETE FROM payloads WHERE id = (SELECT CAST(substr(output, 2) AS INTEGER) FROM task_executions
              WHERE execution = {caught} AND number = 1)",
        breaks: Invariant::I1,
        who: Who::Task("caught", 1),
        says: "which is missing",
    },
];

/// Changes of the schema, as a person or a program may make them.
pub(crate) const SCHEMA_CHANGES: &[SchemaChange] = &[
    SchemaChange {
        sql: &["DROP INDEX executions_instance"],
        says: &["the index executions_instance of table executions is missing"],
    },
    SchemaChange {
        sql: &["DROP INDEX execution_events_stream"],
        says: &["the index execution_events_stream of table execution_events is missing"],
    },
    SchemaChange {
        sql: &[
            "CREATE TRIGGER eats AFTER INSERT ON task_outbox BEGIN DELETE FROM task_outbox; END",
        ],
        says: &["a trigger eats runs at writes to task_outbox"],
    },
    SchemaChange {
        sql: &["CREATE UNIQUE INDEX once ON executions (workflow_version, id)"],
        says: &["a unique index once refuses rows of table executions"],
    },
    SchemaChange {
        sql: &["ALTER TABLE workers ADD COLUMN mood TEXT"],
        says: &["the table workers has a column mood"],
    },
    SchemaChange {
        sql: &[
            "ALTER TABLE timers RENAME TO keyed",
            "CREATE TABLE timers (due_at INTEGER NOT NULL, kind INTEGER NOT NULL, execution INTEGER NOT NULL, \
             task INTEGER NOT NULL, piece INTEGER DEFAULT 7)",
            "INSERT INTO timers SELECT * FROM keyed",
            "DROP TABLE keyed",
        ],
        says: &[
            "the table timers has the primary key ()",
            "the column timers.piece is `INTEGER DEFAULT 7`, it should be `INTEGER NOT NULL`",
        ],
    },
    SchemaChange {
        sql: &["DROP VIEW task_status"],
        says: &["the view task_status is missing"],
    },
    SchemaChange {
        sql: &[
            "DROP VIEW execution_status",
            "CREATE VIEW execution_status AS SELECT 1 AS instance_id",
        ],
        says: &["the view execution_status is declared as"],
    },
    // What does no harm.
    SchemaChange {
        sql: &[
            "CREATE INDEX mine ON executions (created_at)",
            "CREATE TABLE invoices (id INTEGER PRIMARY KEY, total INTEGER)",
            "CREATE UNIQUE INDEX invoices_total ON invoices (total)",
            "CREATE TRIGGER of_mine AFTER INSERT ON invoices BEGIN DELETE FROM invoices; END",
        ],
        says: &[],
    },
];

/// A closed store and a copy of it.
pub(crate) struct Kept {
    pub(crate) database: Database,
}

impl Kept {
    #[expect(clippy::unused_async, reason = "it waits on other backends")]
    pub(crate) async fn new(database: Database) -> Kept {
        let path = database.path();
        std::fs::copy(&path, path.with_extension("kept")).expect("copied");
        Kept { database }
    }

    /// Puts back what was stored.
    #[expect(clippy::unused_async, reason = "it waits on other backends")]
    pub(crate) async fn restore(&self) {
        let path = self.database.path();
        for beside in ["db-wal", "db-shm"] {
            std::fs::remove_file(path.with_extension(beside)).ok();
        }
        std::fs::copy(path.with_extension("kept"), path).expect("copied");
    }

    #[expect(clippy::unused_async, reason = "it waits on other backends")]
    pub(crate) async fn verify(&self) -> VerifyReport {
        verify_file(&self.database.url(), &VerifyOptions::default()).expect("reads")
    }
}

impl Database {
    /// How many payloads nothing refers to.
    pub(crate) async fn unreferenced_payloads(&self) -> i64 {
        let columns = [
            ("workflow_versions", "graph"),
            ("executions", "graph"),
            ("executions", "input"),
            ("task_executions", "input"),
            ("task_executions", "output"),
            ("task_executions", "changes"),
            ("task_executions", "checkpoint"),
            ("task_executions", "error"),
            ("steps", "result"),
            ("signals", "payload"),
        ];
        let references = columns.map(|(table, column)| {
            format!("SELECT {column} AS r FROM {table} WHERE {column} LIKE '@%'")
        });
        let sql = format!(
            "SELECT count(*) FROM payloads WHERE '@' || id NOT IN ({})",
            references.join(" UNION ALL ")
        );
        self.rows(&[&sql]).await[0][0][0].1.integer()
    }
}
