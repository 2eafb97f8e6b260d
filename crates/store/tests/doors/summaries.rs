//! What readers are told about an execution as a whole.

use abide_core::graph::TaskSpec;
use abide_core::ids::{ExecutionId, Timestamp};
use abide_core::kernel::{Defer, Progress, Request};
use abide_core::payload::Payload;
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::status::{ExecutionStatus, SubStatus, TaskStatus};
use abide_store::{EventFilter, ExecutionSubStatus, ExecutionView, Rollup, TaskTimes};

use crate::home::{Home, SECOND_US, completed, failed_once, graph, held};

/// A store with one execution of two tasks, `a` (retried) before `b`.
struct World {
    home: Home,
    id: ExecutionId,
}

impl World {
    async fn new() -> World {
        World::starting_in(None).await
    }

    /// One that starts so many seconds from now.
    async fn starting_in(seconds: Option<i64>) -> World {
        let home = Home::new().await;
        let retried = |id| TaskSpec {
            retry: RetryPolicy {
                retries: 1,
                backoff: Backoff::Fixed {
                    delay_us: 10 * SECOND_US,
                },
                ..RetryPolicy::default()
            },
            ..TaskSpec::new(id)
        };
        let chain = graph(vec![retried("a"), retried("b")], &[("a", "b")]);
        let mut start = home.request(&chain).await;
        start.instance = "order".into();
        start.input = Some(Payload::from_json(r#"{"n":1}"#));
        start.start_at = seconds.map(|seconds| Timestamp(home.now().0 + seconds * SECOND_US));
        let id = home.store.start(start).await.expect("starts").id;
        World { home, id }
    }

    fn pass(&self, seconds: i64) {
        self.home.advance(seconds * SECOND_US);
    }

    async fn summary(&self) -> (ExecutionView, Rollup) {
        let summary = self.home.store.summary(self.id).await;
        summary.expect("reads").expect("exists")
    }

    async fn sub_status(&self) -> Option<ExecutionSubStatus> {
        let (view, rollup) = self.summary().await;
        assert_eq!(rollup.tasks(), view.tasks);
        view.sub_status
    }

    async fn percent(&self) -> f64 {
        let (view, rollup) = self.summary().await;
        let percent = rollup.percent(view.execution.status);
        percent.expect("it has not ended otherwise")
    }
}

#[tokio::test]
async fn a_rollup_follows_tasks_through_their_states() {
    let world = World::new().await;
    assert_eq!(world.sub_status().await, Some(ExecutionSubStatus::Queued));
    world.pass(1);
    let a = held(&world.home.claim().await);
    assert_eq!(world.sub_status().await, Some(ExecutionSubStatus::Active));
    world.pass(2);
    let value = r#"{"percent":50.0,"step":"x"}"#.to_owned();
    let progress = Request::Progress(Progress { held: a, value });
    world.home.apply(progress).await;
    assert_eq!(world.percent().await, 25.0);
    let wait = "a file".to_owned();
    let defer = Request::Defer(Defer {
        held: a,
        given_back: Vec::new(),
        wait,
    });
    world.home.apply(defer).await;
    assert_eq!(world.sub_status().await, Some(ExecutionSubStatus::Deferred));
    world.pass(4);
    world.home.finish(a, failed_once()).await;
    assert_eq!(
        world.sub_status().await,
        Some(ExecutionSubStatus::RetryWait)
    );
    world.pass(12);
    assert_eq!(world.sub_status().await, Some(ExecutionSubStatus::Active));
    let expected = TaskTimes {
        queued_us: 3 * SECOND_US,
        active_us: 2 * SECOND_US,
        deferred_us: 4 * SECOND_US,
        retry_wait_us: 10 * SECOND_US,
    };
    let rollup = world.summary().await.1;
    assert_eq!(rollup.times(), expected);
    assert_eq!(rollup.count(|group| group.status == TaskStatus::Pending), 1);
    assert_eq!(
        rollup.count(|group| group.sub_status == Some(SubStatus::Active)),
        0
    );

    world.home.fire_timers().await;
    for _ in ["a", "b"] {
        let held = held(&world.home.claim().await);
        world.home.finish(held, completed()).await;
    }
    assert_eq!(world.sub_status().await, None);
    assert_eq!(world.percent().await, 100.0);
    assert_eq!(world.summary().await.1.times(), expected);
}

#[tokio::test]
async fn a_start_in_the_future_is_scheduled_until_it_is_due() {
    let world = World::starting_in(Some(60)).await;
    assert_eq!(
        world.sub_status().await,
        Some(ExecutionSubStatus::Scheduled)
    );
    world.pass(60);
    assert_eq!(world.sub_status().await, Some(ExecutionSubStatus::Queued));
}

#[tokio::test]
async fn an_execution_is_found_by_generation_with_its_input() {
    let World { home, id } = &World::new().await;
    let store = &home.store;
    let found = store.generation("order", 1).await.expect("reads");
    let view = found.expect("exists");
    assert_eq!(view.execution.id, *id);
    assert_eq!(view.execution.status, ExecutionStatus::Pending);
    assert_eq!(view.tasks, 2);
    assert!(store.generation("order", 2).await.expect("reads").is_none());
    assert!(store.generation("other", 1).await.expect("reads").is_none());
    let input = store.input(*id).await.expect("reads").expect("was given");
    assert_eq!(input.as_str(), r#"{"n":1}"#);
    assert!(store.input(ExecutionId(1)).await.expect("reads").is_none());
}

#[tokio::test]
async fn pages_of_events_meet_without_gap_or_repeat() {
    let World { home, id } = &World::new().await;
    let store = &home.store;
    let filter = EventFilter {
        execution: Some(*id),
        task: None,
    };
    let all = store.events(&filter, 0, 100).await.expect("reads");
    let positions: Vec<i64> = all.iter().map(|event| event.position).collect();
    assert_eq!(
        positions.last(),
        Some(&store.last_position().await.expect("reads"))
    );
    let mut paged = Vec::new();
    while let [event] = store
        .events(&filter, paged.last().copied().unwrap_or(0), 1)
        .await
        .expect("reads")
        .as_slice()
    {
        paged.push(event.position);
    }
    assert_eq!(paged, positions);
}

#[tokio::test]
async fn an_abandoned_task_does_not_end_with_the_error_of_an_earlier_attempt() {
    let mut world = World::new().await;
    let first = held(&world.home.claim().await);
    world.home.finish(first, failed_once()).await;
    world.pass(20);
    world.home.fire_timers().await;
    world.home.claim().await;
    assert_eq!(world.home.recover(0).await.abandoned, 1);
    let end = world.home.store.end(world.id).await.expect("reads");
    let end = end.expect("exists");
    assert_eq!(end.status, ExecutionStatus::Failed);
    assert_eq!(end.failed_node.as_deref(), Some("a"));
    assert_eq!(end.error, None);
    assert_eq!(world.summary().await.1.percent(end.status), None);
}
