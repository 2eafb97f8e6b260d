//! A server that is killed under load and started again, many times: processes go on as if nothing had happened.

use std::collections::BTreeMap;
use std::time::Duration;

use abide_core::event::EventType;
use abide_test_postgres::{Durability, Server};

use crate::child::Home;
use crate::load::{Load, told};
use crate::sight::{Sight, check_disk, verify};

/// Kills, unless `ABIDE_SERVER_KILLS` says otherwise.
const KILLS: u32 = 8;
/// Results between two kills.
const BETWEEN: usize = 20;
/// Longer than every outage.
const LEASE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_again_and_again_loses_nothing_and_costs_no_body() {
    let mut server = Server::start(Durability::Full);
    let home = Home::of(&server.url());
    let workers = [home.worker(LEASE, 8), home.worker(LEASE, 8)];
    let client = home.engine().connect().await.expect("opens");
    let load = Load::begin(&client, 12);
    let kills = told("ABIDE_SERVER_KILLS", KILLS);
    for kill in 0..kills {
        // The flow is back.
        load.progress(BETWEEN).await;
        // Somewhere between two commits, or in one.
        tokio::time::sleep(Duration::from_micros(u64::from(kill) * 577 % 5000)).await;
        tokio::task::block_in_place(|| {
            server.kill();
            server.restart();
        });
    }
    load.progress(BETWEEN).await;
    let (answers, begun) = load.end().await;
    let sight = Sight::of(&home.url).await;
    // The processes are the same ones all the time.
    let deadlocks: u64 = workers.into_iter().map(|worker| worker.stop()).sum();
    answers.check(&sight).await;
    let asked_again = {
        let told = answers.told();
        assert_eq!(told.results.len(), begun, "each has its result");
        told.refused + told.unknown
    };
    assert_eq!(sight.ended().await, begun as i64);
    assert_eq!(sight.open().await, 0);
    for kind in [
        EventType::TaskRecovered,
        EventType::TaskAbandoned,
        EventType::TaskReleased,
        EventType::TaskLateResultDiscarded,
    ] {
        assert_eq!(sight.events(kind).await, 0, "{kind}");
    }
    check_bodies(&home);
    assert_eq!(deadlocks, 0);
    client.store().close().await;
    verify(&home.url).await;
    check_disk(&home.url).await;
    println!(
        "{kills} kills of the server over {begun} executions; {asked_again} calls were asked again"
    );
}

/// No process died and no answer was lost for good, so no step or attempt ran twice.
pub(crate) fn check_bodies(home: &Home) {
    let mut ran: BTreeMap<String, u32> = BTreeMap::new();
    for line in home.log().lines() {
        *ran.entry(line).or_default() += 1;
    }
    // The first attempt of some fails on purpose.
    let attempts = |line: &str| if line.ends_with("stamp") { 2 } else { 1 };
    let again: Vec<_> = ran
        .iter()
        .filter(|(line, times)| **times > attempts(line))
        .collect();
    assert!(again.is_empty(), "ran again: {again:?}");
}
