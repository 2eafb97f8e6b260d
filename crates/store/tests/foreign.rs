//! Files that are not this store's: refused before anything in them is changed.

use abide_store::{Store, StoreError, StoreOptions};
use rusqlite::Connection;

async fn open(path: &std::path::Path, create: bool) -> Result<Store, StoreError> {
    let options = StoreOptions {
        create,
        ..StoreOptions::default()
    };
    Store::open(path.to_str().expect("utf-8"), options).await
}

#[tokio::test]
async fn another_programs_database_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("other.db");
    let other = Connection::open(&path).expect("opens");
    other
        .execute_batch("CREATE TABLE t (a INTEGER)")
        .expect("created");
    drop(other);
    let before = std::fs::read(&path).expect("reads");
    for create in [false, true] {
        let error = open(&path, create).await.expect_err("not ours");
        assert!(matches!(error, StoreError::NotADatabase(_)), "{error}");
    }
    assert_eq!(std::fs::read(&path).expect("reads"), before);
}

#[tokio::test]
async fn who_only_looks_makes_no_store_of_an_empty_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("empty.db");
    std::fs::write(&path, "").expect("written");
    let error = open(&path, false).await.expect_err("empty");
    assert!(matches!(error, StoreError::NotADatabase(_)), "{error}");
    assert_eq!(std::fs::read(&path).expect("reads"), b"");
    open(&path, true).await.expect("becomes a store");
    open(&path, false).await.expect("is one now");
}

#[tokio::test]
async fn who_only_looks_makes_no_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("missing.db");
    let error = open(&path, false).await.expect_err("missing");
    assert!(error.to_string().contains("no such file"), "{error}");
    assert!(!path.exists());
}
