//! Three processes share a thousand executions of one file, and are killed, stopped and taken for dead at random, again
//! and again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use abide::{Engine, State, TaskError, TaskHandle, workflow};
use abide_core::event::EventType;
use abide_core::ids::WorkerId;
use rusqlite::Connection;
use tokio::task::JoinSet;

use crate::child::Home;
use crate::scene::Log;
use crate::several::{HOUR, Process, remove_file, tell_to_stop, until_told, workers_of};
use crate::storm::Random;

const PROCESSES: usize = 3;
const SLOTS: usize = 4;
const LEASE: Duration = Duration::from_millis(600);
/// Executions, unless `ABIDE_HERD_EXECUTIONS` says otherwise.
const EXECUTIONS: u32 = 1000;
const EXECUTIONS_VARIABLE: &str = "ABIDE_HERD_EXECUTIONS";
/// Something happens to a process whenever so many more have ended.
const ENDED: u32 = 20;
/// The longest that a process is stopped: longer than its lease.
const LONGEST_STOP_MS: u64 = 1000;
/// How long the test looks away between two looks.
const LOOK: Duration = Duration::from_millis(2);

fn executions() -> u32 {
    let told = std::env::var(EXECUTIONS_VARIABLE).ok();
    told.map_or(EXECUTIONS, |text| text.parse().expect("a number"))
}

#[workflow]
async fn chore(handle: &TaskHandle, number: u32, log: State<Log>) -> Result<u32, TaskError> {
    log.task(handle);
    let doubled = handle
        .step("double", async || Ok::<_, TaskError>(number * 2))
        .await?;
    if number.is_multiple_of(3) {
        handle.sleep(Duration::from_millis(3)).await?;
    }
    let extra: u32 = match number % 5 {
        1 => handle.signal("extra").await?,
        _ => 0,
    };
    // In its slot.
    tokio::time::sleep(Duration::from_millis(u64::from(number % 8))).await;
    Ok(doubled + extra)
}

/// One of the processes.
pub(crate) async fn run(home: &Home) {
    let engine = home
        .engine()
        .state(Log::at(&home.log()))
        .register::<chore>()
        .lease(LEASE)
        .max_concurrent_tasks(SLOTS)
        .max_parked_tasks(10)
        .max_crashes(u32::MAX)
        .busy_timeout(HOUR)
        .start()
        .await
        .expect("starts");
    until_told(home).await;
    engine.shutdown().await;
    engine.store().close().await;
}

async fn see_through(client: Engine, number: u32) {
    let instance = format!("chore-{number}");
    let run = client.start::<chore>(&instance, &number);
    let run = run.await.expect("durable");
    let extra = if number % 5 == 1 { 1000 } else { 0 };
    if extra > 0 {
        let sent = client.signal(&instance, "extra", &extra).await;
        sent.expect("it is live");
    }
    assert_eq!(run.result().await.expect("completes"), number * 2 + extra);
}

/// What was done to the processes.
#[derive(Debug, Default)]
struct Deeds {
    kills: u32,
    stops: u32,
    removals: u32,
    /// The workers that died of it, or were taken for dead.
    dead: BTreeSet<WorkerId>,
}

struct Herd<'a> {
    home: &'a Home,
    processes: Vec<Process>,
    random: Random,
    deeds: Deeds,
}

