//! The floor on PostgreSQL: one set-based statement over arrays for each stage, each of them one
//! transaction in one round trip.

use std::time::Instant;

use tokio::task::JoinSet;
use tokio_postgres::{Client, Statement};

use super::BATCH;
use crate::home::Schema;
use crate::measure::Error;

/// Connections that work side by side.
const CONNECTIONS: u32 = 2;

/// Executions of `$3` tasks each, whose first is ready, or is claimed at once.
const SUBMIT: &str = "\
WITH given AS (SELECT * FROM unnest($1::bigint[], $2::text[]) AS g (id, instance)), \
execution AS (INSERT INTO executions (id, instance, generation, workflow_version, status, open, failed, priority, input, \
    input_hash, version, created_at, changed_at) \
    SELECT id, instance, 1, 1, 'Pending', $3::int, 0, 0, '1', '6b86b273ff34fce19d6b804eff5a3f57', 1, $4::bigint, $4 FROM given), \
task AS (INSERT INTO task_executions (execution, number, node, status, attempt, epoch, crashes, crash_steps, waiting, unmet, \
    ready_at, version, created_at, changed_at, queued_us, active_us, deferred_us, retry_wait_us) \
    SELECT id, number, 'only', CASE number WHEN 1 THEN 'Ready' ELSE 'Pending' END, 1, 0, 0, 0, 0, 0, \
    CASE number WHEN 1 THEN $4 END, 1, $4, $4, 0, 0, 0, 0 FROM given, generate_series(1, $3) AS number), \
outbox AS (INSERT INTO task_outbox (worker, queue, rank, ready_at, execution, task) SELECT 0, 1, 0, $4, id, 1 FROM given) \
INSERT INTO execution_events (execution, task, n, type, at, worker, attempt, epoch, from_status, to_status, data) \
    SELECT id, 0, 1, 1, $4, NULL::bigint, NULL::int, NULL::int, NULL, 'Pending', \
    '{\"input\":{\"len\":1,\"sha256\":\"6b86b273ff34fce19d6b804eff5a3f57\"},\"tasks\":1,\"workflow\":1}' FROM given \
    UNION ALL SELECT id, number, 1, 13, $4, NULL, 1, NULL, NULL, 'Pending', NULL FROM given, generate_series(1, $3) AS number \
    UNION ALL SELECT id, 1, 2, 14, $4, NULL, 1, NULL, 'Pending', 'Ready', NULL FROM given";

const READY: &str = "\
WITH given AS (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS g (execution, number)), \
task AS (UPDATE task_executions t SET status = 'Ready', ready_at = $3::bigint, version = 2 FROM given g \
    WHERE t.execution = g.execution AND t.number = g.number), \
outbox AS (INSERT INTO task_outbox (worker, queue, rank, ready_at, execution, task) \
    SELECT 0, 1, 0, $3, execution, number FROM given) \
INSERT INTO execution_events (execution, task, n, type, at, attempt, from_status, to_status) \
    SELECT execution, number, 2, 14, $3, 1, 'Pending', 'Ready' FROM given";

/// What is ready becomes Running; where that is the first task of an execution, that does too. A row
/// of the queue is found by its whole key: for a join, the planner would read the queue, with all that
/// is dead in it, once for each row.
const CLAIM: &str = "\
WITH given AS (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS g (execution, number)), \
outbox AS (DELETE FROM task_outbox WHERE ctid = ANY (ARRAY(SELECT r.ctid FROM given g CROSS JOIN LATERAL \
    (SELECT o.ctid FROM task_outbox o WHERE o.worker = 0 AND o.queue = 1 AND o.rank = 0 AND o.ready_at = $3::bigint \
    AND o.execution = g.execution AND o.task = g.number LIMIT 1) r))), \
task AS (UPDATE task_executions t SET status = 'Running', sub_status = 'Active', epoch = 1, worker = 7, started_at = $3, \
    version = 4 FROM given g WHERE t.execution = g.execution AND t.number = g.number), \
execution AS (UPDATE executions e SET status = 'Running', started_at = $3, version = 2 FROM given g \
    WHERE e.id = g.execution AND g.number = 1) \
INSERT INTO execution_events (execution, task, n, type, at, worker, attempt, epoch, from_status, to_status) \
    SELECT execution, 0, 2, 2, $3, 7, NULL::int, NULL::int, 'Pending', 'Running' FROM given WHERE number = 1 \
    UNION ALL SELECT execution, number, 3, 15, $3, 7, 1, 1, 'Ready', 'Running::Active' FROM given \
    UNION ALL SELECT execution, number, 4, 16, $3, 7, 1, 1, 'Running::Active', 'Running::Active' FROM given";

