//! What lists and descriptions say that an execution does and waits for, and filters that ask for it.

use abide_core::graph::TaskSpec;
use abide_core::ids::{ExecutionId, Timestamp};
use abide_core::kernel::{Defer, Held, Outcome, Request};
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::status::ExecutionStatus;
use abide_store::{BlockedOn, ExecutionFilter, ExecutionSubStatus, ExecutionView, Store};

use crate::home::{
    Home, SECOND_US, await_operations, completed, failed_once, graph, held, signal, sleep,
};

/// Executions in every state that a list tells apart.
struct World {
    home: Home,
    /// The oldest first.
    expected: Vec<(ExecutionId, ExecutionStatus, Expected)>,
}

type Expected = (Option<ExecutionSubStatus>, Vec<BlockedOn>);

fn running(sub_status: ExecutionSubStatus, blocked_on: &[BlockedOn]) -> Expected {
    (Some(sub_status), blocked_on.to_vec())
}

impl World {
    async fn new() -> World {
        let home = Home::new().await;
        let mut world = World {
            home,
            expected: Vec::new(),
        };
        use ExecutionStatus::{Completed, Pending, Running};
        use ExecutionSubStatus::{Active, Deferred, Queued, RetryWait, Scheduled};
        let (a, b) = world.begun().await;
        world.finish(a, completed()).await;
        world.finish(b, completed()).await;
        let last = held(&world.home.claim().await);
        world.finish(last, completed()).await;
        world.is(a, Completed, (None, Vec::new()));
        let (a, b) = world.begun().await;
        world.wait(b, vec![signal(1, "go")], false).await;
        world.is(a, Running, running(Active, &[]));
        let (a, b) = world.begun().await;
        world.wait(a, vec![signal(1, "go")], false).await;
        world.wait(b, vec![sleep(1, world.later())], true).await;
        let blocked_on = [BlockedOn::Signal, BlockedOn::Timer];
        world.is(a, Running, running(Deferred, &blocked_on));
        let (a, b) = world.begun().await;
        world.condition(a).await;
        world.finish(b, failed_once()).await;
        let blocked_on = [BlockedOn::Retry, BlockedOn::Condition];
        world.is(a, Running, running(Deferred, &blocked_on));
        let (a, b) = world.begun().await;
        world.finish(a, completed()).await;
        world.finish(b, failed_once()).await;
        world.is(a, Running, running(RetryWait, &[BlockedOn::Retry]));
        let (a, b) = world.begun().await;
        world.wait(a, vec![signal(1, "go")], false).await;
        world
            .finish(
                b,
                Outcome::Nondeterministic {
                    difference: "another step".to_owned(),
                },
            )
            .await;
        let blocked_on = [BlockedOn::Signal, BlockedOn::Code];
        world.is(a, Running, running(Deferred, &blocked_on));
        let (a, b) = world.begun().await;
        world.wait(a, vec![signal(1, "go")], false).await;
        world
            .finish(
                b,
                Outcome::Released {
                    reason: "shutdown".to_owned(),
                },
            )
            .await;
        let blocked_on = [BlockedOn::Worker, BlockedOn::Signal];
        world.is(a, Running, running(Active, &blocked_on));
        let scheduled = world.start(Some(world.later())).await;
        let blocked_on = running(Scheduled, &[BlockedOn::StartTime]);
        world.expected.push((scheduled, Pending, blocked_on));
        let queued = world.start(None).await;
        let blocked_on = running(Queued, &[BlockedOn::Worker]);
        world.expected.push((queued, Pending, blocked_on));
        world
    }

    fn later(&self) -> Timestamp {
        Timestamp(self.home.now().0 + 60 * SECOND_US)
    }

    async fn start(&self, start_at: Option<Timestamp>) -> ExecutionId {
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
        // The last waits for the others: what it waits for is what they wait for.
        let tasks = vec![retried("a"), retried("b"), retried("c")];
        let graph = graph(tasks, &[("a", "c"), ("b", "c")]);
        let mut start = self.home.request(&graph).await;
        start.start_at = start_at;
        self.home.store.start(start).await.expect("starts").id
    }

    /// An execution both of whose first tasks run.
    async fn begun(&self) -> (Held, Held) {
        let id = self.start(None).await;
        let claimed = self.home.claim_all().await;
        let of_it = claimed.iter().filter(|it| it.task.key.execution == id);
        let held: Vec<Held> = of_it.map(held).collect();
        (held[0], held[1])
    }

    async fn finish(&self, held: Held, outcome: Outcome) {
        self.home.finish(held, outcome).await;
    }

    fn is(&mut self, held: Held, status: ExecutionStatus, expected: Expected) {
        self.expected.push((held.key.execution, status, expected));
    }

    async fn wait(&self, held: Held, operations: Vec<abide_core::step::Operation>, evict: bool) {
        let wait = await_operations(held, operations, evict);
        self.home.apply(wait).await;
    }

    async fn condition(&self, held: Held) {
        let defer = Request::Defer(Defer {
            held,
            given_back: Vec::new(),
            wait: "a file".to_owned(),
        });
        self.home.apply(defer).await;
    }

