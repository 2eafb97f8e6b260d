//! What keeps a store going besides transitions: workers and their leases, workflow versions, and
//! leftovers of starts that were never finished. Everything runs at READ COMMITTED, and what takes
//! several statements that belong together in a transaction of the caller.
//!
//! Leases are compared by one clock, the database's, unless the caller brings another: `now` is for
//! stores whose time is not real.

use std::sync::LazyLock;

use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::timer::{NEVER, Timer, TimerKind};

use crate::error::StoreError;
use crate::rows::{self, Columns};
use crate::views::WorkflowKind;

use super::queries::{all, int, one, rows_of, text};
use super::rows::{Cells, Read};
use super::statement::{Execute, Param, Statement};

/// How old an unpublished execution must be before its start is taken for abandoned.
const UNPUBLISHED_US: i64 = 60_000_000;

/// The database's clock, as the store counts time.
pub(crate) const DATABASE_NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// The time that counts: the first parameter, or the database's.
fn with_clock(sql: &str) -> String {
    sql.replace("{now}", &format!("coalesce($1::bigint, {DATABASE_NOW})"))
}

fn clock(now: Option<Timestamp>) -> Param<'static> {
    Param::Int(now.map(|now| now.0))
}

fn time(cells: &mut Cells) -> Read<Timestamp> {
    cells.time()
}

fn worker_id(cells: &mut Cells) -> Read<WorkerId> {
    cells.int().map(WorkerId)
}

/// Records a worker, and answers when that was.
pub(crate) async fn register_worker(
    execute: &(impl Execute + Sync),
    now: Option<Timestamp>,
    id: WorkerId,
    host: &str,
    pid: u32,
    lease_us: i64,
) -> Result<Timestamp, StoreError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        with_clock(
            "INSERT INTO ~workers (id, host, pid, started_at, heartbeat_at, lease_until) \
             SELECT $2::bigint, $3::text, $4::bigint, c.now, c.now, c.now + $5::bigint FROM (SELECT {now} AS now) c \
             RETURNING started_at",
        )
    });
    let params = vec![clock(now), int(id.0), text(host), int(pid), int(lease_us)];
    let registered = one(execute, Statement::new(&SQL, params), "a worker", time).await?;
    registered.ok_or_else(|| StoreError::Internal("a worker was not recorded".to_owned()))
}

/// Renews a lease, and answers when that was. None if the worker was declared dead.
pub(crate) async fn heartbeat(
    execute: &(impl Execute + Sync),
    now: Option<Timestamp>,
    id: WorkerId,
    lease_us: i64,
) -> Result<Option<Timestamp>, StoreError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        with_clock(
            "UPDATE ~workers w SET heartbeat_at = c.now, lease_until = c.now + $3::bigint \
             FROM (SELECT {now} AS now) c WHERE w.id = $2::bigint AND w.ended_at IS NULL RETURNING w.heartbeat_at",
        )
    });
    let params = vec![clock(now), int(id.0), int(lease_us)];
    one(execute, Statement::new(&SQL, params), "a worker", time).await
}

/// The worker is gone, and with it what was addressed to it, but for what somebody is taking out of
/// its inbox: waiting for them could be a deadlock, and [`left_behind`] finds what they leave.
pub(crate) async fn end_worker(
    execute: &impl Execute,
    now: Option<Timestamp>,
    id: WorkerId,
) -> Result<(), StoreError> {
    static END: LazyLock<String> = LazyLock::new(|| {
        with_clock(
            "UPDATE ~workers w SET ended_at = c.now, lease_until = least(w.lease_until, c.now) \
             FROM (SELECT {now} AS now) c WHERE w.id = $2::bigint AND w.ended_at IS NULL",
        )
    });
    let empty = Statement::new(
        "DELETE FROM ~task_outbox WHERE ctid = ANY (ARRAY(\
         SELECT ctid FROM ~task_outbox WHERE worker = $1::bigint FOR UPDATE SKIP LOCKED))",
        vec![int(id.0)],
    );
    let end = Statement::new(&END, vec![clock(now), int(id.0)]);
    execute.run(vec![end, empty]).await.map(drop)
}

/// How long ago the server was started, in microseconds.
pub(crate) async fn server_age(execute: &(impl Execute + Sync)) -> Result<i64, StoreError> {
    let statement = Statement::new(
        "SELECT (extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()) * 1000000)::bigint",
        Vec::new(),
    );
    let age = one(execute, statement, "the server's age", |cells| cells.int()).await?;
    age.ok_or_else(|| StoreError::Internal("the server has no age".to_owned()))
}

