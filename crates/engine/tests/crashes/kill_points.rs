//! A process killed at its n-th write call, for every n, and started again: it ends right, nothing that was
//! finished is done again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::child::Home;
use crate::record::{Record, Stage};
use crate::shim::Shim;

const EXECUTIONS: usize = 2;
/// The first role is killed at every write call up to here.
const EVERY_UP_TO: u64 = 100;
/// How many kill points there are beyond, unless `ABIDE_KILL_POINTS=all`.
const BEYOND: u64 = 60;
/// And every one of the last, when all has ended and the files are closed.
const LAST: u64 = 20;
/// Processes at a time: they wait more than they work.
const AT_ONCE: usize = 4;

/// Runs a process that is killed at write call `at`. Answers whether it was, and how many calls there were.
fn run(shim: &Shim, home: &Home, role: &str, at: Option<u64>) -> (bool, u64) {
    let when = ["before", "after", "half"][at.unwrap_or(0) as usize % 3];
    let mut process = shim.process(home, role);
    process.env("ABIDE_KILL_WHEN", when).env(
        "ABIDE_KILL_AT",
        at.map_or("-1".to_owned(), |at| at.to_string()),
    );
    let (status, said) = home.run(&mut process);
    let killed = status.signal() == Some(9);
    assert!(killed || status.success(), "it failed by itself:\n{said}");
    (killed, shim.counts(home).0)
}

/// What the kill points of one role came to.
#[derive(Default)]
struct Tally {
    kills: usize,
    not_reached: usize,
    stages: BTreeMap<Stage, usize>,
    wrong: Vec<String>,
}

#[test]
fn a_process_killed_at_any_write_call_ends_right_when_it_is_started_again() {
    let shim = Shim::build();
    let mut stages: BTreeMap<Stage, usize> = Stage::ALL.map(|stage| (stage, 0)).into();
    let mut wrong = Vec::new();
    // Both begin alike.
    for (role, every_up_to) in [("features", EVERY_UP_TO), ("features evicted", 0)] {
        let calls = count_calls(&shim, role);
        let points = points(calls, every_up_to);
        let tally = kill_at(&shim, role, &points, Loss::Process);
        println!(
            "{role}: N = {calls} write calls; {} kill points, {} kills, {} not reached",
            points.len(),
            tally.kills,
            tally.not_reached
        );
        for (stage, hits) in &tally.stages {
            println!("{hits:6}  {stage:?}");
            *stages.entry(*stage).or_default() += hits;
        }
        assert!(tally.kills * 2 >= points.len(), "most points are reached");
        wrong.extend(tally.wrong);
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let missed: Vec<_> = stages.iter().filter(|(_, hits)| **hits == 0).collect();
    assert!(missed.is_empty(), "never killed there: {missed:?}");
}

#[test]
fn a_power_failure_at_any_write_call_loses_nothing_that_was_acknowledged() {
    let shim = Shim::build();
    let calls = count_calls(&shim, "features");
    let points = points(calls, 0);
    let tally = kill_at(&shim, "features", &points, Loss::Power);
    println!(
        "N = {calls} write calls; {} power failures, {} not reached; {:?}",
        tally.kills, tally.not_reached, tally.stages
    );
    assert!(
        tally.wrong.is_empty(),
        "{} wrong:\n{}",
        tally.wrong.len(),
        tally.wrong.join("\n")
    );
    assert!(tally.kills * 2 >= points.len(), "most points are reached");
}

/// N: the write calls of a process that nobody kills. It differs a little from run to run, as requests share
/// transactions or don't; the smallest of some runs is reached nearly always.
fn count_calls(shim: &Shim, role: &str) -> u64 {
    let runs = (0..3).map(|_| {
        let home = tempfile::tempdir().expect("a temporary directory");
        run(shim, &Home::at(home.path()), role, None).1
    });
    runs.min().expect("some runs")
}

fn points(calls: u64, every_up_to: u64) -> Vec<u64> {
    let all = std::env::var("ABIDE_KILL_POINTS").is_ok_and(|value| value == "all");
    let stride = match all {
        true => 1,
        false => (calls.saturating_sub(every_up_to) / BEYOND).max(1),
    };
    let beyond = every_up_to..calls.saturating_sub(LAST);
    let mut points: Vec<u64> = (1..=every_up_to.min(calls)).collect();
    points.extend(beyond.step_by(usize::try_from(stride).expect("small")));
    points.extend(calls.saturating_sub(LAST)..calls);
    points.retain(|at| *at > 0);
    points.dedup();
    points
}

fn kill_at(shim: &Shim, role: &str, points: &[u64], loss: Loss) -> Tally {
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(at) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = kill_once(shim, role, *at, loss);
                    let mut tally = tally.lock().expect("nobody panics while holding it");
                    match found {
                        Ok(Some(stages)) => {
                            tally.kills += 1;
                            for stage in stages {
                                *tally.stages.entry(stage).or_default() += 1;
                            }
                        }
                        Ok(None) => tally.not_reached += 1,
                        Err(what) => tally.wrong.push(format!("{role}, killed at {at}: {what}")),
                    }
                }
            });
        }
    });
    tally.into_inner().expect("every thread is done")
}

