//! Commits that wait for a synchronous standby which never answers: nothing is acknowledged that it has not got.

use std::time::Duration;

use abide::{Engine, EngineError};
use abide_test_postgres::{Durability, Server, client, with_parameter};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::child::{Home, PATIENCE};
use crate::scene::{Order, chore};

type Started = Result<i64, EngineError>;

fn start(engine: &Engine, number: u32) -> JoinHandle<Started> {
    let engine = engine.clone();
    tokio::spawn(async move {
        let order = Order { number };
        let run = engine.start::<chore>(&order.instance(), &order).await;
        run.map(|run| run.id().0)
    })
}

/// From now on, soon, commits wait for this standby.
async fn wait_for_standby(owner: &Client, name: &str) {
    for sql in [
        format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'"),
        "SELECT pg_reload_conf()".to_owned(),
    ] {
        owner.batch_execute(&sql).await.expect("sound");
    }
}

/// A server process whose commit waits for a standby.
async fn waiting(owner: &Client) -> Option<i32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'abide'";
    let row = owner.query_opt(&format!("{sql} LIMIT 1"), &[]).await;
    row.expect("sound").map(|row| row.get(0))
}

/// A start whose commit waits, and by which process.
async fn start_that_waits(owner: &Client, engine: &Engine) -> (u32, JoinHandle<Started>, i32) {
    // The server does as it is told some time after it was told.
    for number in 0.. {
        let started = start(engine, number);
        while !started.is_finished() {
            if let Some(process) = waiting(owner).await {
                return (number, started, process);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        started.await.expect("runs").expect("nothing waits yet");
    }
    unreachable!("there is no end of numbers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_standby_has_is_not_acknowledged_however_the_wait_for_it_ends() {
    for end in ["pg_terminate_backend", "pg_cancel_backend"] {
        let server = Server::start(Durability::Full);
        let owner = client(&server.url()).await;
        let home = Home::of(&with_parameter(&server.url(), "statement_timeout", "5000"));
        let patience = Duration::from_secs(1);
        let engine = home.engine().busy_timeout(patience).connect().await;
        let engine = engine.expect("opens");
        let before = start(&engine, u32::MAX / 8).await.expect("runs");
        before.expect("the workflow's version is known now");
        wait_for_standby(&owner, "nobody").await;
        let (number, started, process) = start_that_waits(&owner, &engine).await;
        let ended = owner
            .execute(&format!("SELECT {end}($1)"), &[&process])
            .await;
        ended.expect("sound");
        let error = started.await.expect("runs").expect_err("no standby has it");
        let EngineError::Store(error) = error else {
            panic!("{error}");
        };
        assert!(!error.is_definite(), "{error}");
        // It is there, but only here: who asks again is not told so either.
        let again = start(&engine, number).await.expect("runs");
        assert!(again.is_err(), "acknowledged: {again:?}");
        wait_for_standby(&owner, "").await;
        while start(&engine, number).await.expect("runs").is_err() {}
        let found = owner
            .query(
                "SELECT FROM abide.executions WHERE instance = $1",
                &[&Order { number }.instance()],
            )
            .await;
        assert_eq!(found.expect("sound").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_was_lost_is_acknowledged_once_the_standby_has_it() {
    let server = Server::start(Durability::Full);
    let owner = client(&server.url()).await;
    let home = Home::of(&server.url());
    let engine = home.engine().busy_timeout(PATIENCE).connect().await;
    let engine = engine.expect("opens");
    let before = start(&engine, u32::MAX / 8).await.expect("runs");
    before.expect("the workflow's version is known now");
    wait_for_standby(&owner, "nobody").await;
    let (_, started, process) = start_that_waits(&owner, &engine).await;
    let ended = owner
        .execute("SELECT pg_terminate_backend($1)", &[&process])
        .await;
    ended.expect("sound");
    // What asks whether it is durable waits as well.
    while waiting(&owner).await.is_none_or(|other| other == process) {
        assert!(!started.is_finished(), "answered before the standby has it");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    wait_for_standby(&owner, "").await;
    started.await.expect("runs").expect("it is durable now");
}
