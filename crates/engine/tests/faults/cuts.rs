//! Connections that are cut around a commit: nobody is told what happened, and it still happens once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use abide::{TaskBuilder, TaskHandle, WorkflowBuilder};
use abide_core::event::EventType;
use abide_core::status::Phase;
use abide_test_postgres::{Durability, Server, client};
use tokio::sync::oneshot;

use crate::answers::Answers;
use crate::child::Home;
use crate::load::{Load, see_through, told};
use crate::proxy::{Cut, Proxy};
use crate::restarts::check_bodies;
use crate::scene::{Order, visit};
use crate::sight::{Sight, check_disk, verify};

/// Connections cut, unless `ABIDE_COMMIT_CUTS` says otherwise.
const CUTS: u32 = 90;
/// One commit in so many is cut.
const ONE_IN: u32 = 5;
const LEASE: Duration = Duration::from_secs(120);

/// Cuts one commit in so many, each time in another way.
fn now_and_then() -> impl FnMut() -> Cut + Send + 'static {
    let mut commits = 0;
    move || {
        commits += 1;
        if commits % ONE_IN != 0 {
            return Cut::None;
        }
        match commits / ONE_IN % 3 {
            0 => Cut::After,
            1 => Cut::Before,
            _ => Cut::Late,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_around_any_commit_changes_nothing_but_the_time_it_takes() {
    let server = Server::start(Durability::Full);
    let proxy = Proxy::before(server.port(), || Cut::None).await;
    let home = Home::of(&proxy.url(&server.url()));
    let engine = home.engine().lease(LEASE).max_concurrent_tasks(8);
    let engine = engine.start().await.expect("starts");
    proxy.plan(now_and_then());
    let load = Load::begin(&engine, 8);
    let cuts = proxy.cuts();
    let cut = || {
        let counters = [&cuts.before, &cuts.after, &cuts.late];
        let [before, after, late] = counters.map(|of| of.load(Ordering::Relaxed));
        (before, after, late)
    };
    let enough = u64::from(told("ABIDE_COMMIT_CUTS", CUTS));
    while cut().0 + cut().1 + cut().2 < enough {
        load.progress(1).await;
    }
    let (answers, begun) = load.end().await;
    proxy.plan(|| Cut::None);
    engine.shutdown().await;
    let sight = Sight::of(&server.url()).await;
    answers.check(&sight).await;
    let (refused, unknown) = {
        let told = answers.told();
        assert_eq!(told.results.len(), begun);
        (told.refused, told.unknown)
    };
    assert_eq!(
        (refused, unknown),
        (0, 0),
        "each call was answered in the end"
    );
    assert_eq!((sight.ended().await, sight.open().await), (begun as i64, 0));
    for kind in [
        EventType::TaskRecovered,
        EventType::TaskAbandoned,
        EventType::TaskReleased,
        EventType::TaskLateResultDiscarded,
    ] {
        assert_eq!(sight.events(kind).await, 0, "{kind}");
    }
    check_bodies(&home);
    assert_eq!(engine.store().stats().deadlocks, 0);
    engine.store().close().await;
    verify(&server.url()).await;
    let (before, after, late) = cut();
    println!(
        "{} commits: {before} cut before, {after} after, {late} while they were on their way; {begun} executions",
        cuts.commits.load(Ordering::Relaxed)
    );
}

/// Starts an execution that nobody runs, of which the test knows its commit.
async fn start(engine: abide::Engine, number: u32) -> Result<(i64, bool), abide::EngineError> {
    let order = Order { number };
    let run = engine.start::<visit>(&order.instance(), &order).await?;
    Ok((run.id().0, run.is_new()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_around_a_commit_tells_what_became_of_it() {
    // What isn't committed isn't in its log when it dies, so that it gives the same ids again.
    let mut server = Server::start_with(Durability::Full, &[("wal_writer_delay", "10s")]);
    let proxy = Proxy::before(server.port(), || Cut::None).await;
    let home = Home::of(&proxy.url(&server.url()));
    let engine = home.engine().connect().await.expect("opens");
    let answers = Answers::default();
    start(engine.clone(), 1).await.expect("durable");
    let mut reused = 0;
    for number in (5..).step_by(4).take(6) {
        let (tell, held) = oneshot::channel();
        let mut tell = Some(tell);
        proxy.plan(move || tell.take().map_or(Cut::None, Cut::Ask));
        let sent = tokio::spawn(start(engine.clone(), number));
        let held = held.await.expect("it commits");
        // All that comes before the commit has been done.
        let watch = client(&server.url()).await;
        let open = "SELECT max(backend_xid::text::bigint) FROM pg_stat_activity WHERE backend_xid IS NOT NULL";
        let lost: i64 = watch.query_one(open, &[]).await.expect("sound").get(0);
        tokio::task::block_in_place(|| {
            server.kill();
            server.restart();
        });
        // Others take its id, and commit.
        let others = client(&server.url()).await;
        others
            .batch_execute("CREATE TABLE IF NOT EXISTS others (n int)")
            .await
            .expect("sound");
        let insert = "INSERT INTO others VALUES (1) RETURNING pg_current_xact_id()::text::bigint";
        loop {
            let xid: i64 = others.query_one(insert, &[]).await.expect("sound").get(0);
            if xid >= lost {
                reused += u32::from(xid == lost);
                break;
            }
        }
        held.then(Cut::Before);
        let (id, is_new) = sent.await.expect("no panic").expect("durable");
        assert!(is_new, "it was made by this call");
        answers.started(&Order { number }, id);
        // Asked again, the same.
        let again = start(engine.clone(), number).await.expect("durable");
        assert_eq!(again, (id, false));
    }
    answers.check(&Sight::of(&server.url()).await).await;
    engine.store().close().await;
    verify(&server.url()).await;
    check_disk(&server.url()).await;
    println!("{reused} of 6 transactions that were lost gave their ids to others");
    assert!(
        reused > 0,
        "the ids must be given again, or this shows little"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_while_it_commits_has_done_it_or_not() {
    let mut server = Server::start(Durability::Full);
    let proxy = Proxy::before(server.port(), || Cut::None).await;
    let home = Home::of(&proxy.url(&server.url()));
    let engine = home.engine().lease(LEASE).max_concurrent_tasks(4);
    let engine = engine.start().await.expect("starts");
    let answers = Answers::default();
    for round in 0..told("ABIDE_COMMIT_KILLS", 6) {
        let (tell, held) = oneshot::channel();
        let (mut tell, mut before) = (Some(tell), round % 4);
        proxy.plan(move || match before {
            0 => tell.take().map_or(Cut::None, Cut::Ask),
            _ => {
                before -= 1;
                Cut::None
            }
        });
        let order = Order {
            number: round * 4 + 1,
        };
        let (own, told) = (engine.clone(), answers.clone());
        let sent = tokio::spawn(async move { see_through(&own, &told, order).await });
        let held = held.await.expect("it commits");
        held.then(Cut::None);
        tokio::time::sleep(Duration::from_micros(u64::from(round) * 150)).await;
        tokio::task::block_in_place(|| {
            server.kill();
            server.restart();
        });
        sent.await.expect("it ends right");
    }
    engine.shutdown().await;
    let sight = Sight::of(&server.url()).await;
    answers.check(&sight).await;
    assert_eq!(sight.open().await, 0);
    assert_eq!(answers.told().unknown, 0);
    check_bodies(&home);
    engine.store().close().await;
    verify(&server.url()).await;
    check_disk(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wake_up_that_was_taken_from_the_inbox_and_never_arrived_is_made_up_for() {
    let server = Server::start(Durability::None);
    let proxy = Proxy::before(server.port(), || Cut::None).await;
    let reader = TaskBuilder::new("reader", |handle: TaskHandle| async move {
        handle.signal::<u32>("number").await
    });
    let reader = WorkflowBuilder::function(reader).build();
    let hour = Duration::from_secs(3600);
    let sender = Home::of(&server.url()).engine().poll_interval(hour);
    let sender = sender.connect().await.expect("opens");
    // It gives up soon, and never looks by itself.
    let engine = Home::of(&proxy.url(&server.url())).engine();
    let engine = engine
        .register_spec(reader.expect("no mistakes"))
        .busy_timeout(Duration::from_millis(300))
        .poll_interval(hour)
        .lease(LEASE)
        .start()
        .await
        .expect("starts");
    let run = engine.start_named("reader", "r", &()).await;
    let run = run.expect("durable");
    let parked = async || {
        let tasks = engine.store().tasks(run.id(), 0, 1).await.expect("reads");
        tasks[0].task.phase == Phase::Deferred
    };
    while !parked().await {
        tokio::task::yield_now().await;
    }
    // The claim that takes the wake-up out of the inbox commits, and nobody can ask what became of it.
    let (tell, held) = oneshot::channel();
    let mut tell = Some(tell);
    proxy.plan(move || tell.take().map_or(Cut::None, Cut::Ask));
    sender.signal("r", "number", &7).await.expect("durable");
    let held = held.await.expect("it claims");
    proxy.closed().store(true, Ordering::Relaxed);
    held.then(Cut::After);
    assert_eq!(run.result().await.expect("completes"), serde_json::json!(7));
    proxy.closed().store(false, Ordering::Relaxed);
    engine.shutdown().await;
    engine.store().close().await;
    sender.store().close().await;
    verify(&server.url()).await;
}
