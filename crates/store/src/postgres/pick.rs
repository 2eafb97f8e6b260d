//! What a claim or a firing may take: rows of the outbox and timers that nobody else is taking,
//! locked until the transaction ends. They are picked before the executions are locked, out of the
//! usual order, which `SKIP LOCKED` makes harmless: nobody waits for them.

use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::OutboxRow;
use abide_core::timer::{NEVER, Timer, TimerKind};
use rustc_hash::FxHashSet;

use crate::error::StoreError;
use crate::flush::{Fill, Picked};
use crate::job::Job;

use super::low_water::LowWater;
use super::queries::int;
use super::statement::{Param, Row, Statement, Value};

/// The most notices that one claim takes out of a worker's inbox.
const INBOX: u32 = 1000;

/// Timers of a kind beyond are left alone; `verify` finds them.
const LAST_KIND: i64 = TimerKind::ALL.len() as i64;

/// A worker's inbox, but for what is about executions that cannot be locked now. Its stretches are
/// looked at one after another, each from its place in the index, past what is dead: those of a queue
/// by the first half, what lies between two queues by the second. (One condition for both would not
/// end a scan where it should.)
const SELECT_INBOX: &str = "SELECT o.* FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) \
     AS s (queue, lowest, since, highest, next) CROSS JOIN LATERAL (\
     SELECT a.* FROM (SELECT t.queue, t.rank, t.ready_at, t.execution, t.task FROM ~task_outbox t WHERE t.worker = $6 \
     AND t.queue = s.queue AND (t.rank, t.ready_at) >= (s.lowest, s.since) AND t.rank <= s.highest \
     AND t.execution <> ALL ($7::bigint[]) ORDER BY t.rank, t.ready_at, t.execution, t.task LIMIT $8 \
     FOR UPDATE SKIP LOCKED) a UNION ALL \
     SELECT b.* FROM (SELECT t.queue, t.rank, t.ready_at, t.execution, t.task FROM ~task_outbox t WHERE t.worker = $6 \
     AND t.queue > s.queue AND t.queue < s.next \
     AND t.execution <> ALL ($7::bigint[]) ORDER BY t.queue, t.rank, t.ready_at, t.execution, t.task LIMIT $8 \
     FOR UPDATE SKIP LOCKED) b) o LIMIT $8";

/// The first rows of each queue, in the order of the outbox's key, but for those of executions that
/// cannot be locked now; nothing for a worker that was declared dead. A queue's stretches are looked
/// at one after another until there are enough; comparing rows makes each begin at its place in the
/// index, past what is dead.
const SELECT_READY: &str = "SELECT p.* FROM unnest($8::bigint[]) AS q (queue) CROSS JOIN LATERAL (\
     SELECT o.* FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS s (queue, lowest, since, highest) \
     CROSS JOIN LATERAL (SELECT t.queue, t.rank, t.ready_at, t.execution, t.task FROM ~task_outbox t \
     WHERE t.worker = 0 AND t.queue = s.queue AND (t.rank, t.ready_at) >= (s.lowest, s.since) AND t.rank <= s.highest \
     AND t.execution <> ALL ($5::bigint[]) ORDER BY t.rank, t.ready_at, t.execution, t.task LIMIT $6 \
     FOR UPDATE SKIP LOCKED) o WHERE s.queue = q.queue LIMIT $6) p \
     WHERE EXISTS (SELECT FROM ~workers WHERE id = $7 AND ended_at IS NULL)";

/// Timers that are due.
const SELECT_DUE: &str = "SELECT due_at, kind, execution, task, piece FROM ~timers \
     WHERE due_at BETWEEN $1 AND $2 AND kind BETWEEN 1 AND $3 AND execution <> ALL ($4::bigint[]) \
     ORDER BY due_at, kind, execution, task, piece LIMIT $5 FOR UPDATE SKIP LOCKED";