/// What ends with the process.
#[derive(Clone, Copy, PartialEq)]
enum Loss {
    /// Nothing but its memory.
    Process,
    /// And all that was written and not synced.
    Power,
}

/// Kills at one point, starts again, and looks. Answers where things stood, if the point was reached.
fn kill_once(shim: &Shim, role: &str, at: u64, loss: Loss) -> Result<Option<Vec<Stage>>, String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let home = Home::at(directory.path());
    let (killed, _) = run(shim, &home, role, Some(at));
    if loss == Loss::Power {
        shim.fail_power(&home);
    }
    let before = Record::of(&home, EXECUTIONS);
    check_invariants("after the kill", &before)?;
    // What was done is done for claims that are durable.
    check_bodies(&before, &lines(&home))?;
    let lines_before = lines(&home).len();
    let (status, said) = home.run(&mut home.process(role));
    if !status.success() {
        return Err(format!("the second run failed:\n{said}"));
    }
    check_finished(&before, &home, lines_before)?;
    let after = Record::of(&home, EXECUTIONS);
    check_invariants("in the end", &after)?;
    if !after.stages.contains(&Stage::AfterTheEnd) {
        return Err(format!("not everything has ended: {:?}", after.stages));
    }
    check_bodies(&after, &lines(&home))?;
    Ok(killed.then(|| before.stages.into_iter().collect()))
}

pub(crate) fn check_invariants(when: &str, record: &Record) -> Result<(), String> {
    match record.findings.is_empty() {
        true => Ok(()),
        false => Err(format!("{when}:\n{}", record.findings)),
    }
}

/// That none of the bodies logged since was finished before. Answers how many lines there are.
pub(crate) fn check_finished(
    before: &Record,
    home: &Home,
    logged_before: usize,
) -> Result<usize, String> {
    let lines = lines(home);
    let since = lines[logged_before..].iter();
    let again: Vec<_> = since
        .filter(|line| before.finished.contains(*line))
        .collect();
    match again.is_empty() {
        true => Ok(lines.len()),
        false => Err(format!("done again although finished: {again:?}")),
    }
}

pub(crate) fn lines(home: &Home) -> Vec<String> {
    let text = fs::read_to_string(home.log()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// A body runs only after its claim is written; and but for the one kill, each claim is followed by it.
pub(crate) fn check_bodies(record: &Record, lines: &[String]) -> Result<(), String> {
    for (task, started) in &record.started {
        let begun = lines.iter().filter(|line| *line == task).count();
        if begun > *started || *started > begun + 1 {
            return Err(format!(
                "{task}: {started} starts recorded, {begun} bodies ran"
            ));
        }
    }
    let tasks = record.started.keys();
    let unknown: Vec<_> = lines
        .iter()
        .filter(|line| !tasks.clone().any(|task| line.starts_with(task)))
        .collect();
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(format!("ran without a claim: {unknown:?}")),
    }
}
