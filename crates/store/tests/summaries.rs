//! What readers are told about an execution as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use abide_core::failure::Failure;
use abide_core::graph::{GraphBuilder, TaskSpec};
use abide_core::ids::{ExecutionId, Timestamp, WorkerId};
use abide_core::kernel::{
    Claimed, Defer, Finish, Held, IfExists, Outcome, Progress, Request, Start,
};
use abide_core::payload::Payload;
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::status::{ExecutionStatus, SubStatus, TaskStatus};
use abide_core::table::By;
use abide_store::{
    EventFilter, ExecutionSubStatus, ExecutionView, NewWorker, Rollup, Store, StoreOptions,
    TaskTimes, WorkflowKind,
};

const BEGIN: i64 = 1_790_000_000_000_000;
const SECOND: i64 = 1_000_000;
const WORKER: WorkerId = WorkerId(7);
const ID: ExecutionId = ExecutionId(1000);

/// A store whose clock the test moves, with one execution of two tasks, `a` (retried) before `b`.
struct World {
    store: Store,
    seconds: Arc<AtomicI64>,
    queue: abide_core::ids::VersionId,
    _directory: tempfile::TempDir,
}

impl World {
    async fn new(start_at: Option<Timestamp>) -> World {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store.db");
        let seconds = Arc::new(AtomicI64::new(0));
        let clock = seconds.clone();
        let options = StoreOptions {
            now: Some(Arc::new(move || {
                Timestamp(BEGIN + clock.load(Ordering::SeqCst) * SECOND)
            })),
            ..StoreOptions::default()
        };
        let store = Store::open(path.to_str().expect("utf-8"), options)
            .await
            .expect("opens");
        let mut builder = GraphBuilder::new();
        builder.task(TaskSpec {
            retry: RetryPolicy {
                retries: 1,
                backoff: Backoff::Fixed {
                    delay_us: 10 * SECOND,
                },
                ..RetryPolicy::default()
            },
            ..TaskSpec::new("t")
        });
        builder.node("a", "t").node("b", "t").edge("a", "b");
        let graph = Arc::new(builder.build().expect("a chain"));
        let kind = WorkflowKind::Graph;
        let queue = store
            .ensure_version("w", "1", kind, graph.clone())
            .await
            .expect("recorded");
        let row = NewWorker {
            id: WORKER,
            host: "h".into(),
            pid: 1,
        };
        store
            .register_worker(row, Duration::from_secs(3600))
            .await
            .expect("registered");
        let start = Start {
            id: ID,
            instance: "order".into(),
            workflow: queue,
            graph,
            own_graph: false,
            input: Some(Payload::from_json(r#"{"n":1}"#)),
            node_inputs: Vec::new(),
            input_hash: "1".into(),
            if_exists: IfExists::UseExisting,
            priority: 0,
            start_at,
            deadline_at: None,
            tags: None,
            by: By::User,
            actor: None,
            offer: None,
        };
        store.start(start).await.expect("starts");
        World {
            store,
            seconds,
            queue,
            _directory: directory,
        }
    }

    fn pass(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::SeqCst);
    }

    async fn claim(&self) -> Claimed {
        let claims = self.store.claim(WORKER, Arc::new([self.queue]), 1).await;
        claims
            .expect("claims")
            .claimed
            .pop()
            .expect("a task is ready")
    }

    async fn finish(&self, held: Held, outcome: Outcome) {
        let finish = Finish {
            held,
            outcome,
            offer: None,
        };
        let finish = Request::Finish(Box::new(finish));
        self.store.apply(finish).await.expect("recorded");
    }

    async fn summary(&self) -> (ExecutionView, Rollup) {
        self.store
            .summary(ID)
            .await
            .expect("reads")
            .expect("exists")
    }

    async fn sub_status(&self) -> Option<ExecutionSubStatus> {
        let (view, rollup) = self.summary().await;
        assert_eq!(rollup.tasks(), view.tasks);
        rollup.sub_status(&view.execution, self.store.now())
    }

    async fn percent(&self) -> f64 {
        let (view, rollup) = self.summary().await;
        rollup.percent(view.execution.status)
    }
}

fn held(claimed: &Claimed) -> Held {
    Held {
        key: claimed.task.key,
        epoch: claimed.task.epoch,
        worker: WORKER,
    }
}

#[tokio::test]
async fn a_rollup_follows_tasks_through_their_states() {
    let world = World::new(None).await;
    assert_eq!(world.sub_status().await, Some(ExecutionSubStatus::Queued));
    world.pass(1);
    let a = held(&world.claim().await);
    assert_eq!(world.sub_status().await, Some(ExecutionSubStatus::Active));
    world.pass(2);
    let value = r#"{"percent":50.0,"step":"x"}"#.to_owned();
    let progress = Request::Progress(Progress { held: a, value });
    world.store.apply(progress).await.expect("recorded");
    assert_eq!(world.percent().await, 25.0);
    let wait = "a file".to_owned();
    let defer = Request::Defer(Defer { held: a, wait });
    world.store.apply(defer).await.expect("recorded");
    assert_eq!(world.sub_status().await, Some(ExecutionSubStatus::Deferred));
    world.pass(4);
    let failed = Outcome::Failed {
        failure: Failure::new("Io", "gone"),
        random: 0.5,
        supersede: None,
    };
    world.finish(a, failed).await;
    assert_eq!(
        world.sub_status().await,
        Some(ExecutionSubStatus::RetryWait)
    );
    world.pass(12);
    assert_eq!(world.sub_status().await, Some(ExecutionSubStatus::Active));
    let expected = TaskTimes {
        queued_us: 3 * SECOND,
        active_us: 2 * SECOND,
        deferred_us: 4 * SECOND,
        retry_wait_us: 10 * SECOND,
    };
    let rollup = world.summary().await.1;
    assert_eq!(rollup.times(), expected);
    assert_eq!(rollup.count(|group| group.status == TaskStatus::Pending), 1);
    assert_eq!(
        rollup.count(|group| group.sub_status == Some(SubStatus::Active)),
        0
    );

    world.store.fire_timers(10).await.expect("fires");
    for _ in ["a", "b"] {
        let outcome = Outcome::Completed {
            output: None,
            changes: None,
            checkpoint: None,
        };
        world.finish(held(&world.claim().await), outcome).await;
    }
    assert_eq!(world.sub_status().await, None);
    assert_eq!(world.percent().await, 100.0);
    assert_eq!(world.summary().await.1.times(), expected);
}

#[tokio::test]
async fn a_start_in_the_future_is_scheduled_until_it_is_due() {
    let world = World::new(Some(Timestamp(BEGIN + 60 * SECOND))).await;
    assert_eq!(
        world.sub_status().await,
        Some(ExecutionSubStatus::Scheduled)
    );
    world.pass(60);
    assert_eq!(world.sub_status().await, Some(ExecutionSubStatus::Queued));
}

#[tokio::test]
async fn an_execution_is_found_by_generation_with_its_input() {
    let World { store, .. } = &World::new(None).await;
    let found = store.generation("order", 1).await.expect("reads");
    let view = found.expect("exists");
    assert_eq!(view.execution.id, ID);
    assert_eq!(view.execution.status, ExecutionStatus::Pending);
    assert_eq!(view.tasks, 2);
    assert!(store.generation("order", 2).await.expect("reads").is_none());
    assert!(store.generation("other", 1).await.expect("reads").is_none());
    let input = store.input(ID).await.expect("reads").expect("was given");
    assert_eq!(input.as_str(), r#"{"n":1}"#);
    assert!(store.input(ExecutionId(1)).await.expect("reads").is_none());
}

#[tokio::test]
async fn pages_of_events_meet_without_gap_or_repeat() {
    let World { store, .. } = &World::new(None).await;
    let filter = EventFilter {
        execution: Some(ID),
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