/// The earliest timer that a clock reaches.
pub(crate) const SELECT_NEXT_DUE: &str = "SELECT due_at FROM ~timers WHERE due_at >= $1 AND due_at < $2 \
     AND kind BETWEEN 1 AND $3 ORDER BY due_at LIMIT 1";

/// What a job has to pick, if anything.
pub(crate) fn statements(
    job: &Job,
    now: Timestamp,
    low_water: &LowWater,
    locked_executions: &FxHashSet<ExecutionId>,
) -> Vec<Statement<'static>> {
    let locked = || Param::Ints(locked_executions.iter().map(|id| Some(id.0)).collect());
    match job {
        Job::Apply(..) => Vec::new(),
        Job::Claim {
            worker,
            queues,
            max,
            ..
        } => {
            let mut inbox = low_water.inbox(*worker);
            inbox.extend([int(worker.0), locked(), int(INBOX)]);
            let mut statements = vec![Statement::new(SELECT_INBOX, inbox)];
            if *max > 0 && !queues.is_empty() {
                statements.push(ready(*worker, queues, *max, low_water, locked()));
            }
            statements
        }
        Job::FireTimers { limit, .. } => {
            let since = int(low_water.timers().0);
            let params = vec![since, int(now.0), int(LAST_KIND), locked(), int(*limit)];
            vec![Statement::new(SELECT_DUE, params)]
        }
    }
}

/// Picks what the slots that finished tasks leave are filled with.
pub(crate) fn fill(
    fill: &Fill,
    low_water: &LowWater,
    locked_executions: &FxHashSet<ExecutionId>,
) -> Statement<'static> {
    let locked = locked_executions.iter().map(|id| Some(id.0)).collect();
    let locked = Param::Ints(locked);
    ready(fill.worker, &fill.queues, fill.most, low_water, locked)
}

/// What was picked for that.
pub(crate) fn filled(
    fill: &Fill,
    low_water: &LowWater,
    now: Timestamp,
    answer: Vec<Row>,
) -> Result<Vec<OutboxRow>, StoreError> {
    let rows = outbox_rows(answer, None)?;
    low_water.picked(&rows, fill.most, now);
    Ok(rows)
}

fn ready(
    worker: WorkerId,
    queues: &[VersionId],
    most: u32,
    low_water: &LowWater,
    locked: Param<'static>,
) -> Statement<'static> {
    let mut params = low_water.stretches(queues).params();
    let queues = queues.iter().map(|queue| Some(queue.0)).collect();
    params.extend([locked, int(most), int(worker.0), Param::Ints(queues)]);
    Statement::new(SELECT_READY, params)
}

/// The statement that reads the earliest timer.
pub(crate) fn next_due(low_water: &LowWater) -> Statement<'static> {
    let params = vec![int(low_water.timers().0), int(NEVER.0), int(LAST_KIND)];
    Statement::new(SELECT_NEXT_DUE, params)
}

/// What was picked for a job.
pub(crate) fn picked(
    job: &Job,
    now: Timestamp,
    low_water: &LowWater,
    mut answers: impl Iterator<Item = Vec<Row>>,
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
            low_water.inbox_picked(*worker, &picked.inbox, INBOX, now);
            if *max > 0 && !queues.is_empty() {
                picked.ready = outbox_rows(answers.next().unwrap_or_default(), None)?;
                low_water.picked(&picked.ready, *max, now);
            }
        }
        Job::FireTimers { .. } => {
            for row in answers.next().unwrap_or_default() {
                picked.due.extend(timer(&row)?);
            }
            low_water.timers_picked(picked.due.first().map(|timer| timer.due_at), now);
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
    let Some(kind) = TimerKind::from_code(kind) else {
        return Ok(None);
    };
    let number = |of: i64| {
        u32::try_from(of).map_err(|_| StoreError::Undecodable {
            what: "a timer".to_owned(),
            detail: format!("{of} is out of range"),
        })
    };
    Ok(Some(Timer {
        due_at: Timestamp(due_at),
        kind,
        execution: ExecutionId(execution),
        task: number(task)?,
        from: number(piece)?,
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
