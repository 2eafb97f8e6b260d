//! The order in which jobs are done, and what becomes of those that nobody does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use abide_core::ids::VersionId;
use abide_core::kernel::{Reply, Request, Signal, Subject};
use abide_core::payload::Payload;
use abide_test_postgres::fresh_schema;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::error::{ApplyError, StoreError};
use crate::job::Job;
use crate::{Store, StoreOptions};

use super::super::queue::{Batch, Queue};

type Answered = oneshot::Receiver<Result<Reply, ApplyError>>;

/// Queues a signal to an instance; its words tell which one it is.
fn ask(queue: &Queue, instance: &str, words: &str) -> Answered {
    let (answer, answered) = oneshot::channel();
    let signal = Signal {
        instance: instance.into(),
        name: words.into(),
        payload: Payload::from_json("null".to_owned()),
        actor: None,
    };
    let job = Job::Apply(Box::new(Request::Signal(signal)), answer);
    queue.push(job).expect("it is open");
    answered
}

fn words(batch: &Batch) -> Vec<String> {
    let word = |job: &Job| match job {
        Job::Apply(request, _) => match &**request {
            Request::Signal(signal) => signal.name.to_string(),
            other => panic!("{other:?}"),
        },
        _ => "a claim".to_owned(),
    };
    batch.jobs.iter().map(|queued| word(queued.job())).collect()
}

async fn take(queue: &Arc<Queue>) -> Batch {
    queue.take().await.expect("it is open")
}

async fn is_idle(queue: &Arc<Queue>) -> bool {
    tokio::select! {
        biased;
        _ = queue.take() => false,
        () = tokio::task::yield_now() => true,
    }
}

#[tokio::test]
async fn jobs_about_one_instance_are_done_one_after_another() {
    let queue = Queue::new("db".to_owned());
    let mut asked = vec![ask(&queue, "a", "a1"), ask(&queue, "b", "b1")];
    let first = take(&queue).await;
    assert_eq!(words(&first), ["a1", "b1"]);
    for (instance, word) in [
        ("a", "a2"),
        ("c", "c1"),
        ("b", "b2"),
        ("a", "a3"),
        ("c", "c2"),
    ] {
        asked.push(ask(&queue, instance, word));
    }
    let claim = Job::Claim {
        worker: abide_core::ids::WorkerId(1),
        queues: vec![VersionId(1)].into(),
        max: 1,
        answer: oneshot::channel().0,
    };
    queue.push(claim).expect("it is open");
    let second = take(&queue).await;
    assert_eq!(words(&second), ["c1", "c2", "a claim"]);
    asked.push(ask(&queue, "c", "c3"));
    assert!(is_idle(&queue).await, "all of it waits for others");
    drop(second);
    let third = take(&queue).await;
    assert_eq!(words(&third), ["c3"]);
    drop(first);
    let fourth = words(&take(&queue).await);
    // Which instance comes first is no matter.
    assert!(
        fourth == ["a2", "a3", "b2"] || fourth == ["b2", "a2", "a3"],
        "{fourth:?}"
    );
}

#[tokio::test]
async fn however_many_wait_for_one_instance_others_go_past() {
    let queue = Queue::new("db".to_owned());
    let _first = ask(&queue, "a", "a0");
    let held = take(&queue).await;
    let _behind: Vec<_> = (1..=20_000)
        .map(|n| ask(&queue, "a", &format!("a{n}")))
        .collect();
    let _other = ask(&queue, "b", "b1");
    assert_eq!(words(&take(&queue).await), ["b1"]);
    drop(held);
    // They are done in their order, and leave room for others from the beginning.
    let _other = ask(&queue, "c", "c1");
    let batch = take(&queue).await;
    let mut done = words(&batch);
    assert_eq!(done.pop().expect("several"), "c1");
    // What is asked while some of them are under way goes behind all.
    let _last = ask(&queue, "a", "a20001");
    assert!(is_idle(&queue).await);
    drop(batch);
    while done.len() <= 20_000 {
        done.extend(words(&take(&queue).await));
    }
    let asked: Vec<_> = (1..=20_001).map(|n| format!("a{n}")).collect();
    assert_eq!(done, asked);
}

#[tokio::test]
async fn what_is_split_off_keeps_its_own_waiting_and_nobody_elses() {
    let queue = Queue::new("db".to_owned());
    let _asked = [ask(&queue, "a", "a1"), ask(&queue, "b", "b1")];
    let mut batch = take(&queue).await;
    let apart = batch.under_way.split_off(&Subject::Instance("a".into()));
    drop(batch);
    let _more = [ask(&queue, "a", "a2"), ask(&queue, "b", "b2")];
    let next = take(&queue).await;
    assert_eq!(words(&next), ["b2"]);
    queue.close();
    drop(next);
    assert!(is_idle(&queue).await, "it is not over before a2 is done");
    drop(apart);
    let last = take(&queue).await;
    assert_eq!(words(&last), ["a2"]);
    drop(last);
    assert!(queue.take().await.is_none());
}

#[tokio::test]
async fn a_job_that_is_dropped_says_that_nobody_knows_what_became_of_it() {
    let queue = Queue::new("db".to_owned());
    let mut asked = ask(&queue, "a", "a1");
    assert_eq!(asked.try_recv().err(), Some(TryRecvError::Empty));
    drop(take(&queue).await);
    match asked.await.expect("it is answered") {
        Err(ApplyError::Store(error)) => assert!(!error.is_definite(), "{error}"),
        other => panic!("{other:?}"),
    }
    queue.close();
    let (answer, refused) = oneshot::channel();
    let limit = 1;
    let late = queue.push(Job::FireTimers { limit, answer });
    assert!(matches!(late, Err(StoreError::Closed)));
    let refused = refused.await.expect("it is answered");
    assert!(matches!(refused, Err(StoreError::Closed)));
}

#[tokio::test]
async fn a_writer_that_panics_goes_on() {
    let schema = fresh_schema();
    let is_broken = Arc::new(AtomicBool::new(false));
    let broken = is_broken.clone();
    let now = move || {
        assert!(!broken.swap(false, Ordering::SeqCst), "no time");
        crate::system_now()
    };
    let options = StoreOptions {
        now: Some(Arc::new(now)),
        committers: 1,
        ..StoreOptions::default()
    };
    let store = Store::open(&schema.url, options).await.expect("opens");
    is_broken.store(true, Ordering::SeqCst);
    let error = store.fire_timers(1).await.expect_err("its writer panics");
    assert!(!error.is_definite(), "{error}");
    let fired = store.fire_timers(1).await.expect("the writer is back");
    assert_eq!(fired.fired, 0);
    store.close().await;
}
