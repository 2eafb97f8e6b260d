//! Processes that share a store, die, and stand still for longer than their lease.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use abide::{Engine, ExecutionStatus};
use abide_core::event::EventType;
use abide_core::ids::WorkerId;
use abide_core::status::Phase;
use abide_test_postgres::{Durability, Server, client, fresh_schema};

use crate::child::{Home, Worker};
use crate::load::told;
use crate::scene::{Order, chore, first, gated, second};
use crate::sight::{Sight, verify};

/// Processes and tasks, unless `ABIDE_WORKERS` and `ABIDE_TASKS` say otherwise.
const WORKERS: u32 = 4;
const TASKS: u32 = 1000;
/// How often a process is killed or stopped meanwhile.
const BLOWS: u32 = 12;
const SLOTS: usize = 4;
const LEASE: Duration = Duration::from_secs(2);
const HOUR: Duration = Duration::from_secs(3600);
/// How long is looked away between two looks at a file or a server.
const LOOK: Duration = Duration::from_millis(2);
/// Where nobody may lose it, however busy the machine is.
const LONG_LEASE: Duration = Duration::from_secs(4);

/// A process that stands still, and until when.
struct Frozen {
    worker: Worker,
    until: Instant,
}

/// Some processes, not all of which stand still.
struct Herd {
    home: Home,
    awake: VecDeque<Worker>,
    frozen: VecDeque<Frozen>,
    killed: u32,
    stopped: u32,
}

impl Herd {
    fn new(home: Home, size: u32) -> Herd {
        let awake = (0..size).map(|_| home.worker(LEASE, SLOTS)).collect();
        Herd {
            home,
            awake,
            frozen: VecDeque::new(),
            killed: 0,
            stopped: 0,
        }
    }

    /// Kills one and starts another in its place; or stops one, as long as others run.
    fn strike(&mut self, blow: u32) {
        let victim = self.awake.pop_front().expect("some run");
        if blow.is_multiple_of(2) || self.awake.len() < 2 {
            victim.kill();
            self.killed += 1;
            self.awake.push_back(self.home.worker(LEASE, SLOTS));
        } else {
            victim.freeze();
            self.stopped += 1;
            let until = Instant::now() + LEASE * 2;
            self.frozen.push_back(Frozen {
                worker: victim,
                until,
            });
        }
    }

    /// Lets those go on that have stood still for long enough.
    fn thaw(&mut self, all: bool) {
        while let Some(frozen) = self.frozen.front()
            && (all || frozen.until <= Instant::now())
        {
            let frozen = self.frozen.pop_front().expect("it is the first");
            frozen.worker.thaw();
            self.awake.push_back(frozen.worker);
        }
    }
}

async fn start(engine: &Engine, tasks: u32) {
    let starting: Vec<_> = (0..tasks)
        .map(|number| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let order = Order { number };
                engine.start::<chore>(&order.instance(), &order).await
            })
        })
        .collect();
    for start in starting {
        start.await.expect("no panic").expect("durable");
    }
}