/// What runs is done; with the `$4`th task, so is the execution.
const FINISH: &str = "\
WITH given AS (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS g (execution, number)), \
task AS (UPDATE task_executions t SET status = 'Completed', sub_status = NULL, worker = NULL, output = '1', closed_at = $3::bigint, \
    version = 5 FROM given g WHERE t.execution = g.execution AND t.number = g.number), \
progress AS (UPDATE executions e SET open = e.open - g.tasks FROM \
    (SELECT execution, count(*) AS tasks FROM given WHERE number < $4::bigint GROUP BY execution) g WHERE e.id = g.execution), \
execution AS (UPDATE executions e SET status = 'Completed', open = 0, closed_at = $3, version = 3 FROM given g \
    WHERE e.id = g.execution AND g.number = $4) \
INSERT INTO execution_events (execution, task, n, type, at, worker, attempt, epoch, from_status, to_status, data) \
    SELECT execution, number, 5, 21, $3, 7, 1, 1, 'Running::Active', 'Completed', \
    '{\"output\":{\"len\":1,\"sha256\":\"6b86b273ff34fce19d6b804eff5a3f57\"}}' FROM given \
    UNION ALL SELECT execution, 0, 3, 3, $3, 7, NULL::int, NULL::int, 'Running', 'Completed', NULL FROM given WHERE number = $4";

/// The end of a task of each chain and the claim of the next.
const STEP: &str = "\
WITH given AS (SELECT * FROM unnest($1::bigint[], $2::bigint[]) AS g (execution, number)), \
task AS (UPDATE task_executions t SET status = 'Completed', sub_status = NULL, worker = NULL, output = '1', closed_at = $3::bigint, \
    version = 5 FROM given g WHERE t.execution = g.execution AND t.number = g.number), \
next AS (UPDATE task_executions t SET status = 'Running', sub_status = 'Active', epoch = 1, worker = 7, started_at = $3, \
    version = 4 FROM given g WHERE t.execution = g.execution AND t.number = g.number + 1), \
execution AS (UPDATE executions e SET open = e.open - 1 FROM given g WHERE e.id = g.execution) \
INSERT INTO execution_events (execution, task, n, type, at, worker, attempt, epoch, from_status, to_status, data) \
    SELECT execution, number, 5, 21, $3, 7, 1, 1, 'Running::Active', 'Completed', \
    '{\"output\":{\"len\":1,\"sha256\":\"6b86b273ff34fce19d6b804eff5a3f57\"}}' FROM given \
    UNION ALL SELECT execution, number + 1, 2, 14, $3, 7, 1, 0, 'Pending', 'Ready', NULL FROM given \
    UNION ALL SELECT execution, number + 1, 3, 15, $3, 7, 1, 1, 'Ready', 'Running::Active', NULL FROM given \
    UNION ALL SELECT execution, number + 1, 4, 16, $3, 7, 1, 1, 'Running::Active', 'Running::Active', NULL FROM given";

const RECORD: &str = "\
INSERT INTO steps (execution, task, number, kind, name, state, ordinal, result, recorded_at) \
    SELECT execution, 1, number, 'step', 'step', 'done', number, '1', $3::bigint \
    FROM unnest($1::bigint[], $2::bigint[]) AS g (execution, number)";

const NOW: i64 = 1_800_000_000_000_000;

/// One connection and its statements.
struct Floor {
    client: Client,
    submit: Statement,
    ready: Statement,
    claim: Statement,
    finish: Statement,
    step: Statement,
    record: Statement,
}

/// Executions and numbers of tasks.
type Keys = (Vec<i64>, Vec<i64>);

impl Floor {
    async fn new(schema: &Schema) -> Result<Floor, Error> {
        let client = schema.connect().await?;
        // Everything is found by its key, also in a plan that was made while the tables were small.
        client
            .batch_execute("SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off")
            .await?;
        Ok(Floor {
            submit: client.prepare(SUBMIT).await?,
            ready: client.prepare(READY).await?,
            claim: client.prepare(CLAIM).await?,
            finish: client.prepare(FINISH).await?,
            step: client.prepare(STEP).await?,
            record: client.prepare(RECORD).await?,
            client,
        })
    }

    async fn submit(&self, ids: &[i64], tasks: u32) -> Result<(), Error> {
        let instances: Vec<String> = ids.iter().map(|id| format!("instance-{id}")).collect();
        let tasks = i32::try_from(tasks)?;
        self.client
            .execute(&self.submit, &[&ids, &instances, &tasks, &NOW])
            .await?;
        Ok(())
    }

