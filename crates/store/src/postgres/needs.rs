//! How each kind of need is read. Every statement answers the needs of its kind in the order they
//! are asked for: its rows begin with the place of their need.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use abide_core::context::{self, Changes};
use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{ContextParts, Need, PIECE, Working};
use abide_core::payload::Payload;
use abide_core::status::TaskStatus;
use abide_core::step::{Operation, StepEnd, StepKind};
use serde_json::{Map, Value};

use crate::graphs::GraphCache;
use crate::rows::{self, Columns, STEP, TASK, of};

use super::load::{Plan, Wanted};
use super::low_water::LowWater;
use super::rows::{Cells, Content, Read};
use super::statement::{Param, Statement};

/// Unread signals that are read at once: a task takes few of what may be many.
const UNREAD_AT_ONCE: usize = 64;

/// Needs by kind, with what identifies each.
#[derive(Default)]
struct Sorted<'n> {
    tasks: Wanted<'n, TaskKey>,
    graphs: Wanted<'n, (ExecutionId, VersionId, bool)>,
    open_tasks: Wanted<'n, ExecutionId>,
    failures: Wanted<'n, ExecutionId>,
    contexts: Wanted<'n, ExecutionId>,
    waits: Wanted<'n, TaskKey>,
    step_counts: Wanted<'n, TaskKey>,
    steps: Wanted<'n, (TaskKey, u32)>,
    mailboxes: Wanted<'n, (ExecutionId, &'n Arc<str>, i64)>,
    signal_numbers: Wanted<'n, (&'n Arc<str>, &'n Arc<str>)>,
    signal_waiters: Wanted<'n, (ExecutionId, &'n Arc<str>)>,
    workers: Wanted<'n, WorkerId>,
    ready_head: Wanted<'n, &'n Arc<[VersionId]>>,
}

impl<'n> Sorted<'n> {
    fn add(&mut self, working: &Working, need: &'n Need) {
        match need {
            // Locked before anything is read.
            Need::Instance(_) | Need::Execution(_) => {}
            Need::Task(key) => self.tasks.push((need, *key)),
            Need::Graph(id, version, own) => self.graphs.push((need, (*id, *version, *own))),
            Need::OpenTasks(id) => self.open_tasks.push((need, *id)),
            Need::Failures(id) => self.failures.push((need, *id)),
            Need::Context(id) => self.contexts.push((need, *id)),
            Need::Waits(key) => self.waits.push((need, *key)),
            Need::StepCount(key) => self.step_counts.push((need, *key)),
            Need::Step(key, number) => self.steps.push((need, (*key, *number))),
            Need::Mailbox(id, name) => {
                let after = working.mailbox_loaded_to(*id, name);
                self.mailboxes.push((need, (*id, name, after)));
            }
            Need::SignalNumber(instance, name) => {
                self.signal_numbers.push((need, (instance, name)));
            }
            Need::SignalWaiters(id, name) => self.signal_waiters.push((need, (*id, name))),
            Need::Worker(id) => self.workers.push((need, *id)),
            // A flush asks once: the queues of a process are the same in every offer.
            Need::ReadyHead(queues) if self.ready_head.is_empty() => {
                self.ready_head.push((need, queues));
            }
            Need::ReadyHead(_) => {}
        }
    }
}

/// Plans to read the needs, but for executions and instances.
pub(super) fn plan<'n>(
    plan: &mut Plan<'n>,
    working: &Working,
    cache: &GraphCache,
    low_water: &LowWater,
    alive_at: Timestamp,
    needs: &[&'n Need],
) {
    let mut sorted = Sorted::default();
    for need in needs {
        sorted.add(working, need);
    }
    tasks(plan, sorted.tasks);
    graphs(plan, cache, sorted.graphs);
    open_tasks(plan, sorted.open_tasks);
    failures(plan, sorted.failures);
    contexts(plan, sorted.contexts);
    waits(plan, sorted.waits);
    step_counts(plan, sorted.step_counts);
    steps(plan, sorted.steps);
    mailboxes(plan, sorted.mailboxes);
    signal_numbers(plan, sorted.signal_numbers);
    signal_waiters(plan, sorted.signal_waiters);
    workers(plan, alive_at, sorted.workers);
    ready_head(plan, low_water, sorted.ready_head);
}

