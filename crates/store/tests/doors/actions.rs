//! Actions in their envelope: changed, unchanged and refused are told apart.

use abide_core::kernel::{Act, Acted, Action, Refusal, Subject};
use abide_core::status::ExecutionStatus;
use abide_store::ApplyError;

use crate::home::{Home, SECOND_US, completed, held, single};

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
