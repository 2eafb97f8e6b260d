//! What a killed process left behind.

use std::collections::{BTreeMap, BTreeSet};

use abide::TaskStatus;
use abide_core::event::EventType;

use crate::child::Home;
use crate::place::Look;

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
        let Some(look) = Look::at(home) else {
            return Record::before_the_first_commit();
        };
        let report = look.verify();
        Record {
            findings: if report.is_clean() {
                String::new()
            } else {
                report.to_string()
            },
            stages: stages(&look, executions),
            finished: finished(&look),
            started: started(&look),
        }
    }

    fn before_the_first_commit() -> Record {
        Record {
            stages: BTreeSet::from([Stage::BeforeTheFirstCommit]),
            ..Record::default()
        }
    }
}

fn stages(look: &Look, executions: usize) -> BTreeSet<Stage> {
    let started = look.count("SELECT count(*) FROM executions");
    let open = look.count("SELECT count(*) FROM executions WHERE closed_at IS NULL");
    let tasks = |which: &str| {
        let sql = format!("SELECT count(*) FROM task_executions WHERE {which}");
        look.count(&sql) > 0
    };
    let tests = [
        (Stage::NothingStarted, started == 0),
        (Stage::Starting, started > 0 && started < executions),
        (
            Stage::Claiming,
            look.count("SELECT count(*) FROM task_outbox WHERE worker = 0") > 0,
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
            look.count("SELECT count(*) FROM steps WHERE state = 'waiting' AND kind = 'signal'")
                > 0,
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

fn finished(look: &Look) -> BTreeSet<String> {
    let terminal: Vec<String> = TaskStatus::ALL
        .iter()
        .filter(|status| status.is_terminal())
        .map(|status| format!("'{status}'"))
        .collect();
    let sql = format!(
        "SELECT e.instance || ' ' || t.node, CAST(1 AS bigint) FROM task_executions t JOIN executions e ON e.id = t.execution \
         WHERE t.status IN ({}) \
         UNION \
         SELECT e.instance || ' ' || t.node || ' ' || s.name, CAST(1 AS bigint) FROM steps s \
         JOIN task_executions t ON t.execution = s.execution AND t.number = s.task \
         JOIN executions e ON e.id = s.execution WHERE s.kind = 'step' AND s.state <> 'waiting'",
        terminal.join(", ")
    );
    let counts = look.counts(&sql).into_iter();
    counts.map(|(name, _)| name).collect()
}

fn started(look: &Look) -> BTreeMap<String, usize> {
    let sql = format!(
        "SELECT e.instance || ' ' || t.node, count(*) FROM execution_events v \
         JOIN task_executions t ON t.execution = v.execution AND t.number = v.task \
         JOIN executions e ON e.id = v.execution WHERE v.type = {} GROUP BY 1",
        EventType::TaskStarted.code()
    );
    let counts = look.counts(&sql).into_iter();
    let count = |(name, count)| (name, usize::try_from(count).expect("a count"));
    counts.map(count).collect()
}
