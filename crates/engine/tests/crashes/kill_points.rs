//! A process killed at its n-th write call, for every n, and started again: it ends right, nothing that was
//! finished is done again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::child::Home;
use crate::place::{AT_ONCE, BEYOND, BRIEF, EVERY_UP_TO, LAST, Place};
use crate::record::{Record, Stage};
use crate::shim::Shim;

const EXECUTIONS: usize = 2;
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
pub(crate) struct Tally {
    pub(crate) kills: usize,
    pub(crate) not_reached: usize,
    pub(crate) stages: BTreeMap<Stage, usize>,
    pub(crate) wrong: Vec<String>,
}

#[test]
fn a_process_killed_at_any_write_call_ends_right_when_it_is_started_again() {
    let shim = Shim::build();
    let mut seen = Seen::default();
    // Both begin alike.
    for (role, every_up_to) in [("features", EVERY_UP_TO), ("features evicted", 0)] {
        let calls = count_calls(&shim, role);
        let points = points(calls, every_up_to);
        let tally = kill_at(&shim, role, &points, |_| {});
        println!(
            "{role}: N = {calls} write calls; {} kill points, {} kills, {} not reached",
            points.len(),
            tally.kills,
            tally.not_reached
        );
        for (stage, hits) in &tally.stages {
            println!("{hits:6}  {stage:?}");
        }
        assert!(tally.kills * 2 >= points.len(), "most points are reached");
        let mut others: Vec<u64> = (1..calls).filter(|at| !points.contains(at)).collect();
        // From the end: what comes late is what few points hit.
        others.reverse();
        seen.add(tally);
        seen.untried.push((role, others));
    }
    // Some stages last for a few calls only, and not always for the same ones.
    while !seen.missed().is_empty()
        && let Some((role, more)) = seen.more_points()
    {
        println!(
            "{role}: more kill points, for {:?}: {more:?}",
            seen.missed()
        );
        seen.add(kill_at(&shim, role, &more, |_| {}));
    }
    assert!(
        seen.wrong.is_empty(),
        "{} wrong:\n{}",
        seen.wrong.len(),
        seen.wrong.join("\n")
    );
    let missed = seen.missed();
    assert!(missed.is_empty(), "never killed there: {missed:?}");
}

/// What all kill points came to.
#[derive(Default)]
struct Seen {
    stages: BTreeSet<Stage>,
    wrong: Vec<String>,
    /// By role: points that nobody was killed at.
    untried: Vec<(&'static str, Vec<u64>)>,
}

impl Seen {
    fn add(&mut self, tally: Tally) {
        self.stages.extend(tally.stages.into_keys());
        self.wrong.extend(tally.wrong);
    }

    fn missed(&self) -> Vec<Stage> {
        let all = Stage::ALL.into_iter();
        all.filter(|stage| !self.stages.contains(stage) && !BRIEF.contains(stage))
            .collect()
    }

    /// Every third of a role's untried points, then what is left; of the last role first.
    fn more_points(&mut self) -> Option<(&'static str, Vec<u64>)> {
        let (role, points) = self
            .untried
            .iter_mut()
            .rfind(|(_, points)| !points.is_empty())?;
        let (now, later) = points
            .iter()
            .enumerate()
            .partition::<Vec<_>, _>(|(n, _)| n % 3 == 0);
        let plain =
            |numbered: Vec<(usize, &u64)>| numbered.into_iter().map(|(_, at)| *at).collect();
        let (now, later) = (plain(now), plain(later));
        *points = later;
        Some((role, now))
    }
}

/// N: the write calls of a process that nobody kills. It differs a little from run to run, as requests share
/// transactions or don't; the smallest of some runs is reached nearly always.
pub(crate) fn count_calls(shim: &Shim, role: &str) -> u64 {
    let runs = (0..3).map(|_| {
        let place = Place::new();
        run(shim, &place.home(), role, None).1
    });
    runs.min().expect("some runs")
}

pub(crate) fn points(calls: u64, every_up_to: u64) -> Vec<u64> {
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

pub(crate) fn kill_at(shim: &Shim, role: &str, points: &[u64], and_then: fn(&Home)) -> Tally {
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(at) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = kill_once(shim, role, *at, and_then);
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

/// Kills at one point, lets that happen too, starts again, and looks. Answers where things stood, if the point was reached.
fn kill_once(
    shim: &Shim,
    role: &str,
    at: u64,
    and_then: fn(&Home),
) -> Result<Option<Vec<Stage>>, String> {
    let place = Place::new();
    let home = place.home();
    let (killed, _) = run(shim, &home, role, Some(at));
    place.bury();
    and_then(&home);
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