/// The most tasks that any worker ran at a time. One that was declared dead claims no more, so what was
/// taken back from it doesn't matter.
fn busiest() -> String {
    format!(
        "SELECT max(running)::bigint FROM (SELECT sum(CASE WHEN type = {started} THEN 1 \
         WHEN from_status = '{active}' AND to_status <> '{active}' THEN -1 ELSE 0 END) \
         OVER (PARTITION BY worker ORDER BY position) AS running \
         FROM abide.execution_events WHERE task > 0 AND worker IS NOT NULL) counted",
        started = EventType::TaskStarted.code(),
        active = Phase::Active.as_str()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_die_and_stand_still_leave_nothing_undone_and_nothing_done_twice() {
    let server = Server::start(Durability::Full);
    let home = Home::of(&server.url());
    let client = home.engine().connect().await.expect("opens");
    let sight = Sight::of(&home.url).await;
    let (workers, tasks) = (told("ABIDE_WORKERS", WORKERS), told("ABIDE_TASKS", TASKS));
    let blows = told("ABIDE_BLOWS", BLOWS);
    let mut herd = Herd::new(home, workers);
    start(&client, tasks).await;
    let mut struck = 0;
    loop {
        let ended = sight.ended().await;
        if ended == i64::from(tasks) {
            break;
        }
        // Spread over the first half, so that what is stopped comes back to work.
        if struck < blows && ended >= i64::from(tasks * struck / blows / 2) {
            herd.strike(struck);
            struck += 1;
        }
        herd.thaw(false);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    herd.thaw(true);
    let Herd {
        awake,
        killed,
        stopped,
        ..
    } = herd;
    // Among them those that were stopped and went on.
    let deadlocks: u64 = awake.into_iter().map(Worker::stop).sum();
    assert_eq!((deadlocks, sight.deadlocks().await), (0, 0));
    let completed = format!(
        "SELECT count(*) FROM abide.executions WHERE status = '{}'",
        ExecutionStatus::Completed
    );
    let completed = sight.number(&completed).await;
    assert_eq!(completed, i64::from(tasks), "each has its result");
    assert_eq!(
        sight.events(EventType::TaskCompleted).await,
        i64::from(tasks),
        "and none has two"
    );
    assert_eq!(sight.events(EventType::TaskAbandoned).await, 0);
    let recovered = sight.events(EventType::TaskRecovered).await;
    assert!(recovered > 0, "somebody died over a task");
    // How many come back in time to be late is chance.
    let late = sight.events(EventType::TaskLateResultDiscarded).await;
    let busiest = sight.number(&busiest()).await;
    assert!(
        busiest <= SLOTS as i64,
        "{busiest} tasks ran at a time in {SLOTS} slots"
    );
    client.store().close().await;
    verify(&server.url()).await;
    println!(
        "{tasks} tasks on {workers} processes, {killed} killed, {stopped} stopped past their lease: \
         {recovered} tasks recovered, {late} late results discarded, at most {busiest} of {SLOTS} slots taken"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_for_longer_than_a_lease_costs_nobody_its_life() {
    let mut server = Server::start(Durability::Full);
    let home = Home::of(&server.url());
    let client = home.engine().connect().await.expect("opens");
    let workers: Vec<Worker> = (0..3).map(|_| home.worker(LONG_LEASE, SLOTS)).collect();
    start(&client, 40).await;
    tokio::task::block_in_place(|| {
        server.stop();
        // The database's own time goes on meanwhile.
        std::thread::sleep(LONG_LEASE * 3 / 2);
        server.restart();
    });
    // One that is new looks at once.
    let fourth = home.worker(LONG_LEASE, SLOTS);
    let sight = Sight::of(&home.url).await;
    let back = sight.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint");
    let back = back.await;
    // Everybody has renewed its lease, and looked at the others since.
    let looked = back + 2 * i64::try_from(LONG_LEASE.as_micros()).expect("small");
    let renewed = format!(
        "SELECT count(*) FROM abide.workers WHERE ended_at IS NULL AND heartbeat_at > {looked}"
    );
    while sight.number(&renewed).await < 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Where there is no time for a heartbeat in a lease, somebody is dead.
    let lease = LONG_LEASE.as_micros();
    let too_soon = format!(
        "SELECT count(*) FROM abide.workers WHERE ended_at < {lease} + greatest(heartbeat_at, \
         (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint)"
    );
    let dead = "SELECT count(*) FROM abide.workers WHERE ended_at IS NOT NULL";
    let dead = sight.number(dead).await;
    assert_eq!(
        sight.number(&too_soon).await,
        0,
        "everybody had a lease's time"
    );
    for number in 0..40 {
        let order = Order { number };
        let run = client
            .find::<chore>(&order.instance())
            .await
            .expect("it is there");
        assert_eq!(run.result().await.expect("completes"), number + 7);
    }
    assert!(dead > 0 || sight.events(EventType::TaskRecovered).await == 0);
    for worker in workers.into_iter().chain([fourth]) {
        worker.stop();
    }
    client.store().close().await;
    verify(&server.url()).await;
}

/// As if the database's clock had been set: what it wrote before is so much older or younger.
async fn set_clock(sight: &Sight, ahead: Duration, back: bool) {
    let us = i64::try_from(ahead.as_micros()).expect("small");
    let us = if back { us } else { -us };
    let set = format!(
        "WITH set AS (UPDATE abide.workers SET started_at = started_at + {us}, heartbeat_at = heartbeat_at + {us}, \
         lease_until = lease_until + {us} RETURNING 1) SELECT count(*) FROM set"
    );
    assert!(sight.number(&set).await > 0, "there are workers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_clock_that_is_set_ahead_kills_no_worker() {
    let server = Server::start(Durability::None);
    let home = Home::of(&server.url());
    // No heartbeat of theirs comes to their help.
    let workers: Vec<Worker> = (0..2).map(|_| home.worker(HOUR, SLOTS)).collect();
    let client = home.engine().connect().await.expect("opens");
    let sight = Sight::of(&home.url).await;
    let recovered = async || client.store().recover(5, WorkerId(1)).await;
    assert_eq!(recovered().await.expect("recovers").workers, 0);
    set_clock(&sight, 2 * HOUR, false).await;
    for _ in 0..3 {
        assert_eq!(recovered().await.expect("recovers").workers, 0);
    }
    let dead = "SELECT count(*) FROM abide.workers WHERE ended_at IS NOT NULL";
    assert_eq!(sight.number(dead).await, 0);
    for worker in workers {
        worker.stop();
    }
    client.store().close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_clock_that_is_set_back_hides_no_death() {
    let server = Server::start(Durability::None);
    let home = Home::of(&server.url());
    let dead = home.worker(LEASE, SLOTS);
    let sight = Sight::of(&home.url).await;
    dead.kill();
    set_clock(&sight, 2 * HOUR, true).await;
    let client = home.engine().connect().await.expect("opens");
    let recovered = async || {
        let recovered = client.store().recover(5, WorkerId(1)).await;
        recovered.expect("recovers").workers
    };
    while recovered().await == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.store().close().await;
}

/// A machine that is suspended, or a debugger: the server ends the session, since it was idle in its transaction
/// for longer than the store lets it be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stood_still_in_a_transaction_goes_on_with_its_task() {
    let server = Server::start(Durability::None);
    let home = Home::of(&server.url());
    let worker = home.worker(HOUR, SLOTS);
    let engine = home.engine().connect().await.expect("opens");
    let order = Order { number: 1 };
    let run = engine.start::<gated>(&order.instance(), &order).await;
    let run = run.expect("durable");
    while home.log().lines().is_empty() {
        tokio::time::sleep(LOOK).await;
    }
    // Its end waits for a lock, in a transaction.
    let mut foreign = client(&server.url()).await;
    let lock = foreign.transaction().await.expect("begins");
    let locked = lock.batch_execute("SELECT FROM abide.executions FOR UPDATE");
    locked.await.expect("sound");
    std::fs::write(home.log().gate(), "").expect("written");
    let sight = client(&server.url()).await;
    let processes = async |condition: &str| -> Vec<i32> {
        let sql = format!(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'abide' AND {condition}"
        );
        let rows = sight.query(&sql, &[]).await.expect("sound");
        rows.iter().map(|row| row.get(0)).collect()
    };
    let waiting = loop {
        match processes("wait_event_type = 'Lock'").await[..] {
            [waiting] => break waiting,
            _ => tokio::time::sleep(LOOK).await,
        }
    };
    worker.freeze();
    lock.rollback().await.expect("rolls back");
    let waiting = format!("pid = {waiting}");
    let idle = format!("{waiting} AND state = 'idle in transaction'");
    while processes(&idle).await.is_empty() {
        tokio::time::sleep(LOOK).await;
    }
    while !processes(&waiting).await.is_empty() {
        tokio::time::sleep(LOOK).await;
    }
    worker.thaw();
    assert_eq!(run.result().await.expect("completes"), order.number + 9);
    assert_eq!(home.log().lines().len(), 1, "its body ran once");
    worker.stop();
    engine.store().close().await;
    verify(&home.url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_versions_of_a_program_each_run_what_they_know() {
    let schema = fresh_schema();
    let home = Home::of(&schema.url);
    let client = home.engine().connect().await.expect("opens");
    let (one, two) = (home.worker_of_version(1), home.worker_of_version(2));
    for number in 0..20 {
        let instance = format!("shape {number}");
        let (ran, knows) = match number % 2 {
            0 => (
                client.start::<first::shape>(&instance, &number).await,
                (1, one.id()),
            ),
            _ => (
                client.start::<second::shape>(&instance, &number).await,
                (2, two.id()),
            ),
        };
        let result = ran.expect("durable").result().await;
        assert_eq!(result.expect("completes"), knows);
    }
    one.stop();
    // What nobody knows any more waits for who does.
    let waits = client
        .start::<first::shape>("nobody's", &0)
        .await
        .expect("durable");
    let known = client
        .start::<second::shape>("somebody's", &0)
        .await
        .expect("durable");
    assert_eq!(known.result().await.expect("completes").0, 2);
    assert!(
        !waits
            .status()
            .await
            .expect("reads")
            .execution
            .status
            .is_terminal()
    );
    let again = home.worker_of_version(1);
    assert_eq!(waits.result().await.expect("completes"), (1, again.id()));
    again.stop();
    two.stop();
    client.store().close().await;
}
