//! Workers that come and go, and the file they share.

use abide_core::status::Phase;
use abide_store::{Store, StoreOptions};

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
    assert_eq!(home.phase(id, 1), Phase::Ready);
}

#[cfg(unix)]
#[tokio::test]
async fn the_workers_lock_is_the_files_whatever_name_it_was_opened_by() {
    let home = Home::new().await;
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let link = elsewhere.path().join("link.db");
    std::os::unix::fs::symlink(home.path(), &link).expect("linked");
    let store = Store::open(link.to_str().expect("utf-8"), StoreOptions::default()).await;
    let lock = store.expect("opens").try_lock_workers().expect("asked");
    assert!(lock.is_none(), "another store has it");
}
