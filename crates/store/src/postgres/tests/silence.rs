//! Processes of the server that stand still while their connections live.

use std::collections::BTreeSet;
use std::time::Duration;

use abide_core::ids::{ExecutionId, WorkerId};
use abide_core::kernel::{Request, Signal};
use abide_core::payload::Payload;
use abide_test_postgres::{Durability, Server, client, send_signal, with_parameter};

use crate::error::ApplyError;
use crate::views::NewWorker;
use crate::{Store, StoreOptions};

const LEASE: Duration = Duration::from_secs(3600);

/// The processes that serve the store, which go on when this is dropped.
struct Stopped(BTreeSet<i32>);

impl Stopped {
    async fn all_of(server: &Server) -> Stopped {
        let client = client(&server.url()).await;
        let rows = client
            .query(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'silent'",
                &[],
            )
            .await;
        let pids: BTreeSet<i32> = rows.expect("reads").iter().map(|row| row.get(0)).collect();
        for pid in &pids {
            send_signal("STOP", pid.unsigned_abs());
        }
        Stopped(pids)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            send_signal("CONT", pid.unsigned_abs());
        }
    }
}

async fn open(server: &Server) -> Store {
    let url = with_parameter(&server.url(), "application_name", "silent");
    let url = with_parameter(&url, "statement_timeout", "1000");
    let options = StoreOptions {
        busy_timeout: Duration::from_secs(600),
        ..StoreOptions::default()
    };
    Store::open(&url, options).await.expect("opens")
}

#[tokio::test]
async fn processes_of_the_server_that_stand_still_hold_up_nobody_for_ever() {
    let server = Server::start(Durability::None);
    let store = open(&server).await;
    let worker = WorkerId(7);
    let row = NewWorker {
        id: worker,
        host: "host".to_owned(),
        pid: 1,
    };
    store.register_worker(row, LEASE).await.expect("written");
    // Each kind of session has been used, and would be again.
    for round in 0..2 {
        let stopped = match round {
            0 => None,
            _ => Some(Stopped::all_of(&server).await),
        };
        // A quarter of it is enough to connect anew, however busy the machine is.
        let lease = Duration::from_secs(24);
        assert!(store.heartbeat(worker, lease).await.expect("renewed"));
        assert!(store.end(ExecutionId(1)).await.expect("reads").is_none());
        assert_eq!(store.workers().await.expect("reads").len(), 1);
        let signal = Signal {
            instance: "nobody".into(),
            name: "go".into(),
            payload: Payload::from_json("1"),
            actor: None,
        };
        // Both that write.
        let ask = || store.apply(Request::Signal(signal.clone()));
        for answer in <[_; 2]>::from(tokio::join!(ask(), ask())) {
            assert!(matches!(answer, Err(ApplyError::Refused(_))), "{answer:?}");
        }
        drop(stopped);
    }
}

#[tokio::test]
async fn a_server_that_takes_connections_and_says_nothing_is_out_of_reach() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let url = format!("postgres://app@127.0.0.1:{port}/app?connect_timeout=1&sslmode=disable");
    let error = Store::open(&url, StoreOptions::default()).await;
    let error = error.expect_err("it says nothing");
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains("has not answered"), "{error}");
}