impl Herd<'_> {
    fn spawn(home: &Home) -> Process {
        Process::spawn(&mut home.process("herd"))
    }

    /// Does something to one of them.
    async fn strike(&mut self) {
        let victim = self.random.below(PROCESSES as u64) as usize;
        let pid = self.processes[victim].id();
        let moment = Duration::from_millis(self.random.below(LONGEST_STOP_MS));
        match self.random.below(4) {
            0 => {
                self.processes[victim].signal("STOP");
                tokio::time::sleep(moment).await;
                self.processes[victim].signal("CONT");
                self.deeds.stops += 1;
            }
            1 => {
                self.processes[victim].signal("STOP");
                let workers = workers_of(self.home, pid);
                // One may have lost its file before, and not know it yet.
                workers
                    .iter()
                    .for_each(|id| drop(remove_file(self.home, *id)));
                tokio::time::sleep(moment).await;
                self.processes[victim].signal("CONT");
                self.deeds.dead.extend(workers);
                self.deeds.removals += 1;
            }
            _ => {
                self.processes[victim].signal("STOP");
                self.deeds.dead.extend(workers_of(self.home, pid));
                // Killed, and waited for.
                self.processes[victim] = Herd::spawn(self.home);
                self.deeds.kills += 1;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_that_are_killed_and_stopped_finish_every_execution_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let home = Home::at(directory.path());
    // Who is stopped may hold a lock, and stay stopped for as long as this test gets no turn.
    let client = home.engine().register::<chore>().busy_timeout(HOUR);
    let client = client.connect().await.expect("opens");
    let executions = executions();
    let mut through = JoinSet::new();
    for number in 0..executions {
        through.spawn(see_through(client.clone(), number));
    }
    let mut herd = Herd {
        home: &home,
        processes: (0..PROCESSES).map(|_| Herd::spawn(&home)).collect(),
        random: Random(executions.into()),
        deeds: Deeds::default(),
    };
    let sqlite = Connection::open(home.database()).expect("opens");
    for enough in (ENDED..executions).step_by(ENDED as usize) {
        while ended(&sqlite) < enough {
            while let Some(through) = through.try_join_next() {
                through.expect("ends right");
            }
            tokio::time::sleep(LOOK).await;
        }
        herd.strike().await;
    }
    while let Some(through) = through.join_next().await {
        through.expect("ends right");
    }
    tell_to_stop(&home);
    for process in &mut herd.processes {
        assert!(process.0.wait().expect("it ends").success());
    }
    let report = client.store().verify(Default::default()).await;
    let report = report.expect("reads");
    assert!(report.is_clean(), "{report}");
    let seen = look_back(&sqlite);
    let recovered: u32 = seen.recovered_from.values().sum();
    println!(
        "{} kills, {} stops, {} files removed; {recovered} tasks recovered from {} workers of {} that died, {} late \
         results discarded, at most {} tasks active in a worker",
        herd.deeds.kills,
        herd.deeds.stops,
        herd.deeds.removals,
        seen.recovered_from.len(),
        herd.deeds.dead.len(),
        seen.late_results,
        seen.most_active,
    );
    assert_eq!(seen.ends.len(), executions as usize);
    assert!(
        seen.ends.values().all(|times| *times == 1),
        "each ends once"
    );
    assert!(seen.most_active <= SLOTS, "{} at a time", seen.most_active);
    let lost: BTreeSet<_> = seen.recovered_from.keys().copied().collect();
    let others: Vec<_> = lost.difference(&herd.deeds.dead).collect();
    assert!(others.is_empty(), "others lost tasks: {others:?}");
    assert!(herd.deeds.kills > 0 && !lost.is_empty());
}

fn ended(sqlite: &Connection) -> u32 {
    let sql = "SELECT count(*) FROM executions WHERE closed_at IS NOT NULL";
    sqlite.query_row(sql, [], |row| row.get(0)).expect("reads")
}

/// What the history tells.
#[derive(Debug, Default)]
struct Seen {
    /// How often each execution ended.
    ends: BTreeMap<i64, u32>,
    /// The most tasks that one worker had active at a time.
    most_active: usize,
    /// How many tasks were taken back from whom.
    recovered_from: BTreeMap<WorkerId, u32>,
    late_results: u32,
}

fn look_back(sqlite: &Connection) -> Seen {
    let mut statement = sqlite
        .prepare("SELECT execution, task, type, worker, to_status FROM execution_events ORDER BY position")
        .expect("sound");
    let mut rows = statement.query([]).expect("reads");
    let mut seen = Seen::default();
    let mut holders: BTreeMap<(i64, u32), WorkerId> = BTreeMap::new();
    let mut active: BTreeMap<WorkerId, BTreeSet<(i64, u32)>> = BTreeMap::new();
    while let Some(row) = rows.next().expect("reads") {
        let of = |column| row.get::<_, i64>(column).expect("a number");
        let key = (of(0), of(1) as u32);
        let kind = EventType::from_code(of(2)).expect("a type");
        let worker: Option<i64> = row.get(3).expect("a number or none");
        let to: String = row.get(4).expect("a text");
        if kind.ends_execution() {
            *seen.ends.entry(key.0).or_default() += 1;
        }
        if key.1 == 0 {
            continue;
        }
        match kind {
            EventType::TaskLateResultDiscarded => {
                seen.late_results += 1;
                continue;
            }
            EventType::TaskRecovered => {
                let from = holders[&key];
                *seen.recovered_from.entry(from).or_default() += 1;
            }
            EventType::TaskClaimed => {
                let worker = worker.expect("somebody claims");
                holders.insert(key, WorkerId(worker));
            }
            _ => {}
        }
        if let Some(holder) = holders.get(&key) {
            let tasks = active.entry(*holder).or_default();
            match to == "Running::Active" {
                true => tasks.insert(key),
                false => tasks.remove(&key),
            };
            seen.most_active = seen.most_active.max(tasks.len());
        }
    }
    seen
}