fn ints<K>(wanted: &Wanted<'_, K>, of: impl Fn(&K) -> i64) -> Param<'static> {
    Param::Ints(wanted.iter().map(|(_, key)| Some(of(key))).collect())
}

fn texts<'n, K>(wanted: &Wanted<'n, K>, of: impl Fn(&K) -> &'n Arc<str>) -> Param<'n> {
    let texts = wanted
        .iter()
        .map(|(_, key)| Some(Cow::Borrowed(&**of(key))));
    Param::Texts(texts.collect())
}

fn keys(wanted: &Wanted<'_, TaskKey>) -> Vec<Param<'static>> {
    vec![
        ints(wanted, |key| key.execution.0),
        ints(wanted, |key| key.number.into()),
    ]
}

fn tasks<'n>(plan: &mut Plan<'n>, wanted: Wanted<'n, TaskKey>) {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT u.at, {} FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS u (execution, number, at) \
             JOIN ~task_executions t ON t.execution = u.execution AND t.number = u.number",
            of("t", TASK)
        )
    });
    let statement = Statement::new(&SQL, keys(&wanted));
    plan.read(wanted, statement, rows::task, |filling, key, mut found| {
        filling.working.load_task(*key, found.pop());
        Ok(())
    });
}

/// Loads the graphs that the cache has, and answers the others.
fn cached<'n>(
    plan: &mut Plan<'n>,
    cache: &GraphCache,
    wanted: Wanted<'n, (ExecutionId, VersionId, bool)>,
) -> Wanted<'n, (ExecutionId, VersionId, bool)> {
    let mut missing = Wanted::new();
    for (need, (id, version, own)) in wanted {
        match cache.get(id, version, own) {
            Some(graph) => plan.add(Vec::new(), move |filling, _| {
                // Where one task is all, nothing follows.
                if !own && graph.len() > 1 {
                    filling.graphs.remember(id, version);
                }
                filling.working.load_graph(id, version, own, graph);
            }),
            None => missing.push((need, (id, version, own))),
        }
    }
    missing
}

/// Each is its execution's own, or else its workflow version's.
fn graphs<'n>(
    plan: &mut Plan<'n>,
    cache: &GraphCache,
    wanted: Wanted<'n, (ExecutionId, VersionId, bool)>,
) {
    let wanted = cached(plan, cache, wanted);
    let mut of_executions = Vec::with_capacity(wanted.len());
    let mut of_versions = Vec::with_capacity(wanted.len());
    for (_, (id, version, own)) in &wanted {
        of_executions.push(own.then_some(id.0));
        of_versions.push((!own).then_some(version.0));
    }
    let statement = Statement::new(
        "SELECT u.at, coalesce(e.graph, v.graph) \
         FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS u (execution, version, at) \
         LEFT JOIN ~executions e ON e.id = u.execution \
         LEFT JOIN ~workflow_versions v ON v.id = u.version",
        vec![Param::Ints(of_executions), Param::Ints(of_versions)],
    );
    plan.read(
        wanted,
        statement,
        Cells::payload,
        |filling, (id, version, own), found| {
            let graph = parse_graph(found)?;
            let graph = filling.graphs.put(*id, *version, *own, graph);
            filling.working.load_graph(*id, *version, *own, graph);
            Ok(())
        },
    );
}

/// A graph from its stored form.
pub(super) fn parse_graph(mut found: Vec<Option<Payload>>) -> Read<Arc<Graph>> {
    let json = found.pop().flatten();
    let json = json.ok_or_else(|| Content::new("it is not stored".to_owned()))?;
    let graph = Graph::from_json(json.as_str());
    graph
        .map(Arc::new)
        .map_err(|error| Content::new(error.to_string()))
}

/// Those that a worker holds are no more than its slots and what it has parked; the rest may be a
/// whole graph.
fn open_tasks<'n>(plan: &mut Plan<'n>, wanted: Wanted<'n, ExecutionId>) {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        let open = format!(
            "SELECT {TASK} FROM ~task_executions WHERE execution = u.execution AND closed_at IS NULL"
        );
        format!(
            "SELECT u.at, t.* FROM unnest($1::bigint[]) WITH ORDINALITY AS u (execution, at) CROSS JOIN LATERAL (\
             ({open} AND worker IS NOT NULL) UNION ALL ({open} AND worker IS NULL ORDER BY number LIMIT {})) t",
            PIECE + 1
        )
    });
    let statement = Statement::new(&SQL, vec![ints(&wanted, |id| id.0)]);
    plan.read(wanted, statement, rows::task, |filling, id, found| {
        let left = found.iter().filter(|task| task.worker.is_none()).count();
        for task in found {
            filling.working.load_task(task.key, Some(task));
        }
        filling.working.load_open_tasks(*id, left > PIECE as usize);
        Ok(())
    });
}

