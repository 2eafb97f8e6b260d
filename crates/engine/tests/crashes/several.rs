//! Several processes on one file: whoever dies is noticed at once, whoever is only stopped keeps its tasks, and each
//! runs only what it knows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use abide::{Engine, HistoryFilter, Run, TaskBuilder, TaskError, TaskHandle, WorkflowBuilder};
use abide_core::ids::WorkerId;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::child::Home;
use crate::kill_points::lines;
use crate::scene::Log;
use crate::shim::Shim;

/// The version of the workflow that a process runs.
const VERSION: &str = "ABIDE_CHILD_VERSION";
/// The lease of a process, in milliseconds.
const LEASE: &str = "ABIDE_CHILD_LEASE";
/// So long that nothing in these tests goes by it.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// How long processes look away between two looks at a file.
const LOOK: Duration = Duration::from_millis(2);

// ---- what the processes run ----

/// A function that tells which process runs it, and ends once it may.
fn errand(home: &Home, version: &str) -> abide::authoring::WorkflowSpec {
    let (log, home, own) = (Log::at(&home.log()), home.clone(), version.to_owned());
    let body = move |handle: TaskHandle| {
        let (log, home, own) = (log.clone(), home.clone(), own.clone());
        async move {
            let pid = std::process::id();
            log.begin(&format!("{} {own} {pid}", handle.instance()));
            let gate = home.file(&format!("gate {} {pid}", handle.instance()));
            while !gate.exists() {
                tokio::time::sleep(LOOK).await;
            }
            Ok::<_, TaskError>(pid)
        }
    };
    let task = TaskBuilder::new("errand", body);
    let spec = WorkflowBuilder::function(task).version(version).build();
    spec.expect("a workflow without mistakes")
}

/// A worker, until it is killed or told to stop.
pub(crate) async fn run(home: &Home) {
    let version = std::env::var(VERSION).expect("set by the test");
    let lease = std::env::var(LEASE).expect("set by the test");
    let lease = Duration::from_millis(lease.parse().expect("a number"));
    let engine = home
        .engine()
        .register_spec(errand(home, &version))
        .lease(lease)
        .max_concurrent_tasks(2)
        .start()
        .await
        .expect("starts");
    until_told(home).await;
    let stopping = home.stopping(std::process::id());
    // Polled once, the shutdown has begun: the worker takes no more tasks.
    tokio::join!(biased; engine.shutdown(), async {
        std::fs::write(stopping, "").expect("written");
    });
    engine.store().close().await;
}

/// Ends when the test says that all is done.
pub(crate) async fn until_told(home: &Home) {
    while !home.file("stop").exists() {
        tokio::time::sleep(LOOK).await;
    }
}

pub(crate) fn tell_to_stop(home: &Home) {
    std::fs::write(home.file("stop"), "").expect("written");
}

