//! Slots that come with a request: what it makes ready goes into them, the most urgent first, and what
//! waits in the outbox into those that are left.

use abide_core::graph::TaskSpec;
use abide_core::kernel::{Claimed, Offer, Outcome, Reply, Request};
use abide_core::trigger::{ContextOp, Trigger};

use crate::home::{Home, completed, finish, graph, held};

impl Home {
    pub(crate) async fn offer(&self, slots: u32) -> Option<Offer> {
        Some(Offer {
            worker: self.worker,
            slots,
            hop: 0,
            queues: self.queues().await,
            fills: false,
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

/// The end of the first task of a chain of two, with an offer of its slot.
async fn end_with_an_offer(home: &Home) -> Request {
    let tasks = vec![task("first", 0), task("second", 0)];
    home.start(&graph(tasks, &[("first", "second")])).await;
    let Request::Finish(mut end) = finish(held(&home.claim().await), completed()) else {
        panic!("it is a result")
    };
    end.offer = home.offer(1).await;
    Request::Finish(end)
}

/// The end of a task after which an urgent one gets ready. It takes several rounds of reading to find
/// that out: the rule needs the graph, then the task, then the context.
async fn end_before_an_urgent_task(home: &Home) -> Request {
    let urgent = TaskSpec {
        trigger: Some(Trigger::Any(vec![
            Trigger::Success("slow".into()),
            Trigger::Context {
                key: "seen".into(),
                op: ContextOp::Exists,
                value: serde_json::json!(null),
            },
        ])),
        ..task("urgent", 5)
    };
    let tasks = vec![task("slow", 0), urgent];
    home.start(&graph(tasks, &[("slow", "urgent")])).await;
    finish(held(&home.claim().await), completed())
}

/// Whom the end with an offer claimed, if these are asked for in one transaction.
async fn claimed_at_once(home: &Home, requests: Vec<Request>) -> Vec<u32> {
    let answers = home.apply_at_once(requests).await;
    let claimed = answers.into_iter().flat_map(|answer| match answer {
        Ok(Reply::Finished(finished)) => numbers(&finished.claimed),
        other => panic!("it is not recorded: {other:?}"),
    });
    claimed.collect()
}

#[tokio::test]
async fn a_slot_goes_past_what_a_later_request_of_the_transaction_makes_ready() {
    let home = Home::new().await;
    // Two rounds of reading at least, and one.
    let end = end_with_an_offer(&home).await;
    home.start(&graph(vec![task("urgent", 5)], &[])).await;
    let reason = "shutdown".to_owned();
    let released = finish(held(&home.claim().await), Outcome::Released { reason });
    assert_eq!(claimed_at_once(&home, vec![end, released]).await, [2]);
}

#[tokio::test]
async fn a_slot_goes_not_past_what_an_earlier_request_of_the_transaction_makes_ready() {
    let home = Home::new().await;
    let slow = end_before_an_urgent_task(&home).await;
    let end = end_with_an_offer(&home).await;
    let none: [u32; 0] = [];
    assert_eq!(claimed_at_once(&home, vec![slow, end]).await, none);
    assert_eq!(home.claim_all().await[0].priority, 5);
}

/// The end of a claimed task, whose slots go to the outbox as well.
async fn end_that_fills(home: &Home, claimed: &Claimed, slots: u32) -> Request {
    let Request::Finish(mut end) = finish(held(claimed), completed()) else {
        panic!("it is a result")
    };
    end.offer = home.offer(slots).await.map(|offer| Offer {
        fills: true,
        ..offer
    });
    Request::Finish(end)
}

#[tokio::test]
async fn slots_that_successors_leave_go_to_the_most_urgent_of_the_outbox() {
    let home = Home::new().await;
    let tasks = vec![task("first", 0), task("second", 0)];
    home.start(&graph(tasks, &[("first", "second")])).await;
    let first = home.claim().await;
    home.start(&graph(vec![task("plain", 0)], &[])).await;
    home.start(&graph(vec![task("low", -1)], &[])).await;
    home.start(&graph(vec![task("plain", 0)], &[])).await;
    let end = end_that_fills(&home, &first, 3).await;
    let Reply::Finished(finished) = home.apply(end).await else {
        panic!("it is recorded")
    };
    let priorities: Vec<_> = finished.claimed.iter().map(|it| it.priority).collect();
    assert_eq!(priorities, [0, 0, 0]);
    assert_eq!(
        finished.claimed[0].task.key.execution,
        first.task.key.execution
    );
    let (second, third) = (&finished.claimed[1].task.key, &finished.claimed[2].task.key);
    assert!(second.execution < third.execution, "in their order");
    let left = home.claim_all().await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].priority, -1);
}

#[tokio::test]
async fn what_ends_at_once_fills_each_slot_with_another_task() {
    let home = Home::new().await;
    let plain = graph(vec![task("plain", 0)], &[]);
    home.start(&plain).await;
    let first = home.claim().await;
    home.start(&plain).await;
    let second = home.claim().await;
    for _ in 0..5 {
        home.start(&plain).await;
    }
    let mut late = first.clone();
    late.task.epoch -= 1;
    let ends = vec![
        end_that_fills(&home, &late, 1).await,
        end_that_fills(&home, &first, 1).await,
        end_that_fills(&home, &second, 2).await,
    ];
    let mut claimed = Vec::new();
    for answer in home.apply_at_once(ends).await {
        match answer {
            Ok(Reply::Finished(finished)) => claimed.push(finished.claimed),
            other => panic!("{other:?}"),
        }
    }
    let counts: Vec<_> = claimed.iter().map(Vec::len).collect();
    assert_eq!(counts, [0, 1, 2], "a late result leaves no slot");
    let mut keys: Vec<_> = claimed.iter().flatten().map(|it| it.task.key).collect();
    keys.extend(home.claim_all().await.iter().map(|it| it.task.key));
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 5, "each once");
}

#[tokio::test]
async fn a_worker_that_was_declared_dead_gets_nothing_into_its_slots() {
    let mut home = Home::new().await;
    let plain = graph(vec![task("plain", 0)], &[]);
    home.start(&plain).await;
    let first = home.claim().await;
    home.start(&plain).await;
    let second = home.claim().await;
    home.start(&plain).await;
    let end = end_that_fills(&home, &first, 1).await;
    // Before its tasks are taken back: who does that would not look again at what it claims now.
    let declared_dead = format!("DELETE FROM workers WHERE id = {}", home.worker.0);
    home.execute(&declared_dead).await;
    let Reply::Finished(finished) = home.apply(end).await else {
        panic!("it is an answer")
    };
    assert!(finished.recorded && finished.claimed.is_empty());
    let late = end_that_fills(&home, &second, 1).await;
    home.recover(100).await;
    let Reply::Finished(finished) = home.apply(late).await else {
        panic!("it is an answer")
    };
    assert!(!finished.recorded && finished.claimed.is_empty());
    assert_eq!(home.claim_all().await.len(), 2);
}
