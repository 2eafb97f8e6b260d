//! What a killed process left behind, read from a copy of its files, so that the next one finds them as they
//! were.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use abide::TaskStatus;
use abide_core::event::EventType;
use abide_store::{VerifyOptions, verify_file};
use rusqlite::Connection;

use crate::child::Home;

/// Where things stood. Several may be true at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    BeforeTheFirstCommit,
    NothingStarted,
    Starting,
    Claiming,
    Running,
    Deferred,
    RetryWait,
    WaitingForSignal,
    Evicted,
    Finishing,
    AfterTheEnd,
}

impl Stage {
    pub(crate) const ALL: [Stage; 11] = [
        Stage::BeforeTheFirstCommit,
        Stage::NothingStarted,
        Stage::Starting,
        Stage::Claiming,
        Stage::Running,
        Stage::Deferred,
        Stage::RetryWait,
        Stage::WaitingForSignal,
        Stage::Evicted,
        Stage::Finishing,
        Stage::AfterTheEnd,
    ];
}

/// What the store knows of bodies: those that must not run again, and how often each was begun.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) stages: BTreeSet<Stage>,
    /// What verification has to say; nothing if every invariant holds.
    pub(crate) findings: String,
    /// As the log writes them.
    pub(crate) finished: BTreeSet<String>,
    /// `task.started` events by task.
    pub(crate) started: BTreeMap<String, usize>,
}

impl Record {
    /// Reads a store of `executions` executions.
    pub(crate) fn of(home: &Home, executions: usize) -> Record {
        let copy = tempfile::tempdir().expect("a temporary directory");
        for suffix in ["", "-wal"] {
            let from = home.file(&format!("app.db{suffix}"));
            if from.exists() {
                fs::copy(from, copy.path().join(format!("copy.db{suffix}"))).expect("copied");
            }
        }
        let path = copy.path().join("copy.db");
        if !path.exists() {
            return Record::before_the_first_commit();
        }
        let sqlite = Connection::open(&path).expect("opens");
        let tables = count(
            &sqlite,
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table'",
        );
        if tables == 0 {
            return Record::before_the_first_commit();
        }
        let url = path.to_str().expect("utf-8");
        let report = verify_file(url, &VerifyOptions::default()).expect("reads");
        Record {
            findings: if report.is_clean() {
                String::new()
            } else {
                report.to_string()
            },
            stages: stages(&sqlite, executions),
            finished: finished(&sqlite),
            started: started(&sqlite),
        }
    }

    fn before_the_first_commit() -> Record {
        Record {
            stages: BTreeSet::from([Stage::BeforeTheFirstCommit]),
            ..Record::default()
        }
    }
}

fn count(sqlite: &Connection, sql: &str) -> usize {
    let number: i64 = sqlite
        .query_row(sql, [], |row| row.get(0))
        .expect("a number");
    usize::try_from(number).expect("a count")
}

fn stages(sqlite: &Connection, executions: usize) -> BTreeSet<Stage> {
    let started = count(sqlite, "SELECT count(*) FROM executions");
    let open = count(
        sqlite,
        "SELECT count(*) FROM executions WHERE closed_at IS NULL",
    );
    let tasks = |which: &str| {
        let sql = format!("SELECT count(*) FROM task_executions WHERE {which}");
        count(sqlite, &sql) > 0
    };
    let tests = [
        (Stage::NothingStarted, started == 0),
        (Stage::Starting, started > 0 && started < executions),
        (
            Stage::Claiming,
            count(sqlite, "SELECT count(*) FROM task_outbox WHERE worker = 0") > 0,
        ),
        (Stage::Running, tasks("sub_status = 'Active'")),
        (
            Stage::Deferred,
            tasks("sub_status = 'Deferred' AND worker IS NOT NULL"),
        ),
        (
            Stage::RetryWait,
            tasks("status = 'Ready' AND attempt > 1 AND error IS NOT NULL"),
        ),
        (
            Stage::WaitingForSignal,
            count(
                sqlite,
                "SELECT count(*) FROM steps WHERE state = 'waiting' AND kind = 'signal'",
            ) > 0,
        ),
        (
            Stage::Evicted,
            tasks("sub_status = 'Deferred' AND worker IS NULL"),
        ),
        (Stage::Finishing, open > 0 && open < started),
        (Stage::AfterTheEnd, started == executions && open == 0),
    ];
    let found = tests.into_iter().filter(|(_, holds)| *holds);
    found.map(|(stage, _)| stage).collect()
}

fn finished(sqlite: &Connection) -> BTreeSet<String> {
    let terminal: Vec<String> = TaskStatus::ALL
        .iter()
        .filter(|status| status.is_terminal())
        .map(|status| format!("'{status}'"))
        .collect();
    let sql = format!(
        "SELECT e.instance || ' ' || t.node FROM task_executions t JOIN executions e ON e.id = t.execution \
         WHERE t.status IN ({}) \
         UNION \
         SELECT e.instance || ' ' || t.node || ' ' || s.name FROM steps s \
         JOIN task_executions t ON t.execution = s.execution AND t.number = s.task \
         JOIN executions e ON e.id = s.execution WHERE s.kind = 'step' AND s.state <> 'waiting'",
        terminal.join(", ")
    );
    let mut statement = sqlite.prepare(&sql).expect("sound");
    let names = statement.query_map([], |row| row.get(0)).expect("reads");
    names.collect::<Result<_, _>>().expect("texts")
}

fn started(sqlite: &Connection) -> BTreeMap<String, usize> {
    let sql = format!(
        "SELECT e.instance || ' ' || t.node, count(*) FROM execution_events v \
         JOIN task_executions t ON t.execution = v.execution AND t.number = v.task \
         JOIN executions e ON e.id = v.execution WHERE v.type = {} GROUP BY 1",
        EventType::TaskStarted.code()
    );
    let mut statement = sqlite.prepare(&sql).expect("sound");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)));
    rows.expect("reads")
        .map(|row| row.map(|(name, count)| (name, usize::try_from(count).expect("a count"))))
        .collect::<Result<_, _>>()
        .expect("texts and numbers")
}