/// A process that is killed when the test is over.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Process {
        let command = command.stdout(Stdio::null()).stderr(Stdio::inherit());
        Process(command.spawn().expect("it can be started"))
    }

    fn worker(home: &Home, version: &str, lease: Duration) -> Process {
        Process::worker_by(home.process("several"), version, lease)
    }

    fn worker_by(mut command: Command, version: &str, lease: Duration) -> Process {
        command.env(VERSION, version);
        command.env(LEASE, lease.as_millis().to_string());
        Process::spawn(&mut command)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Stops it or lets it go on.
    pub(crate) fn signal(&self, name: &str) {
        let script = format!("kill -{name} {}", self.id());
        let status = Command::new("sh").args(["-c", &script]).status();
        assert!(status.expect("there is a shell").success(), "{script}");
    }

    /// Stops it while it holds no lock that writers need.
    async fn stop_between_writes(&self, home: &Home) {
        let sqlite = Connection::open(home.database()).expect("opens");
        sqlite.busy_timeout(Duration::ZERO).expect("set");
        loop {
            self.signal("STOP");
            if sqlite.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok() {
                return;
            }
            self.signal("CONT");
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// A child that a process forked, which does nothing but live. It is killed when the test is over.
struct Forked(i32);

impl Forked {
    /// Has a process fork that was started for it.
    async fn by(process: &Process, forked: &Path) -> Forked {
        process.signal("USR2");
        loop {
            let number = std::fs::read(forked).unwrap_or_default();
            if let Ok(number) = number.try_into() {
                return Forked(i32::from_ne_bytes(number));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn lives(&self) -> bool {
        Path::new(&format!("/proc/{}", self.0)).exists()
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        let kill = format!("kill -KILL {}", self.0);
        // An error means that it has ended already.
        Command::new("sh").args(["-c", &kill]).status().ok();
    }
}

async fn client(home: &Home) -> Engine {
    home.engine()
        .register_spec(errand(home, "1"))
        .register_spec(errand(home, "2"))
        .connect()
        .await
        .expect("opens")
}

async fn begin(client: &Engine, instance: &str) -> Run<Value> {
    let started = client.start_named("errand", instance, &());
    started.await.expect("durable")
}

impl Home {
    /// The file which says that a process takes no more tasks.
    fn stopping(&self, pid: u32) -> PathBuf {
        self.file(&format!("stopping {pid}"))
    }
}

/// Lets the instance's task end if that process runs it.
fn open_gate(home: &Home, instance: &str, pid: u32) {
    let gate = home.file(&format!("gate {instance} {pid}"));
    std::fs::write(gate, "").expect("written");
}

/// The processes in which the instance's task was begun, once there are so many.
async fn begun(home: &Home, instance: &str, times: usize) -> Vec<u32> {
    loop {
        let lines = lines(home);
        let of_instance = lines.iter().filter(|line| line.starts_with(instance));
        let pids = of_instance.map(|line| line.rsplit(' ').next().expect("its process"));
        let pids: Vec<u32> = pids.map(|pid| pid.parse().expect("a number")).collect();
        if pids.len() >= times {
            return pids;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn kinds(client: &Engine, run: &Run<Value>) -> Vec<&'static str> {
    let first = HistoryFilter {
        task: Some(1),
        ..HistoryFilter::default()
    };
    let events = client.history(run.id(), &first, None, 1000).await;
    let of_task = events.expect("reads").items.into_iter();
    of_task.map(|event| event.kind).collect()
}

/// The workers of a process that have not ended.
pub(crate) fn workers_of(home: &Home, pid: u32) -> BTreeSet<WorkerId> {
    let sqlite = Connection::open(home.database()).expect("opens");
    sqlite.busy_timeout(HOUR).expect("set");
    let mut statement = sqlite
        .prepare("SELECT id FROM workers WHERE pid = ?1 AND ended_at IS NULL")
        .expect("sound");
    let rows = statement.query_map([pid], |row| row.get(0).map(WorkerId));
    let ids = rows.expect("reads").collect::<Result<_, _>>();
    ids.expect("numbers")
}

/// Removes the file of a worker, as somebody who tidies up might.
pub(crate) fn remove_file(home: &Home, worker: WorkerId) -> std::io::Result<()> {
    let file = home.file("app.db-workers").join(worker.to_string());
    std::fs::remove_file(file)
}

async fn assert_sound(client: &Engine) {
    let report = client.store().verify(Default::default()).await;
    let report = report.expect("reads");
    assert!(report.is_clean(), "{report}");
}

// ---- the tests ----

#[tokio::test]
async fn whoever_is_killed_is_noticed_at_once_however_long_its_lease() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let home = Home::at(directory.path());
    let client = client(&home).await;
    let first = Process::worker(&home, "2", HOUR);
    let run = begin(&client, "a").await;
    assert_eq!(begun(&home, "a", 1).await, [first.id()]);
    let second = Process::worker(&home, "2", HOUR);
    // It is there before the other dies.
    while workers_of(&home, second.id()).is_empty() {
        tokio::time::sleep(LOOK).await;
    }
    open_gate(&home, "a", second.id());
    drop(first);
    assert_eq!(run.result().await.expect("completes"), json!(second.id()));
    let kinds = kinds(&client, &run).await;
    assert!(kinds.contains(&"task.recovered"), "{kinds:?}");
    assert_sound(&client).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_forked_child_that_outlives_its_process_holds_up_nobody() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let home = Home::at(directory.path());
    let client = client(&home).await;
    let (shim, forked) = (Shim::build(), home.file("forked"));
    let mut command = shim.process(&home, "several");
    command.env("ABIDE_FORKED", &forked);
    let first = Process::worker_by(command, "2", HOUR);
    let run = begin(&client, "a").await;
    assert_eq!(begun(&home, "a", 1).await, [first.id()]);
    // The child has the worker's file open, and so its lock.
    let forked = Forked::by(&first, &forked).await;
    let second = Process::worker(&home, "2", HOUR);
    while workers_of(&home, second.id()).is_empty() {
        tokio::time::sleep(LOOK).await;
    }
    open_gate(&home, "a", second.id());
    drop(first);
    assert_eq!(run.result().await.expect("completes"), json!(second.id()));
    assert!(forked.lives());
    assert_sound(&client).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn where_the_system_has_no_room_to_tell_of_changes_a_worker_starts_and_hears_of_its_work() {
    for limit in ["max_inotify_instances", "max_inotify_watches"] {
        // Limits are set in a namespace of its own, which ends with its process.
        let limited = format!("echo 0 > /proc/sys/user/{limit}; exec \"$@\"");
        let limited = ["--map-root-user", "sh", "-ec", &limited, "sh"];
        let allowed = Command::new("unshare").args(limited).arg("true").output();
        if !allowed.is_ok_and(|tried| tried.status.success()) {
            eprintln!("skipped: this system lets nobody set `{limit}`");
            continue;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let home = Home::at(directory.path());
        let plain = home.process("several");
        let mut command = Command::new("unshare");
        command.args(limited).arg(plain.get_program());
        command.args(plain.get_args());
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let worker = Process::worker_by(command, "2", HOUR);
        let client = client(&home).await;
        while workers_of(&home, worker.id()).is_empty() {
            tokio::time::sleep(LOOK).await;
        }
        // Nothing but the change of its file tells it before its next heartbeat.
        for instance in ["a", "b"] {
            open_gate(&home, instance, worker.id());
            let run = begin(&client, instance).await;
            assert_eq!(run.result().await.expect("completes"), json!(worker.id()));
        }
        assert_sound(&client).await;
    }
}

#[tokio::test]
async fn whoever_is_only_stopped_keeps_its_tasks_however_long_its_lease_is_over() {
    const LEASE: Duration = Duration::from_millis(300);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let home = Home::at(directory.path());
    let client = client(&home).await;
    let first = Process::worker(&home, "2", LEASE);
    let run = begin(&client, "a").await;
    begun(&home, "a", 1).await;
    first.stop_between_writes(&home).await;
    let second = Process::worker(&home, "2", LEASE);
    let other = begin(&client, "b").await;
    assert_eq!(begun(&home, "b", 1).await, [second.id()]);
    tokio::time::sleep(3 * LEASE).await;
    open_gate(&home, "b", second.id());
    other.result().await.expect("completes");
    first.signal("CONT");
    open_gate(&home, "a", first.id());
    assert_eq!(run.result().await.expect("completes"), json!(first.id()));
    let kinds = kinds(&client, &run).await;
    assert!(!kinds.contains(&"task.recovered"), "{kinds:?}");
    assert_sound(&client).await;
}

#[tokio::test]
async fn a_late_result_of_one_that_was_taken_for_dead_is_discarded_and_it_works_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let home = Home::at(directory.path());
    let client = client(&home).await;
    let lease = Duration::from_millis(600);
    let first = Process::worker(&home, "2", lease);
    let run = begin(&client, "a").await;
    begun(&home, "a", 1).await;
    first.stop_between_writes(&home).await;
    let before = workers_of(&home, first.id());
    let worker = *before.first().expect("it is there");
    remove_file(&home, worker).expect("it is there");
    let second = Process::worker(&home, "2", lease);
    open_gate(&home, "a", second.id());
    assert_eq!(run.result().await.expect("completes"), json!(second.id()));
    open_gate(&home, "a", first.id());
    first.signal("CONT");
    while !kinds(&client, &run)
        .await
        .contains(&"task.late_result_discarded")
    {
        tokio::time::sleep(LOOK).await;
    }
    drop(second);
    // It goes on as another worker.
    let next = begin(&client, "b").await;
    assert_eq!(begun(&home, "b", 1).await, [first.id()]);
    assert!(workers_of(&home, first.id()).is_disjoint(&before));
    open_gate(&home, "b", first.id());
    assert_eq!(next.result().await.expect("completes"), json!(first.id()));
    assert_sound(&client).await;
}

#[tokio::test]
async fn each_of_two_versions_runs_only_what_it_knows() {
    const EACH: u32 = 20;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let home = Home::at(directory.path());
    let old = Process::worker(&home, "1", HOUR);
    let new = Process::worker(&home, "2", HOUR);
    let mut runs = Vec::new();
    for (version, process) in [("1", &old), ("2", &new)] {
        let client = home.engine().register_spec(errand(&home, version));
        let client = client.connect().await.expect("opens");
        for number in 0..EACH {
            let instance = format!("{version}-{number}");
            open_gate(&home, &instance, process.id());
            runs.push((begin(&client, &instance).await, process.id()));
        }
    }
    for (run, pid) in &runs {
        assert_eq!(run.result().await.expect("completes"), json!(pid));
    }
    let begun = lines(&home);
    assert_eq!(begun.len(), runs.len());
    for line in &begun {
        let words: Vec<_> = line.split(' ').collect();
        assert!(words[0].starts_with(words[1]), "{line}");
    }
    assert_sound(&client(&home).await).await;
}

#[tokio::test]
async fn what_a_process_leaves_when_it_stops_goes_on_in_another() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let home = Home::at(directory.path());
    let client = client(&home).await;
    let mut first = Process::worker(&home, "2", HOUR);
    let runs = [
        begin(&client, "a").await,
        begin(&client, "b").await,
        begin(&client, "c").await,
    ];
    for instance in ["a", "b"] {
        begun(&home, instance, 1).await;
    }
    tell_to_stop(&home);
    while !home.stopping(first.id()).exists() {
        tokio::time::sleep(LOOK).await;
    }
    // It waits for its tasks; what it had no slot for is somebody else's.
    for instance in ["a", "b"] {
        open_gate(&home, instance, first.id());
    }
    assert!(first.0.wait().expect("it ends").success());
    std::fs::remove_file(home.file("stop")).expect("it is there");
    let second = Process::worker(&home, "2", HOUR);
    open_gate(&home, "c", second.id());
    for run in &runs {
        run.result().await.expect("completes");
    }
    assert_eq!(begun(&home, "c", 1).await, [second.id()]);
    assert_eq!(workers_of(&home, first.id()), BTreeSet::new());
    assert_sound(&client).await;
}

// ---- a busy peer ----

/// Writes one batch after the other, until it is killed.
pub(crate) async fn keep_writing(home: &Home) {
    const AT_ONCE: u32 = 100;
    let client = client(home).await;
    let writers = (0..AT_ONCE).map(|writer| {
        let client = client.clone();
        tokio::spawn(async move {
            for number in 0_u64.. {
                begin(&client, &format!("busy {writer} {number}")).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("it is killed before");
    }
}

#[tokio::test]
async fn a_busy_process_keeps_a_single_write_waiting_for_a_few_of_its_batches_only() {
    const WRITES: usize = 40;
    /// Events of a start.
    const EVENTS: i64 = 4;
    /// What the busy process writes at once.
    const BATCH: i64 = 100 * EVENTS;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let home = Home::at(directory.path());
    let client = client(&home).await;
    let busy = Process::spawn(&mut home.process("busy"));
    let store = client.store();
    let position = async || store.last_position().await.expect("reads");
    let mut waited = Vec::new();
    for number in 0..WRITES {
        let before = position().await;
        while position().await == before {
            tokio::time::sleep(LOOK).await;
        }
        let asked = position().await;
        let run = begin(&client, &format!("single {number}")).await;
        let all = HistoryFilter::default();
        let events = client.history(run.id(), &all, None, 1).await;
        waited.push(events.expect("reads").items[0].position - asked);
    }
    drop(busy);
    waited.sort_unstable();
    println!("events written before a single write: {waited:?}");
    // Most of the time; the machine may be busy as well.
    assert!(waited[WRITES / 2] <= 3 * BATCH, "{waited:?}");
}