/// What a look at the others finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// When it was, by the clock that counts.
    pub(crate) at: Timestamp,
    /// Workers whose lease is over and who have not been declared dead.
    pub(crate) expired: Vec<WorkerId>,
    /// Whether a worker has ended since the time that was asked about.
    pub(crate) ended: bool,
    /// Starts that were never finished.
    pub(crate) unpublished: Vec<ExecutionId>,
}

/// Looks at the others, by one statement, since idle processes do so all the time. It reads no more
/// than a row for each worker, however much is open. Relies on executions_unpublished.
pub(crate) async fn look(
    execute: &(impl Execute + Sync),
    now: Option<Timestamp>,
    ended_since: Timestamp,
) -> Result<Look, StoreError> {
    const AT: i64 = 0;
    const EXPIRED: i64 = 1;
    const ENDED: i64 = 2;
    const UNPUBLISHED: i64 = 3;
    static SQL: LazyLock<String> = LazyLock::new(|| {
        with_clock(&format!(
            "WITH c AS MATERIALIZED (SELECT {{now}} AS now) SELECT {AT}, now FROM c \
             UNION ALL SELECT {EXPIRED}, w.id FROM c, ~workers w WHERE w.ended_at IS NULL AND w.lease_until < c.now \
             UNION ALL SELECT {ENDED}, 0 WHERE EXISTS (SELECT FROM ~workers WHERE ended_at >= $2::bigint) \
             UNION ALL SELECT {UNPUBLISHED}, e.id FROM c, ~executions e WHERE e.generation IS NULL \
             AND e.closed_at IS NULL AND e.created_at < c.now - {UNPUBLISHED_US}"
        ))
    });
    let statement = Statement::new(&SQL, vec![clock(now), int(ended_since.0)]);
    let read = |cells: &mut Cells| Ok((cells.int()?, cells.int()?));
    let found: Vec<(i64, i64)> = all(execute, statement, "a worker", read).await?;
    let of = |kind| {
        let mut ids: Vec<i64> = found
            .iter()
            .filter(|(of, _)| *of == kind)
            .map(|(_, id)| *id)
            .collect();
        ids.sort_unstable();
        ids
    };
    let at = of(AT).pop();
    Ok(Look {
        at: at
            .map(Timestamp)
            .ok_or_else(|| StoreError::Internal("a look has no time".to_owned()))?,
        expired: of(EXPIRED).into_iter().map(WorkerId).collect(),
        ended: !of(ENDED).is_empty(),
        unpublished: of(UNPUBLISHED).into_iter().map(ExecutionId).collect(),
    })
}

/// Declares a worker dead whose lease is over. True for one of those who do.
pub(crate) async fn declare_dead(
    execute: &(impl Execute + Sync),
    now: Option<Timestamp>,
    id: WorkerId,
) -> Result<bool, StoreError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        with_clock(
            "UPDATE ~workers w SET ended_at = c.now FROM (SELECT {now} AS now) c \
             WHERE w.id = $2::bigint AND w.ended_at IS NULL AND w.lease_until < c.now RETURNING w.id",
        )
    });
    let params = vec![clock(now), int(id.0)];
    let declared = one(execute, Statement::new(&SQL, params), "a worker", worker_id).await?;
    Ok(declared.is_some())
}

/// Workers that are gone but left something: whoever declared them dead died too, or an answer to
/// their last claim was under way. Relies on executions_open, and on the outbox's key.
pub(crate) async fn left_behind(
    execute: &(impl Execute + Sync),
) -> Result<Vec<WorkerId>, StoreError> {
    let statement = Statement::new(
        "SELECT l.worker FROM (SELECT t.worker FROM ~executions e JOIN ~task_executions t ON t.execution = e.id \
         WHERE e.closed_at IS NULL AND e.started_at IS NOT NULL AND t.worker IS NOT NULL AND t.closed_at IS NULL \
         UNION SELECT worker FROM ~task_outbox WHERE worker > 0) l \
         WHERE NOT EXISTS (SELECT 1 FROM ~workers w WHERE w.id = l.worker AND w.ended_at IS NULL) ORDER BY 1",
        Vec::new(),
    );
    all(execute, statement, "a worker", worker_id).await
}

