//! Workers that come and go, and the file they share.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

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
    assert_eq!(home.phase(id, 1).await, Phase::Ready);
}

#[tokio::test]
async fn a_heartbeat_finds_what_another_process_wrote_though_its_wake_up_was_lost() {
    let home = Home::new().await;
    let other = Store::open(
        home.path().to_str().expect("utf-8"),
        StoreOptions::default(),
    )
    .await;
    let other = other.expect("opens");
    let request = home.request(&single()).await;
    let hints = home.store.hints();
    let told = async || {
        let beat = home.store.heartbeat(home.worker, Duration::ZERO);
        beat.await.expect("renewed");
        let mut news = pin!(hints.work.notified());
        poll_fn(|cx| Poll::Ready(news.as_mut().poll(cx).is_ready())).await
    };
    assert!(!told().await, "nothing is new");
    other.start(request).await.expect("starts");
    assert!(told().await);
    assert!(!told().await, "nothing is new");
}

#[tokio::test]
async fn who_only_looks_whether_tasks_are_run_keeps_nobody_from_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("store.db");
    let open = || Store::open(path.to_str().expect("utf-8"), StoreOptions::default());
    let (store, observer) = (open().await.expect("opens"), open().await.expect("opens"));
    let done = AtomicBool::new(false);
    let runtime = tokio::runtime::Handle::current();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                runtime.block_on(observer.has_workers()).expect("looks");
            }
        });
        let taken = (0..2000).filter(|_| {
            let lock = store.try_lock_workers().expect("asked");
            lock.map(|lock| store.unlock_workers(lock)).is_some()
        });
        let taken = taken.count();
        done.store(true, Ordering::Release);
        assert_eq!(taken, 2000);
    });
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
