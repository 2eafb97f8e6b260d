//! Old histories: removed by the engine, if it was told for how long to keep them.

use std::time::Duration;

use abide::{TaskError, VirtualClock, workflow};

use crate::common::{Home, history};

const DAY: Duration = Duration::from_secs(86_400);

#[workflow]
async fn double(number: u32) -> Result<u32, TaskError> {
    Ok(2 * number)
}

#[tokio::test]
async fn an_engine_removes_histories_that_are_old_enough_and_keeps_results() {
    let (home, clock) = (Home::new(), VirtualClock::new());
    let builder = || home.engine().clock(clock.clone()).register::<double>();
    let engine = builder().start().await.expect("starts");
    let old = engine.start::<double>("old", &4).await.expect("a start");
    assert_eq!(old.result().await.expect("completes"), 8);
    // Past the end of the month, with which histories go where they go by months.
    clock.advance(50 * DAY);
    let young = engine.start::<double>("young", &5).await.expect("a start");
    assert_eq!(young.result().await.expect("completes"), 10);
    engine.shutdown().await;
    drop(engine);

    let engine = builder()
        .history_retention(10 * DAY)
        .start()
        .await
        .expect("starts");
    while !history(&engine, old.id()).await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!history(&engine, young.id()).await.is_empty());
    let old = engine.find::<double>("old").await.expect("is known");
    assert_eq!(old.result().await.expect("is kept"), 8);
}
