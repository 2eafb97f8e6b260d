//! Histories that go: those of executions that ended long enough ago, whole, and no others.

use std::time::Duration;

use abide_core::ids::ExecutionId;
use abide_store::{EventFilter, VerifyOptions};

use crate::home::{Home, SECOND_US, single};

const DAY: Duration = Duration::from_secs(86_400);
const DAY_US: i64 = 86_400 * SECOND_US;

/// One whose time is the middle of a month.
async fn home() -> Home {
    let home = Home::new().await;
    home.advance(15 * DAY_US);
    home
}

async fn start(home: &Home, instance: &str) -> ExecutionId {
    let mut start = home.request(&single()).await;
    start.instance = instance.into();
    home.store.start(start).await.expect("starts").id
}

async fn events(home: &Home, execution: ExecutionId) -> usize {
    let filter = EventFilter {
        execution: Some(execution),
        task: None,
    };
    let events = home.store.events(&filter, 0, 100).await;
    events.expect("reads").len()
}

async fn prune(home: &Home, keep: Duration) -> u64 {
    home.store.prune_history(keep).await.expect("prunes")
}

async fn check_clean(home: &Home) {
    let report = home.store.verify(VerifyOptions::default()).await;
    let report = report.expect("reads");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn only_old_histories_go() {
    let home = home().await;
    let old = start(&home, "old").await;
    home.cancel(old).await;
    home.advance(60 * DAY_US);
    let young = start(&home, "young").await;
    home.cancel(young).await;
    let had = events(&home, young).await;

    assert_eq!(prune(&home, 90 * DAY).await, 0);
    assert_eq!(events(&home, old).await, had);
    assert_eq!(prune(&home, 30 * DAY).await, 1);
    assert_eq!(
        (events(&home, old).await, events(&home, young).await),
        (0, had)
    );
    assert_eq!(prune(&home, 30 * DAY).await, 0);

    let again = start(&home, "old").await;
    assert_eq!(again, old, "its instance is remembered");
    check_clean(&home).await;
}

#[tokio::test]
async fn what_is_open_keeps_its_history() {
    let home = home().await;
    let open = start(&home, "open").await;
    let had = events(&home, open).await;
    home.advance(400 * DAY_US);
    assert_eq!(prune(&home, DAY).await, 0);
    assert_eq!(events(&home, open).await, had);
    home.cancel(open).await;
    assert_eq!(prune(&home, DAY).await, 0, "it has only just ended");
    home.advance(2 * DAY_US);
    assert_eq!(prune(&home, DAY).await, 1);
    check_clean(&home).await;
}
