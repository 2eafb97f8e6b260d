//! A database whose pages or indexes are damaged: that is found.

use std::io::Write;
use std::path::PathBuf;

use abide_core::graph::TaskSpec;
use abide_store::{Invariant, Store, StoreOptions, Subject, VerifyOptions, VerifyReport};
use abide_test_postgres::{Durability, Server, client};

use crate::fixture::{Fixture, graph};
use crate::scenario::Scenario;

/// Asserts that the database is found damaged, and as what: one finding each.
fn assert_damaged(report: &VerifyReport, says: &[&str]) {
    assert_eq!(report.findings.len(), says.len(), "{report}");
    for (finding, says) in report.findings.iter().zip(says) {
        assert_eq!(
            (finding.invariant, &finding.subject),
            (Invariant::I12, &Subject::Database),
            "{report}"
        );
        assert!(finding.what.contains(says), "{report}");
    }
}

async fn verify(url: &str) -> VerifyReport {
    let store = Store::open(url, StoreOptions::default()).await;
    let store = store.expect("opens");
    let report = store.verify(VerifyOptions::default()).await;
    store.close().await;
    report.expect("answers")
}

#[tokio::test]
async fn a_row_that_is_there_twice_is_found() {
    let (scenario, database) = Scenario::new().await;
    let statements = [
        // As if its index had lost the row.
        "ALTER TABLE task_executions DROP CONSTRAINT task_executions_pkey",
        "INSERT INTO task_executions SELECT * FROM task_executions WHERE execution = {failed} AND number = 1",
    ];
    for statement in statements {
        database.execute(&scenario.sql(statement)).await;
    }
    assert_damaged(
        &verify(&database.url()).await,
        &[
            "the constraint task_executions_pkey of table task_executions is missing",
            "1 rows of task_executions break",
        ],
    );
}

#[tokio::test]
async fn a_table_that_is_gone_is_found() {
    let (_scenario, database) = Scenario::new().await;
    database.execute("DROP TABLE timers").await;
    assert_damaged(
        &verify(&database.url()).await,
        &["the table timers is missing", "it is damaged"],
    );
}

#[tokio::test]
async fn a_page_that_is_damaged_is_found() {
    let mut server = Server::start(Durability::None);
    let url = server.url();
    let fixture = Fixture::at(&url).await;
    let one = graph(vec![TaskSpec::new("a")], &[]);
    let version = fixture.version("w", &one).await;
    fixture.start("i", version, &one).await;
    fixture.store.close().await;
    let file = {
        let client = client(&url).await;
        let sql = "SELECT current_setting('data_directory'), pg_relation_filepath('abide.task_executions')";
        let row = client.query_one(sql, &[]).await.expect("reads");
        PathBuf::from(row.get::<_, String>(0)).join(row.get::<_, String>(1))
    };
    server.stop();
    let mut page = std::fs::OpenOptions::new()
        .write(true)
        .open(file)
        .expect("opens");
    page.write_all(&[0xff; 24]).expect("writes");
    drop(page);
    server.restart();
    assert_damaged(&verify(&url).await, &["invalid page"]);
}