    async fn stage(&self, statement: &Statement, (ids, numbers): &Keys) -> Result<(), Error> {
        self.client
            .execute(statement, &[ids, numbers, &NOW])
            .await?;
        Ok(())
    }

    async fn finish(&self, (ids, numbers): &Keys, last: u32) -> Result<(), Error> {
        self.client
            .execute(&self.finish, &[ids, numbers, &NOW, &i64::from(last)])
            .await?;
        Ok(())
    }

    /// Three transactions for each batch: submit, claim, finish.
    async fn one_step(&self, first: u32, last: u32) -> Result<(), Error> {
        for first in (first..last).step_by(BATCH as usize) {
            let ids: Vec<i64> = (first..last.min(first + BATCH)).map(i64::from).collect();
            let keys = (ids.clone(), vec![1; ids.len()]);
            self.submit(&ids, 1).await?;
            self.stage(&self.claim, &keys).await?;
            self.finish(&keys, 1).await?;
        }
        Ok(())
    }
}

/// The same task of each execution.
fn keys(executions: u32, number: u32) -> Keys {
    let ids: Vec<i64> = (1..=i64::from(executions)).collect();
    let numbers = vec![i64::from(number); ids.len()];
    (ids, numbers)
}

pub(super) async fn one_step_workflows_per_s(
    schema: &Schema,
    workflows: u32,
) -> Result<f64, Error> {
    let mut floors = Vec::new();
    for _ in 0..CONNECTIONS {
        floors.push(Floor::new(schema).await?);
    }
    let share = workflows.div_ceil(CONNECTIONS);
    let start = Instant::now();
    let mut running = JoinSet::new();
    for (floor, first) in floors
        .into_iter()
        .zip((0..workflows).step_by(share as usize))
    {
        running.spawn(async move {
            let last = workflows.min(first + share);
            floor.one_step(first + 1, last + 1).await
        });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(f64::from(workflows) / start.elapsed().as_secs_f64())
}

pub(super) async fn chain_step_ms(schema: &Schema, steps: u32) -> Result<f64, Error> {
    Ok(1000.0 / chains_steps_per_s(schema, 1, steps).await?)
}

pub(super) async fn chains_steps_per_s(
    schema: &Schema,
    chains: u32,
    links: u32,
) -> Result<f64, Error> {
    let floor = Floor::new(schema).await?;
    let start = Instant::now();
    floor.submit(&keys(chains, 1).0, links).await?;
    floor.stage(&floor.claim, &keys(chains, 1)).await?;
    for link in 1..links {
        floor.stage(&floor.step, &keys(chains, link)).await?;
    }
    floor.finish(&keys(chains, links), links).await?;
    Ok(f64::from(chains) * f64::from(links) / start.elapsed().as_secs_f64())
}

pub(super) async fn function_step_ms(schema: &Schema, steps: u32) -> Result<f64, Error> {
    Ok(1000.0 / functions_steps_per_s(schema, 1, steps).await?)
}

pub(super) async fn functions_steps_per_s(
    schema: &Schema,
    functions: u32,
    steps: u32,
) -> Result<f64, Error> {
    let floor = Floor::new(schema).await?;
    let start = Instant::now();
    for step in 1..=steps {
        floor.stage(&floor.record, &keys(functions, step)).await?;
    }
    Ok(f64::from(functions) * f64::from(steps) / start.elapsed().as_secs_f64())
}

pub(super) async fn commit_ms(schema: &Schema, commits: u32) -> Result<f64, Error> {
    function_step_ms(schema, commits).await
}

pub(super) async fn fanout_s(schema: &Schema, width: u32) -> Result<f64, Error> {
    let floor = Floor::new(schema).await?;
    let last = width + 2;
    let start = Instant::now();
    floor.submit(&[1], last).await?;
    floor.stage(&floor.claim, &(vec![1], vec![1])).await?;
    floor.finish(&(vec![1], vec![1]), last).await?;
    for first in (2..last).step_by(BATCH as usize) {
        let numbers: Vec<i64> = (first..last.min(first + BATCH)).map(i64::from).collect();
        let keys = (vec![1; numbers.len()], numbers);
        floor.stage(&floor.ready, &keys).await?;
        floor.stage(&floor.claim, &keys).await?;
        floor.finish(&keys, last).await?;
    }
    let keys = (vec![1], vec![i64::from(last)]);
    floor.stage(&floor.ready, &keys).await?;
    floor.stage(&floor.claim, &keys).await?;
    floor.finish(&keys, last).await?;
    Ok(start.elapsed().as_secs_f64())
}
