//! Actions in their envelope: changed, unchanged and refused are told apart.

use std::sync::Arc;

use abide_core::graph::{Graph, TaskSpec};
use abide_core::ids::{ExecutionId, TaskKey};
use abide_core::kernel::{
    Act, Acted, Action, Claim, OutboxRow, PIECE, Refusal, Reply, Request, Subject,
};
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::status::{ExecutionStatus, Phase};
use abide_store::{ApplyError, EventFilter, VerifyOptions};
use serde_json::json;

use crate::home::{Home, SECOND_US, completed, failed_once, graph, held, single};

const CANCEL: Action = Action::Cancel {
    grace_us: SECOND_US,
};

fn refusal(result: Result<Acted, ApplyError>) -> Refusal {
    match result {
        Err(ApplyError::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn an_action_tells_a_change_from_what_was_so_already() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    let first = home.store.act(Act::on(id, CANCEL, "enough")).await;
    let first = first.expect("is done");
    assert!(first.is_changed());
    assert_eq!(first.status(), ExecutionStatus::Cancelled);
    let before = home.dump().await;
    let again = home.store.act(Act::on(id, CANCEL, "enough")).await;
    assert_eq!(
        again.expect("is so"),
        Acted::Unchanged(first.standing()),
        "the same standing, nothing written"
    );
    assert_eq!(home.dump().await, before);
}

#[tokio::test]
async fn a_refused_action_says_where_the_execution_stands_and_what_is_allowed() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    let claimed = home.claim().await;
    home.finish(held(&claimed), completed()).await;
    let refused = refusal(home.store.act(Act::on(id, CANCEL, "late")).await);
    let expected = Refusal::NotAllowed {
        execution: id,
        status: ExecutionStatus::Completed,
        action: "cancelled",
        allowed: Vec::new(),
    };
    assert_eq!(refused, expected);
    assert_eq!(
        refused.to_string(),
        format!("execution {id} is Completed: an ended execution can't be cancelled")
    );
}

#[tokio::test]
async fn an_action_on_what_was_seen_is_refused_once_anything_has_changed() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    let act = |version| Act {
        expected_version: Some(version),
        ..Act::on(id, CANCEL, "enough")
    };
    home.claim().await;
    let before = home.dump().await;
    let refused = refusal(home.store.act(act(1)).await);
    let expected = Refusal::Stale {
        execution: id,
        expected: 1,
        version: 2,
        status: ExecutionStatus::Running,
    };
    assert_eq!(refused, expected);
    assert_eq!(home.dump().await, before);
    let acted = home.store.act(act(2)).await.expect("is as it was seen");
    assert!(acted.is_changed());
}

#[tokio::test]
async fn an_action_on_an_instance_is_one_on_its_latest_execution() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    let view = home.store.execution(id).await.expect("reads");
    let instance = view.expect("exists").execution.instance;
    let act = |instance: &str| Act {
        subject: Subject::Instance(instance.into()),
        ..Act::on(id, CANCEL, "enough")
    };
    let acted = home.store.act(act(&instance)).await.expect("is done");
    assert_eq!(acted.standing().execution, id);
    let refused = refusal(home.store.act(act("nobody")).await);
    assert_eq!(refused, Refusal::UnknownInstance("nobody".to_owned()));
}

// ---- priority ----

fn priority(execution: ExecutionId, priority: i16) -> Act {
    Act::on(execution, Action::SetPriority { priority }, "in a hurry")
}

async fn is_clean(home: &Home) {
    let report = home.store.verify(VerifyOptions::default()).await;
    let report = report.expect("reads");
    assert!(report.is_clean(), "{report}");
}

/// So many tasks that depend on nothing.
fn roots(count: u32) -> Arc<Graph> {
    graph(
        (0..count).map(|n| TaskSpec::new(format!("t{n}"))).collect(),
        &[],
    )
}

impl Home {
    /// Claims the first task of the queue.
    async fn claim_first(&self) -> TaskKey {
        let claims = self.store.claim(self.worker, self.queues().await, 1).await;
        let [claimed] = &claims.expect("claims").claimed[..] else {
            panic!("one slot, and somebody is ready")
        };
        claimed.task.key
    }
}

#[tokio::test]
async fn another_priority_moves_the_tasks_that_are_ready() {
    let home = Home::new().await;
    let (a, b) = (home.start(&roots(2)).await, home.start(&roots(2)).await);
    home.advance(1);
    let c = home.start(&roots(1)).await;
    home.store.act(priority(c, 5)).await.expect("is done");
    assert_eq!(home.claim_first().await.execution, c);
    // They have waited for longer than the one that was claimed last at this priority.
    home.store.act(priority(b, 5)).await.expect("is done");
    home.store.act(priority(a, -1)).await.expect("is done");
    is_clean(&home).await;
    let d = home.start(&roots(1)).await;
    let claimed = home.claim_all().await;
    let order: Vec<_> = claimed.iter().map(|it| it.task.key.execution).collect();
    assert_eq!(order, [b, b, d, a, a]);
    let priorities: Vec<_> = claimed.iter().map(|it| it.priority).collect();
    assert_eq!(priorities, [5, 5, 0, -1, -1]);
    is_clean(&home).await;
}

