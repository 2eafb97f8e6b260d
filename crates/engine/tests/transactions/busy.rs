//! A user's transactions and an engine that never pauses, on one SQLite file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use abide::Engine;
use rusqlite::{Connection, TransactionBehavior};
use tokio::task::JoinSet;

use crate::home::{Home, double, verify};
use crate::libraries::Rusqlite;

const LANES: usize = 4;
const TRANSACTIONS: i64 = 20;

/// Starts one execution after another, in a few lanes, and counts them.
fn keep_busy(engine: &Engine, started: &Arc<AtomicU64>) -> JoinSet<()> {
    let lane = |lane| {
        let (engine, started) = (engine.clone(), Arc::clone(started));
        async move {
            for n in 0_i64.. {
                let instance = format!("busy-{lane}-{n}");
                engine.start::<double>(&instance, &n).await.expect("starts");
                started.fetch_add(1, Ordering::AcqRel);
            }
        }
    };
    (0..LANES).map(lane).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_asks_often_gets_through_beside_a_busy_engine() {
    let home = Home::<Rusqlite>::new().await;
    let engine = home.observer().await;
    let started = Arc::new(AtomicU64::new(0));
    let busy = keep_busy(&engine, &started);
    let (runtime, user) = (tokio::runtime::Handle::current(), engine.clone());
    let mut connection = Connection::open(home.place.file()).expect("opens");
    let work = move || {
        // As docs/transactions.md says, which is satisfied with five seconds.
        let again = |asked| {
            std::thread::sleep(Duration::from_micros(500));
            asked < 200_000
        };
        connection.busy_handler(Some(again)).expect("set");
        for n in 0..TRANSACTIONS {
            let before = started.load(Ordering::Acquire);
            while started.load(Ordering::Acquire) < before + LANES as u64 {
                std::thread::yield_now();
            }
            let immediate = TransactionBehavior::Immediate;
            let begun = connection.transaction_with_behavior(immediate);
            let mut transaction = begun.expect("its turn comes");
            let insert = "INSERT INTO orders VALUES (?1)";
            let order = format!("order-{n}");
            transaction.execute(insert, [&order]).expect("written");
            let start = user.start_in::<double>(&mut transaction, &order, &n);
            runtime.block_on(start).expect("started");
            transaction.commit().expect("commits");
        }
    };
    tokio::task::spawn_blocking(work)
        .await
        .expect("all went through");
    drop(busy);
    assert_eq!(home.rows().await["orders"], TRANSACTIONS);
    verify(&engine).await;
}
