//! News between processes: they arrive although nobody polls for an hour, and they are made up for when the
//! connection that brings them is lost.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use abide::{Engine, RunError};
use abide_test_postgres::{Durability, Server, client, fresh_schema};

use crate::child::Home;
use crate::proxy::{Cut, Proxy};
use crate::scene::{Order, chore, visit};

const HOUR: Duration = Duration::from_secs(3600);
const LEASE: Duration = Duration::from_secs(60);
const ROUNDS: u32 = 10;

/// An order that wants signals.
fn visited(number: u32) -> Order {
    Order {
        number: number * 4 + 1,
    }
}

/// From a call here to its result there and back; prints how long that took.
async fn round_trips(what: &str, rounds: u32, mut trip: impl AsyncFnMut(u32)) {
    let mut took = Vec::new();
    for round in 0..rounds {
        let begun = Instant::now();
        trip(round).await;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    println!(
        "{what}: median {:?}, longest {:?}",
        took[took.len() / 2],
        took[took.len() - 1]
    );
}

async fn through_signals(engine: &Engine, order: &Order) {
    let run = engine.start::<visit>(&order.instance(), order).await;
    let run = run.expect("durable");
    for word in [5, 6] {
        let sent = engine.signal(&order.instance(), "extra", &word).await;
        sent.expect("durable");
    }
    assert_eq!(run.result().await.expect("completes"), order.result());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_signals_timers_and_ends_reach_other_processes_although_nobody_polls() {
    let schema = fresh_schema();
    let home = Home::of(&schema.url);
    let engine = home.engine().poll_interval(HOUR).connect().await;
    let client = engine.expect("opens");
    let worker = home.polling_worker(LEASE, 4, HOUR);
    round_trips("a start and its result", ROUNDS, async |round| {
        let order = Order { number: round };
        let instance = format!("chore {round}");
        let run = client.start::<chore>(&instance, &order).await;
        let result = run.expect("durable").result().await;
        assert_eq!(result.expect("completes"), round + 7);
    })
    .await;
    round_trips("with two signals", ROUNDS, async |round| {
        through_signals(&client, &visited(round)).await;
    })
    .await;
    round_trips(
        "begun by a timer that was set elsewhere",
        ROUNDS,
        async |round| {
            let order = Order { number: round };
            let instance = format!("late {round}");
            let start = client.start::<chore>(&instance, &order);
            let run = start.delay(Duration::from_millis(30)).await;
            let result = run.expect("durable").result().await;
            assert_eq!(result.expect("completes"), round + 7);
        },
    )
    .await;
    assert_eq!(worker.stop(), 0);
    client.store().close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_did_that_is_gone_at_once_is_acted_on_although_nobody_polls() {
    let schema = fresh_schema();
    let home = Home::of(&schema.url);
    let engine = home.engine().poll_interval(HOUR).connect().await;
    let client = engine.expect("opens");
    let worker = home.polling_worker(LEASE, 4, HOUR);
    for round in 0..3 {
        let order = visited(round);
        home.do_and_vanish("start", &order);
        let run = client.find::<visit>(&order.instance()).await;
        let run = run.expect("it was acknowledged");
        home.do_and_vanish("signal", &order);
        assert_eq!(run.result().await.expect("completes"), order.result());
        let order = visited(round + 100);
        home.do_and_vanish("start", &order);
        let run = client.find::<visit>(&order.instance()).await;
        let run = run.expect("it was acknowledged");
        home.do_and_vanish("cancel", &order);
        let error = run.result().await.expect_err("cancelled");
        assert!(matches!(error, RunError::Cancelled { .. }), "{error}");
    }
    assert_eq!(worker.stop(), 0);
    client.store().close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_connection_for_news_is_made_anew_and_what_was_missed_is_looked_up() {
    let server = Server::start(Durability::None);
    let home = Home::of(&server.url());
    let engine = home.engine().poll_interval(HOUR).connect().await;
    let engine = engine.expect("opens");
    let worker = home.polling_worker(LEASE, 4, HOUR);
    let sight = client(&server.url()).await;
    // The last statement of a connection tells what it is for.
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE (query LIKE 'LISTEN %' OR query LIKE 'SELECT pg_notify(%') AND pid <> pg_backend_pid()";
    let mut killed = 0;
    for round in 0..ROUNDS {
        let row = sight.query_one(kill, &[]).await.expect("sound");
        killed += row.get::<_, i64>(0);
        through_signals(&engine, &visited(round)).await;
    }
    println!("{killed} connections for news killed");
    assert!(killed >= i64::from(ROUNDS), "they were made anew each time");
    worker.stop();
    engine.store().close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_hears_no_news_finds_its_work_by_itself() {
    let server = Server::start(Durability::None);
    let proxy = Proxy::before(server.port(), || Cut::None).await;
    proxy.deaf().store(true, Ordering::Relaxed);
    let home = Home::of(&server.url());
    let poll = Duration::from_millis(200);
    let engine = home.engine().poll_interval(poll).connect().await;
    let engine = engine.expect("opens");
    // Who can't hear can't tell either: the other one finds the results by itself, too.
    let deaf = Home::of(&proxy.url(&server.url()));
    let worker = deaf.engine().poll_interval(poll).start().await;
    let worker = worker.expect("starts");
    for round in 0..3 {
        let order = Order { number: round };
        let instance = format!("chore {round}");
        let run = engine.start::<chore>(&instance, &order).await;
        let run = run.expect("durable");
        assert_eq!(run.result().await.expect("completes"), round + 7);
    }
    assert!(
        proxy.cuts().deaf.load(Ordering::Relaxed) > 0,
        "it tried to listen"
    );
    worker.shutdown().await;
    worker.store().close().await;
    engine.store().close().await;
}
