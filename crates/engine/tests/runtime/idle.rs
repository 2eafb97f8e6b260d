//! An idle engine on a file: it costs nothing. On PostgreSQL a poll stands behind the notifications.

use std::time::Duration;

use abide::TaskHandle;

use crate::common::{Home, begin, first, function, until_event};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn an_idle_engine_asks_the_store_nothing() {
    let home = Home::new();
    let waiter = function("waiter", |handle: TaskHandle| async move {
        handle.signal::<()>("go").await
    });
    // The heartbeat would be the one exception.
    let engine = home
        .engine()
        .lease(HOUR)
        .register_spec(waiter)
        .start()
        .await
        .expect("starts");
    let run = begin(&engine, "waiter").await;
    until_event(&engine, first(&run), "task.deferred").await;
    let result = tokio::spawn(async move { run.result().await });
    tokio::time::pause();
    tokio::time::sleep(HOUR).await;
    let before = engine.store().stats();
    tokio::time::sleep(24 * HOUR).await;
    assert_eq!(engine.store().stats(), before);
    tokio::time::resume();
    engine
        .signal("waiter", "go", &())
        .await
        .expect("it is live");
    result.await.expect("it doesn't panic").expect("completes");
}
