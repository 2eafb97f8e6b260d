//! What keeps a store going besides transitions: workers and their leases, workflow versions, and
//! leftovers of starts that were never finished. Everything runs at READ COMMITTED, and what takes
//! several statements that belong together in a transaction of the caller.
//!
//! Times are written by one clock, the database's, unless the caller brings another: `now` is for
//! stores whose time is not real, and only there leases are compared with it (see `leases`).

use std::sync::LazyLock;

use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::status::SubStatus;

use crate::checks::check_graph;
use crate::error::StoreError;
use crate::queries;
use crate::rows::{Columns, FromColumns};
use crate::views::WorkflowKind;

use super::leases::Lease;
use super::queries::{all, answers, int, one, rows_of, text};
use super::rows::Cells;
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

/// Records a worker, and answers when that was. None if the store is not of that version.
pub(crate) async fn register_worker(
    execute: &(impl Execute + Sync),
    now: Option<Timestamp>,
    id: WorkerId,
    host: &str,
    pid: u32,
    lease_us: i64,
    version: i64,
) -> Result<Option<Timestamp>, StoreError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        with_clock(
            "INSERT INTO ~workers (id, host, pid, started_at, heartbeat_at, lease_until) \
             SELECT $2::bigint, $3::text, $4::bigint, c.now, c.now, c.now + $5::bigint FROM (SELECT {now} AS now) c \
             WHERE (SELECT schema FROM ~store) = $6::bigint RETURNING started_at",
        )
    });
    let params = vec![
        clock(now),
        int(id.0),
        text(host),
        int(pid),
        int(lease_us),
        int(version),
    ];
    let statement = Statement::new(&SQL, params);
    one(execute, statement, "a worker", Timestamp::from_columns).await
}

/// Renews a lease, and answers when that was. None if the worker was declared dead, or the store is not of that
/// version.
pub(crate) async fn heartbeat(
    execute: &(impl Execute + Sync),
    now: Option<Timestamp>,
    id: WorkerId,
    lease_us: i64,
    version: i64,
) -> Result<Option<Timestamp>, StoreError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        with_clock(
            "UPDATE ~workers w SET heartbeat_at = c.now, lease_until = c.now + $3::bigint \
             FROM (SELECT {now} AS now) c WHERE w.id = $2::bigint AND w.ended_at IS NULL \
             AND (SELECT schema FROM ~store) = $4::bigint RETURNING w.heartbeat_at",
        )
    });
    let params = vec![clock(now), int(id.0), int(lease_us), int(version)];
    let statement = Statement::new(&SQL, params);
    one(execute, statement, "a worker", Timestamp::from_columns).await
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
    /// Workers whose lease is over by the clock that counts and who have not been declared dead.
    pub(crate) expired: Vec<WorkerId>,
    /// All workers that have not been declared dead.
    pub(crate) leases: Vec<Lease>,
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
    const LEASE: i64 = 4;
    static SQL: LazyLock<String> = LazyLock::new(|| {
        with_clock(&format!(
            "WITH c AS MATERIALIZED (SELECT {{now}} AS now) SELECT {AT}, now, 0::bigint, 0::bigint FROM c \
             UNION ALL SELECT {EXPIRED}, w.id, 0, 0 FROM c, ~workers w WHERE w.ended_at IS NULL AND w.lease_until < c.now \
             UNION ALL SELECT {LEASE}, id, heartbeat_at, lease_until - heartbeat_at FROM ~workers WHERE ended_at IS NULL \
             UNION ALL SELECT {ENDED}, 0, 0, 0 WHERE EXISTS (SELECT FROM ~workers WHERE ended_at >= $2::bigint) \
             UNION ALL SELECT {UNPUBLISHED}, e.id, 0, 0 FROM c, ~executions e WHERE e.generation IS NULL \
             AND e.closed_at IS NULL AND e.created_at < c.now - {UNPUBLISHED_US}"
        ))
    });
    let statement = Statement::new(&SQL, vec![clock(now), int(ended_since.0)]);
    let read = |cells: &mut Cells| Ok((cells.int()?, cells.int()?, cells.int()?, cells.int()?));
    let found: Vec<(i64, i64, i64, i64)> = all(execute, statement, "a worker", read).await?;
    let leases = found.iter().filter(|(of, ..)| *of == LEASE);
    let leases = leases.map(|(_, id, heartbeat_at, length_us)| Lease {
        worker: WorkerId(*id),
        heartbeat_at: Timestamp(*heartbeat_at),
        length_us: *length_us,
    });
    let of = |kind| {
        let mut ids: Vec<i64> = found
            .iter()
            .filter(|(of, ..)| *of == kind)
            .map(|(_, id, ..)| *id)
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
        leases: leases.collect(),
        ended: !of(ENDED).is_empty(),
        unpublished: of(UNPUBLISHED).into_iter().map(ExecutionId).collect(),
    })
}

