//! What a claim or a firing may take: rows of the outbox and timers that nobody else is taking,
//! locked until the transaction ends. They are picked before the executions are locked, out of the
//! usual order, which `SKIP LOCKED` makes harmless: nobody waits for them.

use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::OutboxRow;
use abide_core::timer::{NEVER, Timer, TimerKind};
use rustc_hash::FxHashSet;

use crate::error::StoreError;
use crate::flush::Picked;
use crate::job::Job;

use super::statement::{Param, Row, Statement, Value};

/// The most notices that one claim takes out of a worker's inbox.
const INBOX: i64 = 1000;

/// Timers of a kind beyond are left alone; `verify` finds them.
const LAST_KIND: i64 = TimerKind::ALL.len() as i64;

/// A worker's inbox. One that was declared dead gets nothing.
const SELECT_INBOX: &str = "SELECT queue, rank, ready_at, execution, task FROM ~task_outbox \
     WHERE worker = $1 ORDER BY queue, rank, ready_at, execution, task LIMIT $2 FOR UPDATE SKIP LOCKED";

/// The first rows of each queue, in the order of the outbox's key; nothing for a worker that was
/// declared dead.
const SELECT_READY: &str = "SELECT o.queue, o.rank, o.ready_at, o.execution, o.task \
     FROM unnest($1::bigint[]) AS q (queue) CROSS JOIN LATERAL (SELECT queue, rank, ready_at, execution, task \
     FROM ~task_outbox WHERE worker = 0 AND queue = q.queue ORDER BY rank, ready_at, execution, task LIMIT $2 \
     FOR UPDATE SKIP LOCKED) o \
     WHERE EXISTS (SELECT FROM ~workers WHERE id = $3 AND ended_at IS NULL)";

/// Timers that are due.
const SELECT_DUE: &str = "SELECT due_at, kind, execution, task, piece FROM ~timers \
     WHERE due_at <= $1 AND kind BETWEEN 1 AND $2 ORDER BY due_at, kind, execution, task, piece LIMIT $3 \
     FOR UPDATE SKIP LOCKED";

/// The earliest timer that a clock reaches.
pub(crate) const SELECT_NEXT_DUE: &str = "SELECT due_at FROM ~timers WHERE due_at < $1 AND kind BETWEEN 1 AND $2 ORDER BY due_at LIMIT 1";

/// What a job has to pick, if anything.
pub(crate) fn statements(job: &Job, now: Timestamp) -> Vec<Statement<'static>> {
    match job {
        Job::Apply(..) => Vec::new(),
        Job::Claim {
            worker,
            queues,
            max,
            ..
        } => {
            let inbox = vec![Param::Int(Some(worker.0)), Param::Int(Some(INBOX))];
            let mut statements = vec![Statement::new(SELECT_INBOX, inbox)];
            if *max > 0 && !queues.is_empty() {
                let queues = queues.iter().map(|queue| Some(queue.0)).collect();
                let ready = vec![
                    Param::Ints(queues),
                    Param::Int(Some(i64::from(*max))),
                    Param::Int(Some(worker.0)),
                ];
                statements.push(Statement::new(SELECT_READY, ready));
            }
            statements
        }
        Job::FireTimers { limit, .. } => {
            let params = vec![
                Param::Int(Some(now.0)),
                Param::Int(Some(LAST_KIND)),
                Param::Int(Some(i64::from(*limit))),
            ];
            vec![Statement::new(SELECT_DUE, params)]
        }
    }
}

/// The statement that reads the earliest timer.
pub(crate) fn next_due() -> Statement<'static> {
    let params = vec![Param::Int(Some(NEVER.0)), Param::Int(Some(LAST_KIND))];
    Statement::new(SELECT_NEXT_DUE, params)
}

/// What was picked for a job, but for rows of executions that cannot be locked now.
pub(crate) fn picked(
    job: &Job,
    mut answers: impl Iterator<Item = Vec<Row>>,
    stuck: &FxHashSet<ExecutionId>,
) -> Result<Picked, StoreError> {
    let mut picked = Picked::default();
    match job {
        Job::Apply(..) => {}
        Job::Claim {
            worker,
            queues,
            max,
            ..
        } => {
            picked.inbox = outbox_rows(answers.next().unwrap_or_default(), Some(*worker))?;
            if *max > 0 && !queues.is_empty() {
                picked.ready = outbox_rows(answers.next().unwrap_or_default(), None)?;
            }
            picked
                .inbox
                .retain(|row| !stuck.contains(&row.key.execution));
            picked
                .ready
                .retain(|row| !stuck.contains(&row.key.execution));
        }
        Job::FireTimers { .. } => {
            for row in answers.next().unwrap_or_default() {
                picked.due.extend(timer(&row)?);
            }
            picked.due.retain(|timer| !stuck.contains(&timer.execution));
        }
    }
    Ok(picked)
}

fn outbox_rows(rows: Vec<Row>, worker: Option<WorkerId>) -> Result<Vec<OutboxRow>, StoreError> {
    let outbox_row = |row: &Row| {
        let [queue, rank, ready_at, execution, task] = ints(row)?;
        Ok(OutboxRow {
            worker,
            queue: VersionId(queue),
            priority: (-rank) as i16,
            ready_at: Timestamp(ready_at),
            key: TaskKey::new(ExecutionId(execution), task as u32),
        })
    };
    rows.iter().map(outbox_row).collect()
}

/// None for a kind that this program does not know.
fn timer(row: &Row) -> Result<Option<Timer>, StoreError> {
    let [due_at, kind, execution, task, piece] = ints(row)?;
    Ok(TimerKind::from_code(kind).map(|kind| Timer {
        due_at: Timestamp(due_at),
        kind,
        execution: ExecutionId(execution),
        task: task as u32,
        from: piece as u32,
    }))
}

fn ints<const N: usize>(row: &Row) -> Result<[i64; N], StoreError> {
    let mut found = [0; N];
    for (at, value) in found.iter_mut().enumerate() {
        *value = match row.get(at) {
            Some(Value::Int(value)) => *value,
            other => {
                return Err(StoreError::Internal(format!(
                    "no number in column {at}: {other:?}"
                )));
            }
        };
    }
    Ok(found)
}
