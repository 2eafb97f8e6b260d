//! Workers that come and go.

use abide_core::status::Phase;

use crate::home::{Home, single};

#[tokio::test]
async fn what_a_worker_held_when_it_said_goodbye_is_taken_back_too() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    home.claim().await;
    home.store.end_worker(home.worker).await.expect("ended");
    let next = home.new_worker().await;
    let summary = home.store.recover(3, next).await.expect("recovers");
    assert_eq!((summary.workers, summary.recovered), (1, 1));
    assert_eq!(home.phase(id, 1).await, Phase::Ready);
}
