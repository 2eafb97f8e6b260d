//! What a task that left memory waits for.

use abide_core::ids::Timestamp;
use abide_core::kernel::{Await, Held, Reply, Request, Resume, Signal};
use abide_core::payload::Payload;
use abide_core::status::Phase;
use abide_core::step::{Operation, StepEnd};

use crate::home::{Home, SECOND_US, await_operations, held, signal, single, sleep};

/// A task that left memory to wait for these.
async fn evicted(home: &Home, operations: Vec<Operation>) -> Held {
    home.start(&single()).await;
    let task = held(&home.claim().await);
    home.apply(await_operations(task, operations, true)).await;
    assert_eq!(home.phase(task.key.execution, 1).await, Phase::Evicted);
    task
}

/// The ends of the task's recorded operations and their places in the order of results.
async fn ends(home: &Home, task: Held) -> Vec<(StepEnd, u32)> {
    let steps = home.store.steps(task.key).await.expect("reads");
    steps
        .into_iter()
        .map(|step| (step.end, step.order))
        .collect()
}

fn done() -> StepEnd {
    StepEnd::Done(Payload::from_json("null"))
}

fn waits_until(at: Timestamp) -> StepEnd {
    StepEnd::Waiting { due_at: Some(at) }
}

#[tokio::test]
async fn a_sleep_that_a_task_waits_for_alone_ends_as_its_timer_fires() {
    let home = Home::new().await;
    let due = home.now().plus_us(SECOND_US);
    let task = evicted(&home, vec![sleep(1, due)]).await;
    assert_eq!(ends(&home, task).await, [(waits_until(due), 0)]);
    home.advance(SECOND_US);
    home.fire_timers().await;
    assert_eq!(home.phase(task.key.execution, 1).await, Phase::Ready);
    assert_eq!(ends(&home, task).await, [(done(), 1)]);
    // The next wait of the same task: its place is behind.
    let claimed = home.claim().await;
    let due = home.now().plus_us(SECOND_US);
    let next = Request::Await(Await {
        held: held(&claimed),
        given_back: Vec::new(),
        operations: vec![sleep(2, due)],
        next_order: 2,
        evict: true,
    });
    home.apply(next).await;
    home.advance(SECOND_US);
    home.fire_timers().await;
    assert_eq!(ends(&home, task).await, [(done(), 1), (done(), 2)]);
}

#[tokio::test]
async fn a_sleep_that_is_raced_with_a_signal_has_not_won_when_its_timer_fires() {
    let home = Home::new().await;
    let due = home.now().plus_us(SECOND_US);
    let task = evicted(&home, vec![sleep(1, due), signal(2, "go")]).await;
    home.advance(SECOND_US);
    home.fire_timers().await;
    let ready = ends(&home, task).await;
    assert_eq!(ready[0], (waits_until(due), 0));
    // The code asks for both again, and may be given both.
    let sent = Request::Signal(Signal {
        instance: task.key.execution.to_string().into(),
        name: "go".into(),
        payload: Payload::from_json("7"),
        actor: None,
    });
    home.apply(sent).await;
    let resume = Request::Resume(Resume {
        held: held(&home.claim().await),
        given_back: Vec::new(),
        always: false,
        next_order: 1,
    });
    let Reply::Answered(answered) = home.apply(resume).await else {
        panic!("another answer");
    };
    assert_eq!(answered.results.len(), 2);
}
