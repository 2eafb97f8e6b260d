//! How much is asked of a server by processes that look after each other and find nothing.

use std::time::Duration;

use abide_store::RecoverySummary;

use crate::home::{Home, SECOND_US, single};

/// One look finds nothing and takes so many statements.
async fn looks_by(home: &Home, statements: u64) {
    let before = home.store.stats().statements;
    let looked = home.store.recover(3, home.worker).await;
    assert_eq!(looked.expect("looks"), RecoverySummary::default());
    assert_eq!(home.store.stats().statements - before, statements);
}

#[tokio::test]
async fn an_idle_process_looks_at_the_others_by_one_statement() {
    let home = Home::new().await;
    home.start(&single()).await;
    // By another process: whoever picks something looks once more a second later.
    let other = home.reopened().await;
    let claims = other.claim(home.worker, home.queues().await, 1).await;
    assert_eq!(claims.expect("claims").claimed.len(), 1);
    looks_by(&home, 2).await;
    for _ in 0..100 {
        home.advance(3 * SECOND_US);
        looks_by(&home, 1).await;
    }
    // Who ends may leave something.
    let other = home.new_worker().await;
    home.store.end_worker(other).await.expect("ended");
    for _ in 0..20 {
        looks_by(&home, 2).await;
        home.advance(3 * SECOND_US);
    }
    home.advance(300 * SECOND_US);
    // Since its last look, for all it knows.
    looks_by(&home, 2).await;
    looks_by(&home, 1).await;
    home.advance(600 * SECOND_US);
    looks_by(&home, 2).await;
}

#[tokio::test]
async fn an_idle_worker_renews_its_lease_by_one_statement() {
    let home = Home::new().await;
    let before = home.store.stats().statements;
    for _ in 0..10 {
        let renewed = home.store.heartbeat(home.worker, Duration::from_secs(10));
        assert!(renewed.await.expect("asked"));
    }
    assert_eq!(home.store.stats().statements - before, 10);
}
