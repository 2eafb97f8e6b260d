//! Workers that come and go.

use std::time::Duration;

use abide_core::ids::{ExecutionId, TaskKey, WorkerId};
use abide_core::status::Phase;
use abide_store::{NewWorker, RecoverySummary};

use crate::home::{Home, SECOND_US, completed, held, single};
use crate::situations::defer;

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

#[tokio::test]
async fn a_dead_worker_that_held_nothing_leaves_nothing_to_take_over() {
    let mut home = Home::new().await;
    let nothing = home.recover(3).await;
    assert_eq!(nothing.workers, 1);
    assert!(!nothing.took_over(), "{nothing:?}");
    home.start(&single()).await;
    home.claim().await;
    let task = home.recover(3).await;
    assert!(task.took_over(), "{task:?}");
}

async fn crashes(home: &Home, id: ExecutionId) -> u32 {
    let task = home.store.task(TaskKey::new(id, 1)).await.expect("reads");
    task.expect("exists").task.crashes
}

#[tokio::test]
async fn a_third_death_and_each_after_it_is_blamed_on_a_task_that_was_alone_and_on_no_other() {
    let mut home = Home::new().await;
    let id = home.start(&single()).await;
    let neighbour = home.start(&single()).await;
    for (died, counted) in [(1, 1), (2, 2), (3, 2), (4, 2)] {
        assert_eq!(home.claim_all().await.len(), 2);
        home.recover(1).await;
        assert_eq!(crashes(&home, id).await, counted, "{died}");
        assert_eq!(home.phase(id, 1).await, Phase::Ready);
    }
    // One that only waits is no company.
    let claimed = home.claim_all().await;
    let waiting = claimed.iter().find(|of| of.task.key.execution == neighbour);
    home.apply(defer(held(waiting.expect("it is ready")))).await;
    let recovered = home.recover(1).await;
    assert_eq!((recovered.recovered, recovered.abandoned), (1, 1));
    assert_eq!(home.phase(id, 1).await, Phase::Abandoned);
    assert_eq!(home.phase(neighbour, 1).await, Phase::Ready);
}

#[tokio::test]
async fn a_late_result_shows_that_a_process_had_not_died_and_takes_a_crash_back() {
    let mut home = Home::new().await;
    let id = home.start(&single()).await;
    for round in 0..5 {
        let taken_for_dead = held(&home.claim().await);
        home.recover(1).await;
        assert_eq!(crashes(&home, id).await, 1, "{round}");
        let late = home.finish(taken_for_dead, completed()).await;
        assert!(!late.recorded);
        assert_eq!(crashes(&home, id).await, 0, "{round}");
    }
}
