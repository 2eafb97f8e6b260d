//! A disk that is full, a database that another process locks, and input and output that fail, each for a
//! while under a running process: it goes on by itself, nothing is lost, no result is recorded twice.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use abide::{Store, StoreError};
use abide_core::event::EventType;
use abide_core::ids::WorkerId;
use abide_store::{NewWorker, StoreOptions};
use rusqlite::Connection;

use crate::child::Home;
use crate::kill_points::{check_bodies, check_invariants, lines};
use crate::record::{Record, Stage};
use crate::shim::Shim;
use crate::storm::{EXECUTIONS_VARIABLE, until_lines};

const EXECUTIONS: u32 = 100;
/// Bodies that run between two faults.
const BETWEEN: usize = 40;
/// How long a fault lasts.
const FAULT: Duration = Duration::from_millis(150);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// Writes find no space.
    Full,
    /// Another process writes all the time.
    Locked,
    /// Writes fail.
    Write,
    /// What was written can't be made durable, or so they say.
    Sync,
}

impl Fault {
    /// Lasts for a while, and until it is felt, unless the process has ended before.
    fn strike(self, home: &Home, shim: &Shim, process: &mut Child) {
        match self {
            Fault::Locked => {
                let sqlite = Connection::open(home.database()).expect("opens");
                sqlite
                    .busy_timeout(Duration::from_secs(30))
                    .expect("can be set");
                sqlite.execute_batch("BEGIN IMMEDIATE").expect("locked");
                std::thread::sleep(FAULT);
                sqlite.execute_batch("ROLLBACK").expect("unlocked");
            }
            fault => {
                let before = shim.counts(home).1;
                fault.set(home);
                std::thread::sleep(FAULT);
                while shim.counts(home).1 == before && is_running(process) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                heal(home);
            }
        }
    }

    /// Lasts until it is healed.
    fn set(self, home: &Home) {
        let text = match self {
            Fault::Full => "28 w",
            Fault::Write => "5 w",
            Fault::Sync => "5 s",
            Fault::Locked => unreachable!("it takes another process"),
        };
        // Whole at once, as the process may look at any time.
        fs::write(home.file("next"), text).expect("written");
        fs::rename(home.file("next"), home.file("fault")).expect("renamed");
    }
}

fn heal(home: &Home) {
    fs::remove_file(home.file("fault")).expect("removed");
}

/// Runs a process that sees everything through while these faults strike, one after another and again. Answers
/// what it left.
fn run_under(faults: &[Fault]) -> (Home, tempfile::TempDir) {
    // Where this process gets no turn for a while, the other may end before all have struck.
    for _ in 0..10 {
        let (struck, left) = try_under(faults);
        if struck.len() == faults.len() {
            return left;
        }
    }
    panic!("not every fault struck");
}

fn is_running(process: &mut Child) -> bool {
    process.try_wait().expect("asked").is_none()
}

/// How often each fault struck, and what the process left.
fn try_under(faults: &[Fault]) -> (BTreeMap<Fault, u32>, (Home, tempfile::TempDir)) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let home = Home::at(directory.path());
    let shim = Shim::build();
    let mut process = shim.process(&home, "storm");
    process
        .env(EXECUTIONS_VARIABLE, EXECUTIONS.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = process.spawn().expect("it can be started");
    let mut struck: BTreeMap<Fault, u32> = BTreeMap::new();
    while lines(&home).is_empty() && is_running(&mut process) {
        std::thread::sleep(Duration::from_millis(1));
    }
    for fault in faults.iter().cycle() {
        until_lines(&home, lines(&home).len() + BETWEEN);
        if !is_running(&mut process) {
            break;
        }
        fault.strike(&home, &shim, &mut process);
        if is_running(&mut process) {
            *struck.entry(*fault).or_default() += 1;
        }
    }
    let said = end(process);
    println!("{struck:?}: {} calls failed\n{said}", shim.counts(&home).1);
    (struck, (home, directory))
}

/// What a process that must end well said.
fn end(process: Child) -> String {
    let output = process.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "it failed:\n{said}");
    said
}

