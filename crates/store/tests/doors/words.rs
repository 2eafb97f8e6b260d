//! What the store says before it asks the rules.

use abide_core::execution::REASON_DEADLINE;
use abide_core::kernel::Cancel;
use abide_core::payload::Payload;
use abide_core::status::ExecutionStatus;

use crate::home::{Home, SECOND_US, single};

#[tokio::test]
async fn a_payload_that_the_store_would_take_for_a_reference_is_refused() {
    let home = Home::new().await;
    let mut start = home.request(&single()).await;
    start.input = Some(Payload::from_json("@1"));
    let error = home.store.start(start).await.expect_err("no JSON");
    assert_eq!(error.to_string(), "the input is not JSON");
}

#[tokio::test]
async fn words_that_cannot_be_stored_are_refused_by_name() {
    let home = Home::new().await;
    let execution = home.start(&single()).await;
    let before = home.dump().await;
    let cancel = |reason: String, actor: Option<&str>| Cancel {
        execution,
        reason,
        grace_us: SECOND_US,
        actor: actor.map(Into::into),
    };
    for (request, culprit) in [
        (cancel("why\0not".into(), None), "the reason"),
        (cancel("long ".repeat(1000), None), "the reason"),
        (cancel("fine".into(), Some("nobody\0")), "actor"),
    ] {
        let error = home.store.cancel(request).await.expect_err("refused");
        assert!(error.to_string().contains(culprit), "{error}");
    }
    assert_eq!(home.dump().await, before);
}

#[tokio::test]
async fn nobody_gives_the_engines_reason_for_passed_deadlines() {
    let home = Home::new().await;
    let execution = home.start(&single()).await;
    home.claim().await;
    let cancel = Cancel {
        execution,
        reason: REASON_DEADLINE.into(),
        grace_us: 0,
        actor: None,
    };
    let error = home.store.cancel(cancel).await.expect_err("kept");
    assert!(error.to_string().contains(REASON_DEADLINE), "{error}");
    let view = home.store.execution(execution).await.expect("reads");
    let status = view.expect("exists").execution.status;
    assert_eq!(status, ExecutionStatus::Running);
}
