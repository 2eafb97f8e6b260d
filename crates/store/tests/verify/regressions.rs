//! What verification of random sequences has found, each as the shortest way there.

use abide_core::graph::TaskSpec;
use abide_core::kernel::{Act, Action, PIECE, Request};
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::status::{ExecutionStatus, Phase, TaskStatus};

use crate::fixture::{Answer, Ask, SECOND, graph};
use crate::home::Home;

#[tokio::test]
async fn a_skipped_task_has_ended() {
    let home = Home::new().await;
    let graph = graph(vec![TaskSpec::new("a"), TaskSpec::new("b")], &[("a", "b")]);
    let version = home.version("w", &graph).await;
    let id = home.start("i", version, &graph).await;
    let held = home.claim_one(version).await;
    home.fail(held, "no").await;
    let tasks = home.store.tasks(id, 0, 10).await.expect("reads");
    assert_eq!(tasks[1].task.phase, Phase::Skipped);
    assert_eq!(tasks[1].task.closed_at, Some(home.now()));
    home.assert_clean().await;
}

#[tokio::test]
async fn stopping_finds_the_open_tasks_behind_any_number_of_skipped_ones() {
    let home = Home::new().await;
    let names: Vec<String> = (0..3 * PIECE).map(|at| format!("n{at}")).collect();
    let mut tasks = vec![TaskSpec::new("fails")];
    tasks.extend(names.iter().map(TaskSpec::new));
    tasks.push(TaskSpec {
        priority: -1,
        ..TaskSpec::new("stays")
    });
    let edges: Vec<(&str, &str)> = names.iter().map(|name| ("fails", name.as_str())).collect();
    let graph = graph(tasks, &edges);
    let version = home.version("w", &graph).await;
    let id = home.start("i", version, &graph).await;
    let held = home.claim_node(version, "fails").await;
    home.fail(held, "no").await;
    home.fire().await;
    let counts = home
        .store
        .execution(id)
        .await
        .expect("reads")
        .expect("exists");
    assert_eq!(counts.execution.open, 1, "all but one were skipped");
    assert_eq!(home.cancel(id, 0).await, ExecutionStatus::Cancelled);
    home.assert_clean().await;
}

#[tokio::test]
async fn a_task_that_polls_does_not_leave_its_worker() {
    let home = Home::new().await;
    let graph = graph(vec![TaskSpec::new("a")], &[]);
    let version = home.version("w", &graph).await;
    home.start("i", version, &graph).await;
    let held = home.claim_one(version).await;
    home.defer(held, "a file").await;
    assert_eq!(home.evict(held).await.phase, Phase::Deferred);
    home.assert_clean().await;
}

#[tokio::test]
async fn what_one_transaction_queues_and_cancels_is_not_queued() {
    let home = Home::new().await;
    let graph = graph(vec![TaskSpec::new("a")], &[]);
    let version = home.version("w", &graph).await;
    let start = home.start_request("i", version, &graph);
    let cancel = Act::on(start.id, Action::Cancel { grace_us: 0 }, "enough");
    let requests: [Request; 2] = [start.into(), cancel.into()];
    let asks = requests.map(|request| Ask::Apply(Box::new(request)));
    for answer in home.batch(asks.into()).await {
        assert!(matches!(answer, Answer::Reply(Ok(_))));
    }
    let report = home.assert_clean().await;
    assert_eq!(report.checked.outbox, 0);
}

#[tokio::test]
async fn a_cancelled_retry_leaves_no_timer_even_if_it_was_due() {
    let home = Home::new().await;
    let backoff = Backoff::Fixed { delay_us: SECOND };
    let retry = RetryPolicy {
        retries: 1,
        backoff,
        ..RetryPolicy::default()
    };
    let graph = graph(
        vec![TaskSpec {
            retry,
            ..TaskSpec::new("a")
        }],
        &[],
    );
    let version = home.version("w", &graph).await;
    let id = home.start("i", version, &graph).await;
    let held = home.claim_one(version).await;
    home.fail(held, "once").await;
    home.advance(2 * SECOND);
    home.cancel(id, 0).await;
    let report = home.assert_clean().await;
    assert_eq!(report.checked.timers, 0);
}

#[tokio::test]
async fn a_large_graph_that_is_stopped_before_its_time_leaves_no_timer() {
    let home = Home::new().await;
    let names: Vec<String> = (0..=PIECE).map(|at| format!("n{at}")).collect();
    let graph = graph(names.iter().map(TaskSpec::new).collect(), &[]);
    let version = home.version("w", &graph).await;
    let mut start = home.start_request("i", version, &graph);
    start.start_at = Some(home.now().plus_us(1000 * SECOND));
    let id = home.start_with(start).await.id;
    home.assert_clean().await;
    home.cancel(id, 0).await;
    home.advance(1);
    home.fire().await;
    assert_eq!(home.status(id).await, ExecutionStatus::Cancelled);
    let report = home.assert_clean().await;
    assert_eq!(report.checked.timers, 0);
    let groups = home.store.tasks(id, 0, 1).await.expect("reads");
    assert_eq!(groups[0].task.phase.status().0, TaskStatus::Cancelled);
}