    async fn list(&self, filter: &ExecutionFilter) -> Vec<ExecutionView> {
        let found = self.home.store.executions(filter, None, 100).await;
        found.expect("reads")
    }

    /// That a list has those that are expected to match, and nothing else.
    async fn check(
        &self,
        filter: ExecutionFilter,
        is_asked_for: impl Fn(ExecutionStatus, &Expected) -> bool,
    ) {
        let expected = self.expected.iter().rev();
        let expected = expected.filter(|(_, status, it)| is_asked_for(*status, it));
        let expected: Vec<ExecutionId> = expected.map(|(id, ..)| *id).collect();
        let found = self.list(&filter).await;
        let found: Vec<ExecutionId> = found.iter().map(|view| view.execution.id).collect();
        assert_eq!(found, expected, "{filter:?}");
    }
}

fn of(view: &ExecutionView) -> (ExecutionId, ExecutionStatus, Expected) {
    let execution = &view.execution;
    let expected = (view.sub_status, view.blocked_on.clone());
    (execution.id, execution.status, expected)
}

#[tokio::test]
async fn what_a_list_says_every_other_view_says() {
    let world = World::new().await;
    let listed = world.list(&ExecutionFilter::default()).await;
    let listed: Vec<_> = listed.iter().rev().map(of).collect();
    assert_eq!(listed, world.expected);
    let store = &world.home.store;
    for (id, status, expected) in &world.expected {
        let expected = (*id, *status, expected.clone());
        let view = store.execution(*id).await.expect("reads").expect("exists");
        assert_eq!(of(&view), expected);
        let (summed, _) = store.summary(*id).await.expect("reads").expect("exists");
        assert_eq!(of(&summed), expected);
        let latest = store.latest(&view.execution.instance).await;
        assert_eq!(of(&latest.expect("reads").expect("exists")), expected);
    }
}

#[tokio::test]
async fn a_list_has_those_that_do_and_wait_for_what_its_filter_says() {
    let world = World::new().await;
    for &sub_status in ExecutionSubStatus::ALL {
        let filter = ExecutionFilter {
            sub_statuses: vec![sub_status],
            ..ExecutionFilter::default()
        };
        world.check(filter, |_, it| it.0 == Some(sub_status)).await;
        for &blocked_on in BlockedOn::ALL {
            let filter = ExecutionFilter {
                statuses: vec![ExecutionStatus::Completed],
                sub_statuses: vec![sub_status],
                blocked_on: vec![blocked_on, BlockedOn::Condition],
                ..ExecutionFilter::default()
            };
            let is_blocked =
                |it: &Expected| it.1.contains(&blocked_on) || it.1.contains(&BlockedOn::Condition);
            world
                .check(filter, |_, it| it.0 == Some(sub_status) && is_blocked(it))
                .await;
        }
    }
    for &blocked_on in BlockedOn::ALL {
        let filter = ExecutionFilter {
            blocked_on: vec![blocked_on],
            ..ExecutionFilter::default()
        };
        world
            .check(filter, |_, it| it.1.contains(&blocked_on))
            .await;
    }
    let either = ExecutionFilter {
        statuses: vec![ExecutionStatus::Completed, ExecutionStatus::Pending],
        sub_statuses: vec![ExecutionSubStatus::RetryWait],
        ..ExecutionFilter::default()
    };
    let is_either = |status, it: &Expected| {
        status != ExecutionStatus::Running || it.0 == Some(ExecutionSubStatus::RetryWait)
    };
    world.check(either, is_either).await;
}

#[tokio::test]
async fn time_alone_makes_a_retry_due_and_a_start_queued() {
    let world = World::new().await;
    let filter = |sub_status| ExecutionFilter {
        sub_statuses: vec![sub_status],
        ..ExecutionFilter::default()
    };
    let count = async |sub_status| world.list(&filter(sub_status)).await.len();
    assert_eq!(count(ExecutionSubStatus::RetryWait).await, 1);
    assert_eq!(count(ExecutionSubStatus::Queued).await, 1);
    world.home.advance(60 * SECOND_US);
    assert_eq!(count(ExecutionSubStatus::RetryWait).await, 0);
    assert_eq!(count(ExecutionSubStatus::Queued).await, 2);
}

#[tokio::test]
async fn a_page_of_a_list_is_one_query_however_many_executions_run() {
    let world = World::new().await;
    let store = &world.home.store;
    for filter in [
        ExecutionFilter::default(),
        ExecutionFilter {
            sub_statuses: vec![ExecutionSubStatus::Deferred, ExecutionSubStatus::Active],
            ..ExecutionFilter::default()
        },
    ] {
        // The first opens a connection.
        world.list(&filter).await;
        let before = store.stats();
        assert!(world.list(&filter).await.len() > 4);
        let after = store.stats();
        assert_eq!(after.reads - before.reads, 1);
        let expected = u64::from(Store::is_postgres(&world.home.database.url()));
        assert_eq!(after.statements - before.statements, expected);
    }
}