/// Declares a worker dead whose last heartbeat is still this one, in a store of that version. True for one of those
/// who do.
pub(crate) async fn declare_silent(
    execute: &(impl Execute + Sync),
    lease: &Lease,
    version: i64,
) -> Result<bool, StoreError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "UPDATE ~workers SET ended_at = {DATABASE_NOW} \
             WHERE id = $1::bigint AND ended_at IS NULL AND heartbeat_at = $2::bigint \
             AND (SELECT schema FROM ~store) = $3::bigint RETURNING id"
        )
    });
    let params = vec![int(lease.worker.0), int(lease.heartbeat_at.0), int(version)];
    let statement = Statement::new(&SQL, params);
    let declared = one(execute, statement, "a worker", WorkerId::from_columns).await?;
    Ok(declared.is_some())
}

/// Declares a worker dead whose lease is over by the clock that counts, in a store of that version. True for one of
/// those who do.
pub(crate) async fn declare_dead(
    execute: &(impl Execute + Sync),
    now: Option<Timestamp>,
    id: WorkerId,
    version: i64,
) -> Result<bool, StoreError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        with_clock(
            "UPDATE ~workers w SET ended_at = c.now FROM (SELECT {now} AS now) c \
             WHERE w.id = $2::bigint AND w.ended_at IS NULL AND w.lease_until < c.now \
             AND (SELECT schema FROM ~store) = $3::bigint RETURNING w.id",
        )
    });
    let params = vec![clock(now), int(id.0), int(version)];
    let statement = Statement::new(&SQL, params);
    let declared = one(execute, statement, "a worker", WorkerId::from_columns).await?;
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
    all(execute, statement, "a worker", WorkerId::from_columns).await
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
    all(execute, statement, "a held task", TaskKey::from_columns).await
}

/// How many tasks of a dead worker were Active. Relies on executions_open, like [`left_by`].
pub(crate) async fn active_of(
    execute: &(impl Execute + Sync),
    worker: WorkerId,
) -> Result<u32, StoreError> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT count(*) FROM ~executions e JOIN ~task_executions t ON t.execution = e.id \
             WHERE e.closed_at IS NULL AND e.started_at IS NOT NULL AND t.worker = $1::bigint AND t.closed_at IS NULL \
             AND t.sub_status = '{}'",
            SubStatus::Active
        )
    });
    let statement = Statement::new(&SQL, vec![int(worker.0)]);
    let count = one(execute, statement, "a held task", |cells| cells.int()).await?;
    Ok(count.unwrap_or(0))
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

/// The id of a workflow version, recorded if it is new, in a transaction of the caller. Refused if it is
/// recorded with another graph.
pub(crate) async fn ensure_version(
    execute: &(impl Execute + Sync),
    now: Timestamp,
    name: &str,
    version: &str,
    kind: WorkflowKind,
    graph: &Graph,
) -> Result<VersionId, StoreError> {
    // Until the transaction ends nobody else records a version, so that no two record different graphs
    // for one. Nobody else writes to the table, and readers are not in the way.
    let lock = "LOCK TABLE ~workflow_versions IN SHARE ROW EXCLUSIVE MODE";
    rows_of(execute, Statement::new(lock, Vec::new())).await?;
    let fingerprint = graph.fingerprint();
    let committed = answers(execute, queries::version(name, version, &fingerprint));
    if let Some(id) = committed.await?.pop() {
        return Ok(id);
    }
    let recorded = answers(execute, queries::recorded_graphs(name, version)).await?;
    check_graph(name, version, kind, graph, recorded)?;
    let graph = graph.to_json();
    let record = Statement::new(
        "INSERT INTO ~workflow_versions (name, version, fingerprint, kind, graph, created_at) \
         VALUES ($1::text, $2::text, $3::text, $4::text, $5::text, $6::bigint) RETURNING id",
        vec![
            text(name),
            text(version),
            text(&fingerprint),
            text(kind.as_str()),
            text(&graph),
            int(now.0),
        ],
    );
    let what = "a workflow version";
    let id = one(execute, record, what, |cells| cells.int().map(VersionId)).await?;
    id.ok_or_else(|| StoreError::Internal(format!("{what} was not recorded")))
}