#[tokio::test]
async fn history_says_who_changed_a_priority_and_from_what() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    let act = Act {
        actor: Some("user:eva".into()),
        ..priority(id, 5)
    };
    let acted = home.store.act(act).await.expect("is done");
    assert!(acted.is_changed());
    assert_eq!(acted.status(), ExecutionStatus::Pending);
    let view = home.store.execution(id).await.expect("reads");
    let execution = view.expect("exists").execution;
    assert_eq!((execution.priority, execution.version), (5, 2));
    assert_eq!(execution.reason, None, "that says why an execution ends");
    let filter = EventFilter {
        execution: Some(id),
        task: Some(TaskKey::new(id, 0)),
    };
    let events = home.store.events(&filter, 0, 100).await.expect("reads");
    let event = events.last().expect("was written");
    assert_eq!(event.kind, "execution.priority_changed");
    assert_eq!(event.actor.as_deref(), Some("user:eva"));
    let data: serde_json::Value =
        serde_json::from_str(event.data.as_deref().expect("has some")).expect("JSON");
    assert_eq!(data, json!({"reason": "in a hurry", "from": 0, "to": 5}));
}

#[tokio::test]
async fn a_priority_that_it_has_is_not_written_again() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    let first = home.store.act(priority(id, 5)).await.expect("is done");
    let before = home.dump().await;
    let seen_before_that = Act {
        expected_version: Some(1),
        ..priority(id, 5)
    };
    let again = home.store.act(seen_before_that).await;
    assert_eq!(again.expect("is so"), Acted::Unchanged(first.standing()));
    let stale = Act {
        expected_version: Some(1),
        ..priority(id, 6)
    };
    let refused = refusal(home.store.act(stale).await);
    assert!(matches!(refused, Refusal::Stale { .. }), "{refused}");
    assert_eq!(home.dump().await, before);
}

#[tokio::test]
async fn an_execution_that_has_ended_or_stops_gets_no_other_priority() {
    let home = Home::new().await;
    let (ended, stopping) = (home.start(&single()).await, home.start(&single()).await);
    let claimed = home.claim_all().await;
    home.finish(held(&claimed[0]), completed()).await;
    home.cancel(stopping).await;
    let before = home.dump().await;
    // Not even the one that it has.
    for value in [0, 5] {
        for (id, status) in [
            (ended, ExecutionStatus::Completed),
            (stopping, ExecutionStatus::Cancelling),
        ] {
            let expected = Refusal::NotAllowed {
                execution: id,
                status,
                action: "given another priority",
                allowed: Vec::new(),
            };
            let refused = refusal(home.store.act(priority(id, value)).await);
            assert_eq!(refused, expected);
        }
    }
    assert_eq!(home.dump().await, before);
}

#[tokio::test]
async fn a_retry_that_falls_due_after_or_before_a_change_is_queued_once() {
    let home = Home::new().await;
    let retry = RetryPolicy {
        retries: 2,
        backoff: Backoff::Fixed {
            delay_us: SECOND_US,
        },
        ..RetryPolicy::default()
    };
    let flaky = TaskSpec {
        retry,
        ..TaskSpec::new("flaky")
    };
    let id = home.start(&graph(vec![flaky], &[])).await;
    home.finish(held(&home.claim().await), failed_once()).await;
    home.store.act(priority(id, 5)).await.expect("is done");
    assert!(home.claim_all().await.is_empty(), "it is not due yet");
    home.advance(SECOND_US);
    // Its timer has not fired.
    home.store.act(priority(id, 6)).await.expect("is done");
    is_clean(&home).await;
    let claimed = home.claim().await;
    assert_eq!(claimed.priority, 6);
    home.fire_timers().await;
    assert_eq!(home.phase(id, 1).await, Phase::Active);
    is_clean(&home).await;
}

#[tokio::test]
async fn a_claim_that_found_the_task_at_its_old_place_leaves_none_at_the_new_one() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    let view = home.store.execution(id).await.expect("reads");
    let key = TaskKey::new(id, 1);
    let task = home.store.task(key).await.expect("reads").expect("exists");
    let row = OutboxRow {
        worker: None,
        queue: view.expect("exists").execution.workflow,
        priority: 0,
        ready_at: task.task.ready_at.expect("is ready"),
        key,
    };
    let worker = home.worker;
    let claim = Request::Claim(Claim { key, worker, row });
    let answers = home
        .apply_at_once(vec![priority(id, 5).into(), claim])
        .await;
    let Ok(Reply::Claimed(Some(claimed))) = &answers[1] else {
        panic!("not claimed: {answers:?}")
    };
    assert_eq!(claimed.priority, 5);
    is_clean(&home).await;
}

#[tokio::test]
async fn more_ready_tasks_than_one_transaction_moves_keep_their_priority() {
    let home = Home::new().await;
    let id = home.start(&roots(PIECE + 1)).await;
    home.fire_timers().await;
    let before = home.dump().await;
    let expected = Refusal::TooManyReady {
        execution: id,
        limit: PIECE,
    };
    let refused = refusal(home.store.act(priority(id, 5)).await);
    assert_eq!(refused, expected);
    assert_eq!(home.dump().await, before);
    home.claim_first().await;
    home.store.act(priority(id, 5)).await.expect("is done");
    is_clean(&home).await;
}
