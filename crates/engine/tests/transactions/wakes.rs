//! The commit of the user's transaction wakes whoever has something to do, at once: nobody here looks
//! for work by itself within the hour.

use std::sync::Arc;
use std::time::Duration;

use abide::{Engine, VirtualClock};
use abide_core::graph::{Graph, GraphBuilder, TaskSpec};
use abide_core::ids::{ExecutionId, Timestamp, VersionId, WorkerId, first_id_at};
use abide_core::kernel::Start;
use abide_store::{NewWorker, Store, StoreOptions, WorkflowKind};

use crate::home::{Home, double, question, verify};
use crate::libraries::Library;

on_all!(
    a_store_hears_of_a_commit,
    another_process_is_woken,
    a_timer_is_set_by_the_commit,
);

const HOUR: Duration = Duration::from_secs(3600);

async fn open<L: Library>(home: &Home<L>) -> Store {
    let options = StoreOptions {
        poll: HOUR,
        ..StoreOptions::default()
    };
    let store = Store::open(&home.place.url, options).await.expect("opens");
    store.watch_others(false).expect("listens");
    store
}

fn start(id: i64, workflow: VersionId, graph: &Arc<Graph>) -> Start {
    Start::of(ExecutionId(id), id.to_string(), workflow, graph)
}

/// The very store that wrote hears it, and so does another one on the same database.
async fn a_store_hears_of_a_commit<L: Library>() {
    let home = Home::<L>::new().await;
    let (store, other) = (open(&home).await, open(&home).await);
    let mut graph = GraphBuilder::new();
    graph.task(TaskSpec::new("one")).node("one", "one");
    let graph = Arc::new(graph.build().expect("a graph"));
    let version = store.ensure_version("one", "1", WorkflowKind::Graph, graph.clone());
    let version = version.await.expect("recorded");
    let mut client = home.client().await;
    for (n, hears) in [(1, &store), (2, &other)] {
        let worker = NewWorker {
            id: WorkerId(n),
            host: "host".to_owned(),
            pid: std::process::id(),
        };
        hears.register_worker(worker, HOUR).await.expect("known");
        let id = first_id_at(store.now()) + n;
        let mut transaction = client.begin().await;
        let start = start(id, version, &graph);
        let started = store.start_in(&mut transaction, start).await;
        assert!(started.expect("started").created);
        let claim = || hears.claim(WorkerId(n), Arc::new([version]), 1);
        L::commit(transaction).await;
        // What else was told brings nothing.
        loop {
            hears.hints().work.notified().await;
            let claims = claim().await.expect("claims");
            if let [claimed] = &*claims.claimed {
                assert_eq!(claimed.task.key.execution, ExecutionId(id));
                break;
            }
        }
    }
}

/// The process that runs tasks isn't the one whose transaction it was.
async fn another_process_is_woken<L: Library>() {
    let home = Home::<L>::new().await;
    let worker = home.worker().await;
    let client_engine: Engine = home.observer().await;
    let mut client = home.client().await;
    for n in 0..20 {
        let instance = format!("a{n}");
        let mut transaction = client.begin().await;
        let run = client_engine
            .start_in::<question>(&mut transaction, &instance, &n)
            .await;
        run.expect("started");
        L::commit(transaction).await;
        let mut transaction = client.begin().await;
        let answer = n.to_string();
        let sent = client_engine.signal_in(&mut transaction, &instance, "answer", &answer);
        sent.await.expect("sent");
        L::commit(transaction).await;
        let run = worker.find::<question>(&instance).await.expect("exists");
        assert_eq!(run.result().await.expect("completes"), n.to_string());
    }
    verify(&worker).await;
    worker.shutdown().await;
}

async fn a_timer_is_set_by_the_commit<L: Library>() {
    let home = Home::<L>::new().await;
    let clock = VirtualClock::at(Timestamp(1_790_000_000_000_000));
    let builder = home.builder().register::<double>().clock(clock.clone());
    let engine = builder.lease(10 * HOUR).start().await.expect("starts");
    let mut client = home.client().await;
    let mut transaction = client.begin().await;
    let start = engine.start::<double>("a", &1).delay(HOUR);
    let run = start.within(&mut transaction).await.expect("started");
    L::commit(transaction).await;
    while engine.store().hints().next_due().is_none() {
        tokio::task::yield_now().await;
    }
    clock.advance(HOUR);
    assert_eq!(run.result().await.expect("completes"), 2);
    verify(&engine).await;
    engine.shutdown().await;
}
