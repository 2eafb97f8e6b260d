//! A transaction must be one of the store's own database.

use abide::{Engine, EngineError, StoreError};
use abide_test_postgres::{client, shared_url, with_parameter};

use crate::home::{Home, double, verify};
use crate::libraries::{Library, Place, Rusqlite, TokioPostgres};

fn elsewhere<T: std::fmt::Debug>(answer: Result<T, EngineError>) -> String {
    match answer.expect_err("elsewhere") {
        EngineError::Store(StoreError::OtherDatabase { detail, .. }) => detail,
        other => panic!("{other:?}"),
    }
}

fn invalid<T: std::fmt::Debug>(answer: Result<T, EngineError>) -> String {
    match answer.expect_err("refused") {
        EngineError::Store(StoreError::Invalid(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_transaction_of_another_file_is_refused() {
    let (home, other) = (Home::<Rusqlite>::new().await, Home::<Rusqlite>::new().await);
    let engine = home.observer().await;
    let before = other.rows().await;
    let mut client = other.client().await;
    // The store's file beside it does not help: commits over several files are not atomic.
    let attach = format!("ATTACH '{}' AS store", home.place.file().display());
    client.0.execute_batch(&attach).expect("attaches");
    let mut transaction = client.begin().await;
    let detail = elsewhere(engine.start_in::<double>(&mut transaction, "a", &1).await);
    let file = std::fs::canonicalize(other.place.file()).expect("a file");
    assert!(detail.contains(&*file.to_string_lossy()), "{detail}");
    Rusqlite::commit(transaction).await;
    assert_eq!(other.rows().await, before);

    let mut memory = rusqlite::Connection::open_in_memory().expect("opens");
    let mut transaction = memory.transaction().expect("begins");
    elsewhere(engine.start_in::<double>(&mut transaction, "a", &1).await);
    assert_eq!(home.rows().await["executions"], 0);
}

#[tokio::test]
async fn the_same_file_by_another_name_will_do() {
    let home = Home::<Rusqlite>::new().await;
    let engine = home.observer().await;
    let file = home.place.file();
    let directory = file.parent().expect("a directory");
    let name = directory
        .join("..")
        .join(directory.file_name().expect("named"))
        .join("app.db");
    let mut connection = rusqlite::Connection::open(name).expect("opens");
    let mut transaction = connection.transaction().expect("begins");
    let started = engine.start_in::<double>(&mut transaction, "a", &1).await;
    started.expect("started");
    transaction.commit().expect("commits");
    verify(&engine).await;
}

#[tokio::test]
async fn a_transaction_of_a_file_that_took_the_place_of_the_stores_is_refused() {
    let home = Home::<Rusqlite>::new().await;
    let engine = home.observer().await;
    let file = home.place.file();
    let copy = file.with_extension("copy");
    std::fs::copy(&file, &copy).expect("copied");
    std::fs::rename(&copy, &file).expect("replaced");
    let mut connection = rusqlite::Connection::open(&file).expect("opens");
    let mut transaction = connection.transaction().expect("begins");
    let answer = engine.start_in::<double>(&mut transaction, "a", &1).await;
    match answer.expect_err("another file") {
        EngineError::Store(error @ StoreError::FileGone { .. }) => assert!(error.is_definite()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_connection_needs_an_open_transaction() {
    let home = Home::<Rusqlite>::new().await;
    let engine = home.observer().await;
    let mut client = home.client().await;
    let what = invalid(engine.start_in::<double>(&mut client.0, "a", &1).await);
    assert!(what.contains("no transaction is open"), "{what}");
    client.0.execute_batch("BEGIN").expect("begins");
    let started = engine.start_in::<double>(&mut client.0, "a", &1).await;
    started.expect("started");
    client.0.execute_batch("COMMIT").expect("commits");
    assert_eq!(home.rows().await["executions"], 1);
}

#[tokio::test]
async fn a_temporary_table_that_hides_one_of_the_stores_is_noticed() {
    let home = Home::<Rusqlite>::new().await;
    let engine = home.observer().await;
    let mut client = home.client().await;
    let table = "CREATE TEMP TABLE executions (id)";
    client.0.execute_batch(table).expect("runs");
    let mut transaction = client.begin().await;
    let what = invalid(engine.start_in::<double>(&mut transaction, "a", &1).await);
    assert!(what.contains("`executions`"), "{what}");
}

#[tokio::test]
async fn a_transaction_of_another_kind_is_refused() {
    let (sqlite, postgres) = (
        Home::<Rusqlite>::new().await,
        Home::<TokioPostgres>::new().await,
    );
    let mut client = sqlite.client().await;
    let mut transaction = client.begin().await;
    let engine = postgres.observer().await;
    elsewhere(engine.start_in::<double>(&mut transaction, "a", &1).await);
    drop(transaction);
    let mut client = postgres.client().await;
    let mut transaction = client.begin().await;
    let engine = sqlite.observer().await;
    elsewhere(engine.start_in::<double>(&mut transaction, "a", &1).await);
}

/// A database of its own on the tests' server, gone with this test.
struct Database {
    name: String,
    url: String,
}

impl Database {
    async fn new(name: &str) -> Database {
        let name = format!("{name}_{}", std::process::id());
        let server = client(&shared_url()).await;
        let create = format!("CREATE DATABASE {name}");
        server.batch_execute(&create).await.expect("created");
        let (before, parameters) = match shared_url().split_once('?') {
            Some((before, parameters)) => (before.to_owned(), format!("?{parameters}")),
            None => (shared_url(), String::new()),
        };
        let (server, _) = before
            .rsplit_once('/')
            .expect("the address names a database");
        Database {
            url: format!("{server}/{name}{parameters}"),
            name,
        }
    }

    async fn drop(self) {
        let server = client(&shared_url()).await;
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        server.batch_execute(&drop).await.expect("dropped");
    }
}

#[tokio::test]
async fn a_transaction_of_another_database_is_refused() {
    let home = Home::<TokioPostgres>::new().await;
    let engine = home.observer().await;
    let other = Database::new("abide_other").await;
    let mut connection = client(&other.url).await;
    let mut transaction = connection.transaction().await.expect("begins");
    let detail = elsewhere(engine.start_in::<double>(&mut transaction, "a", &1).await);
    assert!(detail.contains("there is no schema"), "{detail}");
    transaction
        .batch_execute("SELECT 1")
        .await
        .expect("is as it was");
    drop(transaction);

    // A store in a schema of the same name, which might be a copy of this one.
    let Place { url, .. } = &home.place;
    let (_, schema) = url.split_once("schema=").expect("named in the address");
    let schema = percent_encoding::percent_decode_str(schema).decode_utf8_lossy();
    let there = with_parameter(&other.url, "schema", &schema);
    let store = Engine::connect(&there).await.expect("a new store");
    let copy_id = format!(
        "UPDATE {}store SET id = (SELECT '{}')",
        home.place.prefix,
        store_id(&home).await
    );
    connection.batch_execute(&copy_id).await.expect("copied");
    let mut transaction = connection.transaction().await.expect("begins");
    let detail = elsewhere(engine.start_in::<double>(&mut transaction, "a", &1).await);
    assert!(detail.contains("abide_other"), "{detail}");
    drop(transaction);
    let count = format!("SELECT count(*) FROM {}executions", home.place.prefix);
    let row = connection.query_one(&count, &[]).await.expect("counts");
    assert_eq!(row.get::<_, i64>(0), 0);
    store.store().close().await;
    other.drop().await;
}

async fn store_id(home: &Home<TokioPostgres>) -> String {
    let sql = format!("SELECT id FROM {}store", home.place.prefix);
    let row = home.client().await.0.query_one(&sql, &[]).await;
    row.expect("a store").get(0)
}

#[tokio::test]
async fn a_read_only_transaction_is_refused_in_words() {
    let home = Home::<TokioPostgres>::new().await;
    let engine = home.observer().await;
    let mut client = home.client().await;
    let begun = client.0.build_transaction().read_only(true).start();
    let mut transaction = begun.await.expect("begins");
    let what = invalid(engine.start_in::<double>(&mut transaction, "a", &1).await);
    assert!(what.contains("read-only"), "{what}");
}

#[tokio::test]
async fn a_transaction_that_has_failed_says_so() {
    let home = Home::<TokioPostgres>::new().await;
    let engine = home.observer().await;
    let mut client = home.client().await;
    let mut transaction = client.begin().await;
    let failed = transaction.batch_execute("SELECT 1/0").await;
    failed.expect_err("divides by zero");
    let what = invalid(engine.start_in::<double>(&mut transaction, "a", &1).await);
    assert!(what.contains("aborted"), "{what}");
}
