//! Transactions that see what was committed before they began, and not what came after.

use abide::{Engine, EngineError, StoreError};
use tokio_postgres::IsolationLevel;

use crate::home::{Home, double, question, verify};
use crate::libraries::{Library, Rusqlite, TokioPostgres};

async fn begin(
    client: &mut TokioPostgres,
    level: IsolationLevel,
) -> tokio_postgres::Transaction<'_> {
    let begun = client.0.build_transaction().isolation_level(level).start();
    let transaction = begun.await.expect("begins");
    // It sees what is committed by now.
    transaction.batch_execute("SELECT 1").await.expect("runs");
    transaction
}

fn is_conflict<T: std::fmt::Debug>(answer: Result<T, EngineError>) -> bool {
    match answer.expect_err("too late") {
        EngineError::Store(error @ StoreError::Conflict(_)) => {
            error.is_definite() && error.is_transient() && error.to_string().contains("roll")
        }
        other => panic!("{other:?}"),
    }
}

const STRICT: [IsolationLevel; 2] = [IsolationLevel::RepeatableRead, IsolationLevel::Serializable];

#[tokio::test]
async fn starts_can_be_made_at_every_level() {
    let home = Home::<TokioPostgres>::new().await;
    let engine = home.worker().await;
    let mut client = home.client().await;
    for (n, level) in STRICT.into_iter().enumerate() {
        let instance = format!("a{n}");
        let mut transaction = begin(&mut client, level).await;
        home.order(&mut transaction, &instance).await;
        let run = engine
            .start_in::<double>(&mut transaction, &instance, &4)
            .await;
        let run = run.expect("started");
        transaction.commit().await.expect("commits");
        assert_eq!(run.result().await.expect("completes"), 8);
    }
    verify(&engine).await;
    engine.shutdown().await;
}

#[tokio::test]
async fn a_start_that_cannot_see_an_earlier_one_must_be_run_again() {
    let home = Home::<TokioPostgres>::new().await;
    let engine = home.observer().await;
    let mut client = home.client().await;
    for (n, level) in STRICT.into_iter().enumerate() {
        let instance = format!("a{n}");
        let mut transaction = begin(&mut client, level).await;
        engine
            .start::<double>(&instance, &4)
            .await
            .expect("started");
        let late = engine
            .start_in::<double>(&mut transaction, &instance, &4)
            .await;
        assert!(is_conflict(late));
        transaction.rollback().await.expect("rolls back");
        let mut transaction = begin(&mut client, level).await;
        let again = engine
            .start_in::<double>(&mut transaction, &instance, &4)
            .await;
        assert!(!again.expect("found").is_new());
        transaction.commit().await.expect("commits");
    }
    verify(&engine).await;
}

#[tokio::test]
async fn a_signal_that_might_not_see_who_waits_is_refused() {
    let home = Home::<TokioPostgres>::new().await;
    let engine = home.observer().await;
    engine.start::<question>("q", &1).await.expect("started");
    let mut client = home.client().await;
    for level in STRICT {
        let mut transaction = begin(&mut client, level).await;
        home.order(&mut transaction, &format!("{level:?}")).await;
        let sent = engine
            .signal_in(&mut transaction, "q", "answer", &"yes")
            .await;
        match sent.expect_err("refused") {
            EngineError::Store(StoreError::Invalid(what)) => {
                assert!(what.contains("READ COMMITTED"), "{what}");
            }
            other => panic!("{other:?}"),
        }
        // It is of use for everything else.
        let started = engine
            .start_in::<double>(&mut transaction, &format!("{level:?}"), &1)
            .await;
        started.expect("started");
        transaction.commit().await.expect("commits");
    }
    let rows = home.rows().await;
    assert_eq!((rows["signals"], rows["orders"]), (0, 2));
    verify(&engine).await;
}

#[tokio::test]
async fn a_sqlite_transaction_that_read_before_others_wrote_must_be_run_again() {
    let home = Home::<Rusqlite>::new().await;
    let engine = home.observer().await;
    let mut client = home.client().await;
    let read = |transaction: &rusqlite::Transaction<'_>| {
        let count = transaction.query_row("SELECT count(*) FROM orders", [], |row| row.get(0));
        let _: i64 = count.expect("reads");
    };
    let mut transaction = client.0.transaction().expect("begins");
    read(&transaction);
    engine.start::<double>("a", &4).await.expect("started");
    let late = engine.start_in::<double>(&mut transaction, "b", &4).await;
    assert!(is_conflict(late));
    let late = engine.signal_in(&mut transaction, "a", "answer", &4).await;
    assert!(is_conflict(late));
    transaction.rollback().expect("rolls back");
    let mut transaction = client.0.transaction().expect("begins");
    read(&transaction);
    let started = engine.start_in::<double>(&mut transaction, "b", &4).await;
    started.expect("started");
    transaction.commit().expect("commits");
    assert_eq!(home.rows().await["executions"], 2);
    verify(&engine).await;
}

async fn is_still_good(engine: &Engine, transaction: &mut rusqlite::Transaction<'_>) {
    let started = engine.start_in::<double>(transaction, "good", &4).await;
    started.expect("started");
}

#[tokio::test]
async fn what_stands_behind_a_savepoint_goes_with_it() {
    let home = Home::<Rusqlite>::new().await;
    let engine = home.observer().await;
    let mut client = home.client().await;
    let mut transaction = client.0.transaction().expect("begins");
    let mut savepoint = transaction.savepoint().expect("begins");
    let started = engine.start_in::<double>(&mut savepoint, "gone", &4).await;
    started.expect("started");
    savepoint.rollback().expect("rolls back");
    drop(savepoint);
    is_still_good(&engine, &mut transaction).await;
    transaction.commit().expect("commits");

    let home = Home::<TokioPostgres>::new().await;
    let postgres = home.observer().await;
    let mut client = home.client().await;
    let mut transaction = client.begin().await;
    let mut savepoint = transaction.transaction().await.expect("begins");
    let started = postgres
        .start_in::<double>(&mut savepoint, "gone", &4)
        .await;
    started.expect("started");
    savepoint.rollback().await.expect("rolls back");
    let started = postgres
        .start_in::<double>(&mut transaction, "good", &4)
        .await;
    started.expect("started");
    transaction.commit().await.expect("commits");

    for engine in [engine, postgres] {
        let gone = engine.find::<double>("gone").await;
        assert!(matches!(gone, Err(EngineError::UnknownInstance(_))));
        engine.find::<double>("good").await.expect("exists");
        verify(&engine).await;
    }
}
