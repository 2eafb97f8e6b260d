//! Files that are damaged: that is found, and is no reason to panic.

use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::OnceLock;

use abide_store::{Invariant, Subject, VerifyOptions, verify_file};
use proptest::collection::vec;
use proptest::prelude::*;
use rusqlite::Connection;

use crate::scenario::Scenario;

/// Overwrites the end of the first page of a table or index.
fn damage(path: &std::path::Path, name: &str) {
    let connection = Connection::open(path).expect("opens");
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, u32>(0).map(u64::from))
            .expect("reads")
    };
    let page = number(&format!(
        "SELECT rootpage FROM sqlite_schema WHERE name = '{name}'"
    ));
    let size = number("PRAGMA page_size");
    drop(connection);
    let mut file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("opens");
    let mut last = [0; 24];
    file.seek(SeekFrom::Start(page * size - 24)).expect("seeks");
    file.read_exact(&mut last).expect("reads");
    file.seek(SeekFrom::Start(page * size - 24)).expect("seeks");
    file.write_all(&last.map(|byte| !byte)).expect("writes");
}

#[tokio::test]
async fn a_page_that_is_damaged_is_found() {
    let (_scenario, database) = Scenario::new().await;
    damage(&database.path(), "task_executions_worker");
    let report = verify_file(&database.url(), &VerifyOptions::default()).expect("reads");
    assert!(!report.is_clean());
    for finding in &report.findings {
        assert_eq!(
            (finding.invariant, &finding.subject),
            (Invariant::I12, &Subject::Database),
            "{report}"
        );
    }
}

/// The bytes of a file with something of everything.
fn sound() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let (_scenario, database) = runtime.expect("a runtime").block_on(Scenario::new());
        std::fs::read(database.path()).expect("reads")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a file holds, verification answers: findings, or that it cannot be read.
    #[test]
    fn a_damaged_file_is_no_reason_to_panic(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        keep in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = sound().to_owned();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(keep) = keep {
            bytes.truncate(keep.index(bytes.len()));
        }
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("damaged.db");
        std::fs::write(&path, &bytes).expect("writes");
        if let Ok(report) = verify_file(path.to_str().expect("utf-8"), &VerifyOptions::default()) {
            prop_assert!(!report.to_string().is_empty());
        }
        prop_assert_eq!(std::fs::read(&path).expect("reads"), bytes, "nothing was written");
    }
}