fn failures<'n>(plan: &mut Plan<'n>, wanted: Wanted<'n, ExecutionId>) {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT u.at, {} FROM unnest($1::bigint[]) WITH ORDINALITY AS u (execution, at) \
             JOIN ~task_executions t ON t.execution = u.execution AND t.status IN ('{}', '{}')",
            of("t", TASK),
            TaskStatus::Failed,
            TaskStatus::Abandoned
        )
    });
    let statement = Statement::new(&SQL, vec![ints(&wanted, |id| id.0)]);
    plan.read(wanted, statement, rows::task, |filling, id, found| {
        for task in found {
            filling.working.load_task(task.key, Some(task));
        }
        filling.working.load_failures(*id);
        Ok(())
    });
}

/// What a task changed and its checkpoint; the execution's input goes as number 0.
fn contexts<'n>(plan: &mut Plan<'n>, wanted: Wanted<'n, ExecutionId>) {
    let statement = Statement::new(
        "SELECT u.at, 0, e.input, NULL FROM unnest($1::bigint[]) WITH ORDINALITY AS u (execution, at) \
         JOIN ~executions e ON e.id = u.execution \
         UNION ALL SELECT u.at, t.number, t.changes, t.checkpoint \
         FROM unnest($1::bigint[]) WITH ORDINALITY AS u (execution, at) \
         JOIN ~task_executions t ON t.execution = u.execution \
         WHERE t.changes IS NOT NULL OR t.checkpoint IS NOT NULL",
        vec![ints(&wanted, |id| id.0)],
    );
    let read = |cells: &mut Cells| Ok((cells.int::<u32>()?, cells.payload()?, cells.payload()?));
    plan.read(wanted, statement, read, |filling, id, found| {
        let mut parts = ContextParts::default();
        for (number, first, checkpoint) in found {
            if number == 0 {
                parts.base = context_base(first.as_ref())?;
                continue;
            }
            if let Some(payload) = first {
                parts.changes.insert(number, changes(&payload)?);
            }
            if let Some(payload) = checkpoint {
                parts.checkpoints.insert(number, changes(&payload)?);
            }
        }
        filling.working.load_context(*id, parts);
        Ok(())
    });
}

/// The context an execution began with, from its input.
pub(super) fn context_base(input: Option<&Payload>) -> Read<Map<String, Value>> {
    context::base(input).map_err(|error| Content::new(format!("input: {error}")))
}

/// What a task changed, from its stored form.
pub(super) fn changes(payload: &Payload) -> Read<Changes> {
    serde_json::from_str(payload.as_str())
        .map_err(|error| Content::new(format!("changes: {error}")))
}

// Relies on steps_waiting.
fn waits<'n>(plan: &mut Plan<'n>, wanted: Wanted<'n, TaskKey>) {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT u.at, {} FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS u (execution, task, at) \
             JOIN ~steps t ON t.execution = u.execution AND t.task = u.task AND t.ordinal = 0 ORDER BY t.number",
            of("t", STEP)
        )
    });
    let statement = Statement::new(&SQL, keys(&wanted));
    plan.read(wanted, statement, rows::step, |filling, key, found| {
        let wait = |record: abide_core::step::StepRecord| match record.end {
            StepEnd::Waiting { due_at } => Some(Operation {
                id: record.id,
                due_at,
            }),
            _ => None,
        };
        let waits = found.into_iter().filter_map(wait).collect();
        filling.working.load_waits(*key, waits);
        Ok(())
    });
}

fn step_counts<'n>(plan: &mut Plan<'n>, wanted: Wanted<'n, TaskKey>) {
    let statement = Statement::new(
        "SELECT u.at, (SELECT count(*) FROM ~steps t WHERE t.execution = u.execution AND t.task = u.task) \
         FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS u (execution, task, at)",
        keys(&wanted),
    );
    plan.read(wanted, statement, Cells::int, |filling, key, counts| {
        let count = counts.first().copied().unwrap_or(0);
        filling.working.load_step_count(*key, count);
        Ok(())
    });
}

fn steps<'n>(plan: &mut Plan<'n>, wanted: Wanted<'n, (TaskKey, u32)>) {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT u.at, {} FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) WITH ORDINALITY \
             AS u (execution, task, number, at) \
             JOIN ~steps t ON t.execution = u.execution AND t.task = u.task AND t.number = u.number",
            of("t", STEP)
        )
    });
    let params = vec![
        ints(&wanted, |(key, _)| key.execution.0),
        ints(&wanted, |(key, _)| key.number.into()),
        ints(&wanted, |(_, number)| (*number).into()),
    ];
    let statement = Statement::new(&SQL, params);
    plan.read(
        wanted,
        statement,
        rows::step,
        |filling, (key, number), mut found| {
            let recorded = found.pop().map(|record| record.id.to_string());
            filling.working.load_step(*key, *number, recorded);
            Ok(())
        },
    );
}

