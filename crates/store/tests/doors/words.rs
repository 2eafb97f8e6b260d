//! What the store says before it asks the rules.

use abide_core::execution::StopCause;
use abide_core::kernel::{Act, Action};
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
    let grace_us = SECOND_US;
    let cancel = |reason: String, actor: Option<&str>| Act {
        actor: actor.map(Into::into),
        ..Act::on(execution, Action::Cancel { grace_us }, reason)
    };
    for (request, culprit) in [
        (cancel("why\0not".into(), None), "the reason"),
        (cancel("long ".repeat(1000), None), "the reason"),
        (cancel("fine".into(), Some("nobody\0")), "actor"),
    ] {
        let error = home.store.act(request).await.expect_err("refused");
        assert!(error.to_string().contains(culprit), "{error}");
    }
    assert_eq!(home.dump().await, before);
}

#[tokio::test]
async fn a_cancellation_for_the_reason_deadline_is_no_timeout() {
    for runs in [false, true] {
        let home = Home::new().await;
        let cancelled = home.start(&single()).await;
        let mut start = home.request(&single()).await;
        start.deadline_at = Some(home.now().plus_us(SECOND_US));
        let late = home.store.start(start).await.expect("starts").id;
        if runs {
            home.claim_all().await;
        }
        let cancel = Action::Cancel { grace_us: 0 };
        let act = Act::on(cancelled, cancel, "deadline");
        home.store.act(act).await.expect("any word is a reason");
        home.advance(SECOND_US);
        home.fire_timers().await;
        // The grace periods are over.
        home.advance(60 * SECOND_US);
        home.fire_timers().await;
        for (id, status, cause) in [
            (cancelled, ExecutionStatus::Cancelled, StopCause::Cancel),
            (late, ExecutionStatus::TimedOut, StopCause::Deadline),
        ] {
            let view = home.store.execution(id).await.expect("reads");
            let execution = view.expect("exists").execution;
            assert_eq!(
                (execution.status, execution.stop_cause),
                (status, Some(cause))
            );
            assert_eq!(execution.reason.as_deref(), Some("deadline"));
        }
    }
}
