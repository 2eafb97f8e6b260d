//! Several who use one file: their wake-ups, and who of them is alive.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use abide_store::{Store, StoreOptions};

use crate::home::{Home, single};

/// Another process's view of the same file.
async fn another(home: &Home) -> Store {
    let path = home.database.path();
    let store = Store::open(path.to_str().expect("utf-8"), StoreOptions::default()).await;
    store.expect("opens")
}

#[tokio::test]
async fn a_heartbeat_finds_what_another_process_wrote_though_its_wake_up_was_lost() {
    let home = Home::new().await;
    let other = another(&home).await;
    // Nobody finds whom to wake.
    let files = home.database.path().with_file_name("store.db-workers");
    std::fs::rename(&files, files.with_extension("gone")).expect("renamed");
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
async fn who_only_looks_whether_workers_live_keeps_nobody_from_it() {
    const WORKERS: usize = 100;
    let home = Home::new().await;
    let observer = another(&home).await;
    let done = Arc::new(AtomicBool::new(false));
    let (looks, until) = (observer.clone(), Arc::clone(&done));
    let looking = std::thread::spawn(move || {
        while !until.load(Ordering::Acquire) {
            // One that ends in this instant may pass for dead; recovery looks closer.
            looks.someone_died(false).expect("looks");
        }
    });
    for _ in 0..WORKERS {
        let worker = home.new_worker().await;
        home.store.end_worker(worker).await.expect("ended");
    }
    done.store(true, Ordering::Release);
    looking.join().expect("it could look");
    let alive = observer.live_workers().await.expect("reads");
    assert_eq!(alive, [home.worker]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_worker_is_the_files_whatever_name_it_was_opened_by() {
    let home = Home::new().await;
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let link = elsewhere.path().join("link.db");
    std::os::unix::fs::symlink(home.database.path(), &link).expect("linked");
    let store = Store::open(link.to_str().expect("utf-8"), StoreOptions::default()).await;
    let store = store.expect("opens");
    assert_eq!(
        store.live_workers().await.expect("reads"),
        [home.worker],
        "it is no other file's"
    );
}

#[tokio::test]
async fn what_a_dead_worker_left_and_nobody_can_read_is_not_tried_again_and_again() {
    let mut home = Home::new().await;
    let id = home.start(&single()).await;
    home.claim().await;
    let spoil = format!(
        "UPDATE task_executions SET sub_status = 'Sleeping' WHERE execution = {}",
        id.0
    );
    home.execute(&spoil).await;
    home.recover(3).await;
    assert!(!home.store.someone_died(true).expect("looks"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_several_make_at_once_is_one_store_for_all() {
    const ROUNDS: u32 = 20;
    const AT_ONCE: u32 = 8;
    let directory = tempfile::tempdir().expect("a temporary directory");
    for round in 0..ROUNDS {
        let path = directory.path().join(format!("{round}.db"));
        let open = || {
            let path = path.to_str().expect("utf-8").to_owned();
            tokio::spawn(async move { Store::open(&path, StoreOptions::default()).await })
        };
        for opened in (0..AT_ONCE).map(|_| open()).collect::<Vec<_>>() {
            let store = opened.await.expect("it doesn't panic").expect("opens");
            assert_eq!(store.live_workers().await.expect("reads"), []);
        }
    }
}

#[tokio::test]
async fn a_program_that_writes_without_a_pause_keeps_nobody_from_writing() {
    let home = Home::new().await;
    let program = rusqlite::Connection::open(home.database.path()).expect("opens");
    let table = "CREATE TABLE theirs (a)";
    program.execute_batch(table).expect("created");
    let done = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&done);
    let writing = std::thread::spawn(move || {
        let again = |_| {
            std::thread::sleep(Duration::from_micros(500));
            true
        };
        program.busy_handler(Some(again)).expect("set");
        while !until.load(Ordering::Acquire) {
            let insert = "BEGIN IMMEDIATE; INSERT INTO theirs VALUES (1); COMMIT";
            program.execute_batch(insert).expect("written");
        }
    });
    // Whoever asks ten times a second is told after five that the file is locked.
    for _ in 0..5 {
        home.start(&single()).await;
    }
    done.store(true, Ordering::Release);
    writing.join().expect("it could write");
}
