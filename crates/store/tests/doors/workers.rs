//! Workers that come and go.

use std::time::Duration;

use abide_core::ids::WorkerId;
use abide_core::status::Phase;
use abide_store::{NewWorker, RecoverySummary};

use crate::home::{Home, SECOND_US, single};

#[tokio::test]
async fn what_a_worker_held_when_it_said_goodbye_is_taken_back_too() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    home.claim().await;
    home.store.end_worker(home.worker).await.expect("ended");
    let next = home.new_worker().await;
    let summary = home.store.recover(3, next).await.expect("recovers");
    assert_eq!((summary.workers, summary.recovered), (1, 1));
    assert_eq!(home.phase(id, 1).await, Phase::Ready);
}

#[tokio::test]
async fn what_is_left_after_a_look_is_taken_back_by_a_later_one() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    let other = home.new_worker().await;
    let look = async || home.store.recover(3, other).await.expect("recovers");
    assert_eq!(look().await, RecoverySummary::default());
    home.claim().await;
    home.store.end_worker(home.worker).await.expect("ended");
    // The process that looks was away for so long.
    home.advance(3600 * SECOND_US);
    let summary = look().await;
    assert_eq!((summary.workers, summary.recovered), (1, 1));
    assert_eq!(home.phase(id, 1).await, Phase::Ready);
    assert_eq!(look().await, RecoverySummary::default());
}

#[tokio::test]
async fn whoever_was_declared_dead_by_a_process_that_died_is_looked_after() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    home.claim().await;
    let other = home.new_worker().await;
    let look = async || home.store.recover(3, other).await.expect("recovers");
    assert_eq!(look().await, RecoverySummary::default());
    home.store.leave_worker(home.worker);
    let declare = format!(
        "UPDATE workers SET ended_at = {}, lease_until = 0 WHERE id = {}",
        home.now().0,
        home.worker.0
    );
    assert_eq!(home.execute(&declare).await, 1);
    let summary = look().await;
    assert_eq!((summary.workers, summary.recovered), (1, 1));
    assert_eq!(home.phase(id, 1).await, Phase::Ready);
}

#[tokio::test]
async fn a_lease_may_be_as_long_as_any_time() {
    let home = Home::new().await;
    let id = WorkerId(home.next_id());
    let worker = NewWorker {
        id,
        host: "host".into(),
        pid: 1,
    };
    let store = &home.store;
    let begun = store.register_worker(worker, Duration::MAX).await;
    begun.expect("registered");
    assert!(store.heartbeat(id, Duration::MAX).await.expect("renewed"));
    home.advance(1_000_000 * SECOND_US);
    let live = store.live_workers().await.expect("reads");
    assert!(live.contains(&id), "{live:?}");
    store.is_settled(Duration::MAX).await.expect("answers");
}