/// The next batch of a dead worker's tasks. Relies on executions_open, like `Reader::held_by`, but
/// reads nothing besides keys, so that a row whose other columns make no sense is no trouble here.
pub(crate) async fn left_by(
    execute: &(impl Execute + Sync),
    worker: WorkerId,
    after: TaskKey,
    limit: u32,
) -> Result<Vec<TaskKey>, StoreError> {
    let statement = Statement::new(
        "SELECT t.execution, t.number FROM ~executions e JOIN ~task_executions t ON t.execution = e.id \
         WHERE e.closed_at IS NULL AND e.started_at IS NOT NULL AND t.worker = $1::bigint AND t.closed_at IS NULL \
         AND (t.execution, t.number) > ($2::bigint, $3::bigint) ORDER BY t.execution, t.number LIMIT $4::bigint",
        vec![
            int(worker.0),
            int(after.execution.0),
            int(after.number),
            int(limit),
        ],
    );
    let read = |cells: &mut Cells| Ok(TaskKey::new(ExecutionId(cells.int()?), cells.int()?));
    all(execute, statement, "a held task", read).await
}

/// The timers of tasks that wait for other code.
pub(crate) async fn waiting_for_code(
    execute: &(impl Execute + Sync),
) -> Result<Vec<Timer>, StoreError> {
    let statement = Statement::new(
        "SELECT due_at, kind, execution, task, piece FROM ~timers WHERE due_at = $1::bigint AND kind = $2::bigint",
        vec![int(NEVER.0), int(TimerKind::Code.code())],
    );
    all(execute, statement, "a timer", rows::timer).await
}

/// Removes the next piece of an unpublished execution. True when nothing is left of it.
pub(crate) async fn remove_unpublished(
    execute: &(impl Execute + Sync),
    id: ExecutionId,
    limit: u32,
) -> Result<bool, StoreError> {
    let of = |sql| Statement::new(sql, vec![int(id.0)]);
    let still =
        of("SELECT id FROM ~executions WHERE id = $1::bigint AND generation IS NULL FOR UPDATE");
    if rows_of(execute, still).await?.is_empty() {
        return Ok(true);
    }
    let last = of("SELECT max(number) FROM ~task_executions WHERE execution = $1::bigint");
    let last = one(
        execute,
        last,
        "an unfinished start",
        Cells::int_option::<i64>,
    )
    .await?;
    let Some(last) = last.flatten() else {
        let rest = vec![
            of("DELETE FROM ~execution_events WHERE execution = $1::bigint"),
            of("DELETE FROM ~executions WHERE id = $1::bigint"),
        ];
        execute.run(rest).await?;
        return Ok(true);
    };
    let from = last - i64::from(limit);
    let above = |sql| Statement::new(sql, vec![int(id.0), int(from)]);
    let piece = vec![
        above("DELETE FROM ~task_executions WHERE execution = $1::bigint AND number > $2::bigint"),
        above("DELETE FROM ~execution_events WHERE execution = $1::bigint AND task > $2::bigint"),
    ];
    execute.run(piece).await?;
    Ok(false)
}

/// The id of a workflow version, recorded if it is new. Two that record it at once get the same.
pub(crate) async fn ensure_version(
    execute: &(impl Execute + Sync),
    now: Timestamp,
    name: &str,
    version: &str,
    kind: WorkflowKind,
    graph: &Graph,
) -> Result<VersionId, StoreError> {
    let fingerprint = graph.fingerprint();
    let find = || {
        Statement::new(
            "SELECT id FROM ~workflow_versions WHERE name = $1::text AND version = $2::text AND fingerprint = $3::text",
            vec![text(name), text(version), text(&fingerprint)],
        )
    };
    let what = "a workflow version";
    let read = |cells: &mut Cells| cells.int().map(VersionId);
    if let Some(id) = one(execute, find(), what, read).await? {
        return Ok(id);
    }
    let graph = graph.to_json();
    let record = Statement::new(
        "INSERT INTO ~workflow_versions (name, version, fingerprint, kind, graph, created_at) \
         VALUES ($1::text, $2::text, $3::text, $4::text, $5::text, $6::bigint) ON CONFLICT DO NOTHING",
        vec![
            text(name),
            text(version),
            text(&fingerprint),
            text(kind.as_str()),
            text(&graph),
            int(now.0),
        ],
    );
    // If somebody else was first, the insert waited for them, and a statement after it sees theirs.
    rows_of(execute, record).await?;
    let id = one(execute, find(), what, read).await?;
    id.ok_or_else(|| StoreError::Internal(format!("{what} was not recorded")))
}
