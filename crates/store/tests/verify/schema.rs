//! A schema that was changed under the store: each difference is named, and what does no harm is not.

use abide_store::{Invariant, Store, StoreOptions, Subject, VerifyOptions, VerifyReport};

use crate::backend::Database;
use crate::kept::SCHEMA_CHANGES;
use crate::scenario::Scenario;

/// Statements that change the schema, and what verification says of them.
pub(crate) struct SchemaChange {
    pub(crate) sql: &'static [&'static str],
    pub(crate) says: &'static [&'static str],
}

async fn verify(database: &Database) -> VerifyReport {
    let store = Store::open(&database.url(), StoreOptions::default()).await;
    let store = store.expect("opens");
    let report = store.verify(VerifyOptions::default()).await;
    store.close().await;
    report.expect("answers")
}

#[tokio::test]
async fn each_change_of_the_schema_is_named() {
    let (_scenario, database) = Scenario::new().await;
    for statement in SCHEMA_CHANGES.iter().flat_map(|change| change.sql) {
        database.execute(statement).await;
    }
    let report = verify(&database).await;
    for finding in &report.findings {
        let of = (finding.invariant, &finding.subject);
        assert_eq!(of, (Invariant::I12, &Subject::Database), "{report}");
    }
    let says: Vec<&str> = SCHEMA_CHANGES
        .iter()
        .flat_map(|change| change.says)
        .copied()
        .collect();
    for says in &says {
        let found = report
            .findings
            .iter()
            .filter(|finding| finding.what.contains(says));
        assert_eq!(found.count(), 1, "`{says}` in {report}");
    }
    assert_eq!(report.findings.len(), says.len(), "{report}");
}

#[tokio::test]
async fn a_column_with_another_name_is_named_although_its_table_cannot_be_read() {
    let (_scenario, database) = Scenario::new().await;
    database
        .execute("ALTER TABLE executions RENAME COLUMN grace_until TO grace")
        .await;
    let report = verify(&database).await;
    let names = |word: &str| {
        let mut findings = report.findings.iter();
        findings.any(|finding| finding.invariant == Invariant::I12 && finding.what.contains(word))
    };
    assert!(names("grace_until"), "{report}");
    assert!(
        names("column executions.grace") || names("column grace"),
        "{report}"
    );
}
