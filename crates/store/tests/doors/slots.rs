//! Slots that come with a request: what it makes ready goes into them, the most urgent first.

use abide_core::graph::TaskSpec;
use abide_core::kernel::{Claimed, Offer, Reply, Request};

use crate::home::{Home, completed, finish, graph, held};

impl Home {
    pub(crate) async fn offer(&self, slots: u32) -> Option<Offer> {
        Some(Offer {
            worker: self.worker,
            slots,
            hop: 0,
            queues: self.queues().await,
        })
    }
}

fn task(name: &str, priority: i16) -> TaskSpec {
    TaskSpec {
        priority,
        ..TaskSpec::new(name)
    }
}

fn numbers(claimed: &[Claimed]) -> Vec<u32> {
    claimed.iter().map(|c| c.task.key.number).collect()
}

#[tokio::test]
async fn the_most_urgent_root_gets_the_slot_that_a_start_brings() {
    let home = Home::new().await;
    let tasks = vec![task("low", 0), task("high", 5), task("middle", 3)];
    let mut start = home.request(&graph(tasks, &[])).await;
    start.offer = home.offer(2).await;
    let started = home.store.start(start).await.expect("starts");
    assert_eq!(numbers(&started.claimed), [2, 3]);
    assert_eq!(numbers(&home.claim_all().await), [1]);
}

#[tokio::test]
async fn the_most_urgent_successor_gets_the_slot_that_a_result_leaves() {
    let home = Home::new().await;
    let tasks = vec![task("first", 0), task("low", -2), task("high", 2)];
    let edges = [("first", "low"), ("first", "high")];
    home.start(&graph(tasks, &edges)).await;
    let first = held(&home.claim().await);
    let Request::Finish(mut end) = finish(first, completed()) else {
        panic!("it is a result")
    };
    end.offer = home.offer(1).await;
    let Reply::Finished(finished) = home.apply(Request::Finish(end)).await else {
        panic!("it is recorded")
    };
    assert_eq!(numbers(&finished.claimed), [3]);
    assert_eq!(numbers(&home.claim_all().await), [2]);
}

#[tokio::test]
async fn a_start_goes_past_ready_tasks_of_its_own_priority_but_not_past_more_urgent_ones() {
    let home = Home::new().await;
    let plain = graph(vec![task("plain", 0)], &[]);
    home.start(&plain).await;
    let mut start = home.request(&plain).await;
    start.offer = home.offer(1).await;
    let started = home.store.start(start).await.expect("starts");
    assert_eq!(numbers(&started.claimed), [1]);
    home.start(&graph(vec![task("urgent", 1)], &[])).await;
    let mut start = home.request(&plain).await;
    start.offer = home.offer(1).await;
    let started = home.store.start(start).await.expect("starts");
    assert!(started.claimed.is_empty(), "the urgent task goes first");
    assert_eq!(home.claim_all().await.len(), 3);
}
