//! What is checked apart from single executions: the database itself, workflow versions, instances
//! with their generations, mailboxes.

use abide_core::ids::{ExecutionId, VersionId, WorkerId};
use abide_core::status::ExecutionStatus;
use rusqlite::{Connection, Row, params};

use crate::views::WorkflowKind;

use super::graphs;
use super::options::Integrity;
use super::payloads::Payloads;
use super::queue::{KnownWorker, Workers};
use super::report::{Checked, Findings, Invariant, Problems, Subject};

/// The most that the database's own check says before it stops.
const INTEGRITY_LINES: u32 = 100;

/// Within this time, and two leases, everybody who runs has looked for what others left, whatever the
/// database: see `postgres/orphan_search`.
const LOOKS_WITHIN_US: i64 = 900_000_000;

/// The database's own check.
pub(super) fn integrity(
    connection: &Connection,
    which: Integrity,
    findings: &mut Findings,
) -> rusqlite::Result<()> {
    let pragma = match which {
        Integrity::Full => "integrity_check",
        Integrity::Quick => "quick_check",
        Integrity::Skip => return Ok(()),
    };
    let mut statement = connection.prepare(&format!("PRAGMA {pragma}({INTEGRITY_LINES})"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let line: String = row.get(0)?;
        if line != "ok" {
            let what = format!("{pragma} says: {line}");
            findings.add(Invariant::I12, Subject::Database, what);
        }
    }
    Ok(())
}

/// Every worker, whether what it held has been forgotten, and what it knows.
pub(super) fn workers(
    connection: &Connection,
    findings: &mut Findings,
    checked: &mut Checked,
) -> rusqlite::Result<Workers> {
    let mut statement = connection.prepare(
        "SELECT id, ended_at, started_at, heartbeat_at, lease_until, queues FROM workers",
    )?;
    let mut rows = statement.query([])?;
    let (mut ends, mut looked_for) = (Vec::new(), i64::MIN);
    while let Some(row) = rows.next()? {
        let (id, ended): (i64, Option<i64>) = (row.get(0)?, row.get(1)?);
        let list: Option<String> = row.get(5)?;
        let queues = list.map(|list| serde_json::from_str::<Vec<i64>>(&list));
        let queues = queues.transpose().unwrap_or_else(|error| {
            let worker = WorkerId(id);
            let what = format!("its list of workflow versions cannot be read: {error}");
            findings.add(Invariant::I1, Subject::Worker { worker }, what);
            None
        });
        ends.push((id, ended, queues));
        if ended.is_none() {
            let (started, heard, until): (i64, i64, i64) = (row.get(2)?, row.get(3)?, row.get(4)?);
            let lease = until.saturating_sub(heard).max(0);
            let before =
                heard.saturating_sub(LOOKS_WITHIN_US.saturating_add(lease.saturating_mul(2)));
            if started < before {
                looked_for = looked_for.max(before);
            }
        }
    }
    checked.workers = ends.len() as u64;
    let is_forgotten = |ended: Option<i64>| ended.is_some_and(|ended| ended < looked_for);
    Ok(ends
        .into_iter()
        .map(|(id, ended, queues)| {
            let is_forgotten = is_forgotten(ended);
            let known = KnownWorker {
                is_forgotten,
                queues,
            };
            (id, known)
        })
        .collect())
}

/// Every workflow version: its graph reads back, and is the one it was recorded with.
pub(super) fn versions(
    connection: &Connection,
    findings: &mut Findings,
    checked: &mut Checked,
) -> rusqlite::Result<()> {
    let mut payloads = Payloads::new(connection);
    let mut statement = connection
        .prepare("SELECT id, kind, fingerprint, graph FROM workflow_versions ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        checked.versions += 1;
        let subject = Subject::Version {
            version: VersionId(row.get(0)?),
        };
        let mut problems = Problems::default();
        let (kind, fingerprint): (String, String) = (row.get(1)?, row.get(2)?);
        if WorkflowKind::parse(&kind).is_none() {
            let kind = kind.escape_debug();
            problems.add(Invariant::I1, format!("its kind `{kind}` is unknown"));
        }
        let stored: String = row.get(3)?;
        let json = payloads.text("its graph", Some(&stored), &mut problems)?;
        let graph = json.and_then(|json| graphs::parse("its graph", &json, &mut problems));
        if let Some(found) = graph
            .map(|graph| graph.fingerprint())
            .filter(|found| *found != fingerprint)
        {
            let what = format!(
                "its graph has the fingerprint {found}, it was recorded with {fingerprint}"
            );
            problems.add(Invariant::I1, what);
        }
        findings.take(&subject, &mut problems);
    }
    checked.payloads += payloads.read;
    Ok(())
}

/// The generations of each instance: 1 to n, and only the last may be live.
pub(super) fn instances(
    connection: &Connection,
    findings: &mut Findings,
    checked: &mut Checked,
) -> rusqlite::Result<()> {
    // Relies on executions_instance.
    let mut statement = connection.prepare(
        "SELECT instance, generation, id, status FROM executions WHERE generation IS NOT NULL \
         ORDER BY instance, generation",
    )?;
    let mut rows = statement.query([])?;
    let mut before: Option<(String, i64, Option<ExecutionId>)> = None;
    while let Some(row) = rows.next()? {
        let (instance, generation): (String, i64) = (row.get(0)?, row.get(1)?);
        let status: String = row.get(3)?;
        let open = ExecutionStatus::parse(&status).is_some_and(|status| !status.is_terminal());
        let id = ExecutionId(row.get(2)?);
        let last = before.take().filter(|(of, ..)| *of == instance);
        let (expected, live) =
            last.map_or((1, None), |(_, last, live)| (last.saturating_add(1), live));
        let mut add = |what: String| {
            let instance = instance.clone();
            findings.add(Invariant::I2, Subject::Instance { instance }, what);
        };
        if expected == 1 {
            checked.instances += 1;
        }
        if generation != expected {
            add(format!(
                "generation {generation} (execution {id}) stands where {expected} should"
            ));
        }
        if let Some(live) = live {
            add(format!(
                "execution {live} is live although generation {generation} was started after it"
            ));
        }
        before = Some((instance, generation, open.then_some(id)));
    }
    Ok(())
}

/// A signal as it is stored.
struct Signal {
    instance: String,
    name: String,
    number: i64,
    payload: String,
    /// It names a task or an operation that read it, but no execution.
    half_read: bool,
    /// The execution it was sent to.
    execution: i64,
    read_execution: Option<i64>,
}

fn signal(row: &Row<'_>) -> rusqlite::Result<Signal> {
    Ok(Signal {
        instance: row.get(0)?,
        name: row.get(1)?,
        number: row.get(2)?,
        payload: row.get(3)?,
        half_read: row.get(4)?,
        execution: row.get(5)?,
        read_execution: row.get(6)?,
    })
}

/// Every mailbox: numbered 1 to n. Whether what was read is a result is checked with its reader.
pub(super) fn signals(
    connection: &Connection,
    findings: &mut Findings,
    checked: &mut Checked,
) -> rusqlite::Result<()> {
    let mut payloads = Payloads::new(connection);
    let mut statement = connection.prepare(
        "SELECT instance, name, number, payload, \
         read_execution IS NULL AND coalesce(read_task, read_operation) IS NOT NULL, execution, read_execution \
         FROM signals ORDER BY instance, name, number",
    )?;
    let mut rows = statement.query([])?;
    let mut before: Option<Signal> = None;
    while let Some(row) = rows.next()? {
        checked.signals += 1;
        let signal = signal(row)?;
        let mut problems = Problems::default();
        let same_instance = before
            .as_ref()
            .is_some_and(|before| before.instance == signal.instance);
        let last = before
            .take()
            .filter(|before| same_instance && before.name == signal.name);
        if !same_instance && !instance_exists(connection, &signal.instance)? {
            problems.add(Invariant::I1, "its instance is not stored");
        }
        let expected = last.map_or(1, |last| last.number.saturating_add(1));
        if signal.number != expected {
            let number = signal.number;
            let what = match number.saturating_sub(expected) {
                1 => format!("signal {expected} is missing"),
                2.. => format!("signals {expected} to {} are missing", number - 1),
                _ => format!("signal {number} stands where {expected} should"),
            };
            problems.add(Invariant::I1, what);
        }
        check_receiver(connection, &signal, &mut problems)?;
        let what = format!("the payload of number {}", signal.number);
        payloads.text(&what, Some(&signal.payload), &mut problems)?;
        if signal.half_read {
            let what = format!(
                "number {} was read by nobody, but names a reader",
                signal.number
            );
            problems.add(Invariant::I4, what);
        }
        let (instance, name) = (signal.instance.clone(), signal.name.clone());
        findings.take(&Subject::Mailbox { instance, name }, &mut problems);
        before = Some(signal);
    }
    checked.payloads += payloads.read;
    Ok(())
}

/// A signal is its instance's execution's that was live when it was sent, and nobody else's.
fn check_receiver(
    connection: &Connection,
    signal: &Signal,
    problems: &mut Problems,
) -> rusqlite::Result<()> {
    let (number, receiver) = (signal.number, ExecutionId(signal.execution));
    let of_instance: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM executions WHERE id = ?1 AND instance = ?2)")?
        .query_row(params![signal.execution, signal.instance], |row| row.get(0))?;
    if !of_instance {
        let what = format!("number {number} was sent to execution {receiver}, which is none of it");
        problems.add(Invariant::I1, what);
    }
    if let Some(reader) = signal.read_execution.filter(|id| *id != signal.execution) {
        let reader = ExecutionId(reader);
        let what =
            format!("number {number} was sent to execution {receiver}, but read by {reader}");
        problems.add(Invariant::I4, what);
    }
    Ok(())
}

fn instance_exists(connection: &Connection, instance: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM executions WHERE instance = ?1)")?
        .query_row([instance], |row| row.get(0))
}