fn check(home: &Home) -> Record {
    let record = Record::of(home, EXECUTIONS as usize);
    check_invariants("in the end", &record).expect("every invariant holds");
    assert!(
        record.stages.contains(&Stage::AfterTheEnd),
        "{:?}",
        record.stages
    );
    record
}

fn events(home: &Home, kind: EventType) -> i64 {
    let sqlite = Connection::open(home.database()).expect("opens");
    let sql = "SELECT count(*) FROM execution_events WHERE type = ?1";
    let count = sqlite.query_row(sql, [kind.code()], |row| row.get(0));
    count.expect("a number")
}

/// Writes something, and says what comes of it.
pub(crate) async fn write(home: &Home) {
    let says = |error: StoreError| {
        println!("SAID {error:?}, definite: {}: {error}", error.is_definite());
    };
    let store = match Store::open(home.url(), StoreOptions::default()).await {
        Ok(store) => store,
        Err(error) => return says(error),
    };
    let now = store.now();
    let worker = NewWorker {
        id: WorkerId(now.0),
        host: "host".to_owned(),
        pid: std::process::id(),
    };
    match store.register_worker(worker, Duration::ZERO).await {
        Ok(()) => println!("SAID written"),
        Err(error) => says(error),
    }
    store.close().await;
}

#[test]
fn a_full_or_locked_store_costs_time_and_no_body_twice() {
    let (home, _directory) = run_under(&[Fault::Full, Fault::Locked]);
    let record = check(&home);
    // Nothing was written for sure, so nothing had to be done again.
    for kind in [
        EventType::TaskReleased,
        EventType::TaskRecovered,
        EventType::TaskLateResultDiscarded,
        EventType::TaskAbandoned,
    ] {
        assert_eq!(events(&home, kind), 0, "{kind}");
    }
    check_bodies(&record, &lines(&home)).expect("a body for each claim");
    let mut bodies: BTreeMap<String, u32> = BTreeMap::new();
    for line in lines(&home) {
        *bodies.entry(line).or_default() += 1;
    }
    let steps = bodies
        .iter()
        .filter(|(name, _)| !record.started.contains_key(*name));
    let again: Vec<_> = steps.filter(|(_, count)| **count > 1).collect();
    assert!(again.is_empty(), "steps that ran again: {again:?}");
}

#[test]
fn input_and_output_that_fail_lose_nothing() {
    let (home, _directory) = run_under(&[Fault::Sync, Fault::Write]);
    check(&home);
    println!(
        "{} tasks were given back since an answer was lost",
        events(&home, EventType::TaskReleased)
    );
}

#[test]
fn each_fault_is_told_in_words_and_is_gone_when_it_is_healed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let home = Home::at(directory.path());
    let shim = Shim::build();
    let says = || {
        let (status, said) = home.run(&mut shim.process(&home, "writes"));
        assert!(status.success(), "{said}");
        let line = said.lines().find_map(|line| line.split_once("SAID "));
        line.expect("it says what came of it").1.to_owned()
    };
    let strikes = |fault: Fault| {
        fault.set(&home);
        let said = says();
        heal(&home);
        assert_eq!(says(), "written", "after {fault:?}");
        said
    };
    assert_eq!(says(), "written");
    // The first to open the file has to make room beside it.
    let said = strikes(Fault::Full);
    assert!(said.contains("is the disk full?"), "{said}");
    let _others = others(&home);
    for (fault, begins, words) in [
        (
            Fault::Full,
            "Full",
            "definite: true: no space left for the database",
        ),
        (Fault::Write, "Io", "a write failed"),
        (
            Fault::Sync,
            "Io",
            "definite: false: input or output failed on the database",
        ),
        (
            Fault::Sync,
            "Io",
            "(a sync failed); the write may or may not have happened: ask again",
        ),
    ] {
        let said = strikes(fault);
        assert!(
            said.starts_with(begins) && said.contains(words),
            "{fault:?}: {said}"
        );
        println!("{fault:?}: {said}");
    }
}

/// A process that has the file open already.
fn others(home: &Home) -> Connection {
    let sqlite = Connection::open(home.database()).expect("opens");
    let read = sqlite.query_row("SELECT count(*) FROM workers", [], |row| row.get(0));
    let _: i64 = read.expect("reads");
    sqlite
}