// Relies on signals_unread.
fn mailboxes<'n>(plan: &mut Plan<'n>, wanted: Wanted<'n, (ExecutionId, &'n Arc<str>, i64)>) {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT u.at, s.number, s.payload \
             FROM unnest($1::bigint[], $2::text[], $3::bigint[]) WITH ORDINALITY AS u (execution, name, after, at) \
             CROSS JOIN LATERAL (SELECT t.number, t.payload FROM ~signals t WHERE t.execution = u.execution \
             AND t.name = u.name AND t.number > u.after AND t.read_execution IS NULL \
             ORDER BY t.number LIMIT {UNREAD_AT_ONCE}) s ORDER BY s.number"
        )
    });
    let params = vec![
        ints(&wanted, |(id, _, _)| id.0),
        texts(&wanted, |(_, name, _)| *name),
        ints(&wanted, |(_, _, after)| *after),
    ];
    let statement = Statement::new(&SQL, params);
    let read = |cells: &mut Cells| Ok((cells.int()?, cells.payload_there()?));
    plan.read(wanted, statement, read, |filling, (id, name, _), unread| {
        let more = unread.len() == UNREAD_AT_ONCE;
        filling
            .working
            .load_mailbox(*id, (*name).clone(), unread, more);
        Ok(())
    });
}

fn signal_numbers<'n>(plan: &mut Plan<'n>, wanted: Wanted<'n, (&'n Arc<str>, &'n Arc<str>)>) {
    let params = vec![
        texts(&wanted, |(instance, _)| *instance),
        texts(&wanted, |(_, name)| *name),
    ];
    let statement = Statement::new(
        "SELECT u.at, (SELECT coalesce(max(t.number), 0) + 1 FROM ~signals t \
         WHERE t.instance = u.instance AND t.name = u.name) \
         FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS u (instance, name, at)",
        params,
    );
    plan.read(
        wanted,
        statement,
        Cells::int,
        |filling, (instance, name), next| {
            let next = next.first().copied().unwrap_or(1);
            let (instance, name) = ((*instance).clone(), (*name).clone());
            filling.working.load_signal_number(instance, name, next);
            Ok(())
        },
    );
}

// Relies on steps_waiting.
fn signal_waiters<'n>(plan: &mut Plan<'n>, wanted: Wanted<'n, (ExecutionId, &'n Arc<str>)>) {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT DISTINCT u.at, t.task \
             FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY AS u (execution, name, at) \
             JOIN ~steps t ON t.execution = u.execution AND t.ordinal = 0 AND t.kind = '{}' AND t.name = u.name",
            StepKind::Signal
        )
    });
    let params = vec![
        ints(&wanted, |(id, _)| id.0),
        texts(&wanted, |(_, name)| *name),
    ];
    let statement = Statement::new(&SQL, params);
    plan.read(
        wanted,
        statement,
        Cells::int,
        |filling, (id, name), tasks| {
            let tasks = tasks.into_iter().map(|number| TaskKey::new(*id, number));
            let (name, tasks) = ((*name).clone(), tasks.collect());
            filling.working.load_signal_waiters(*id, name, tasks);
            Ok(())
        },
    );
}

fn workers<'n>(plan: &mut Plan<'n>, alive_at: Timestamp, wanted: Wanted<'n, WorkerId>) {
    let statement = Statement::new(
        "SELECT u.at FROM unnest($1::bigint[]) WITH ORDINALITY AS u (id, at) \
         JOIN ~workers w ON w.id = u.id AND w.ended_at IS NULL AND w.lease_until >= $2::bigint",
        vec![ints(&wanted, |id| id.0), Param::Int(Some(alive_at.0))],
    );
    plan.read(
        wanted,
        statement,
        |_| Ok(()),
        |filling, id, alive| {
            filling.working.load_worker(*id, !alive.is_empty());
            Ok(())
        },
    );
}

/// Looks at the head of each stretch of the queues. Relies on the outbox's key.
fn ready_head<'n>(
    plan: &mut Plan<'n>,
    low_water: &LowWater,
    wanted: Wanted<'n, &'n Arc<[VersionId]>>,
) {
    let Some((_, queues)) = wanted.first() else {
        return;
    };
    let statement = Statement::new(
        "SELECT 1, -min(h.rank) \
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS s (queue, lowest, since, highest) \
         CROSS JOIN LATERAL (SELECT t.rank FROM ~task_outbox t WHERE t.worker = 0 AND t.queue = s.queue \
         AND (t.rank, t.ready_at) >= (s.lowest, s.since) AND t.rank <= s.highest \
         ORDER BY t.rank, t.ready_at LIMIT 1) h",
        low_water.stretches(queues).params(),
    );
    plan.read(wanted, statement, Cells::int_option, |filling, _, heads| {
        let head = heads.first().copied().flatten();
        filling.working.load_ready_head(head);
        Ok(())
    });
}
