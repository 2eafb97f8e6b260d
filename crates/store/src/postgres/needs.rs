//! How each kind of need is read. Every statement answers the needs of its kind in the order they
//! are asked for: its rows begin with the place of their need.

use std::convert::Infallible;
use std::sync::Arc;

use abide_core::ids::{ExecutionId, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{Need, Working};
use rustc_hash::FxHashMap;

use crate::graphs::GraphCache;
use crate::reads::{self, Kinds};
use crate::rows::{Columns, FromColumns, of};

use super::arrays::{Arrays, given};
use super::load::{Plan, Wanted};
use super::low_water::LowWater;
use super::rows::{Cells, Content, Read, parse_graph};
use super::statement::{Param, Statement};

/// Needs by kind, with what identifies each.
#[derive(Default)]
struct Sorted<'n> {
    graphs: Wanted<'n, (ExecutionId, VersionId, bool)>,
    workers: Wanted<'n, WorkerId>,
    ready_heads: Vec<VersionId>,
    of_ready_heads: Wanted<'n, &'n Arc<[VersionId]>>,
}

impl<'n> Sorted<'n> {
    fn add(&mut self, working: &Working, need: &'n Need) {
        match need {
            Need::Graph(id, version, own) => self.graphs.push((need, (*id, *version, *own))),
            Need::Worker(id) => self.workers.push((need, *id)),
            Need::ReadyHead(queues) => {
                self.of_ready_heads.push((need, queues));
                // Workers of one process may claim from some of the same queues.
                for queue in working.unread_heads(queues) {
                    if !self.ready_heads.contains(&queue) {
                        self.ready_heads.push(queue);
                    }
                }
            }
            // Locked before anything is read.
            Need::Instance(_) | Need::Execution(_) => {}
            // Of a kind that is declared for both databases.
            Need::WorkflowName(_)
            | Need::Task(_)
            | Need::Tasks(..)
            | Need::Context(_)
            | Need::Waits(_)
            | Need::StepCount(_)
            | Need::Step(..)
            | Need::SignalRead(..)
            | Need::Mailbox(..)
            | Need::SignalNumber(..)
            | Need::SignalWaiters(..) => {}
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
    let mut of_kinds = OfKinds {
        plan,
        working,
        needs,
    };
    let Ok(()) = reads::each(&mut of_kinds);
    graphs(plan, cache, sorted.graphs);
    workers(plan, alive_at, sorted.workers);
    ready_heads(plan, low_water, sorted.ready_heads, sorted.of_ready_heads);
}

fn ints<K>(wanted: &Wanted<'_, K>, of: impl Fn(&K) -> i64) -> Param<'static> {
    Param::Ints(wanted.iter().map(|(_, key)| Some(of(key))).collect())
}

/// Plans a statement for each kind of need.
struct OfKinds<'p, 'n> {
    plan: &'p mut Plan<'n>,
    working: &'p Working,
    needs: &'p [&'n Need],
}

impl Kinds for OfKinds<'_, '_> {
    type Error = Infallible;

    fn kind<R: reads::Read>(&mut self) -> Result<(), Infallible> {
        let of_kind = |need| Some((need, R::of(need, self.working)?));
        let wanted: Wanted<'_, R::Key> = self.needs.iter().copied().filter_map(of_kind).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut arrays = Arrays::of(&R::heads(), wanted.len());
        for (_, key) in &wanted {
            R::put(key, arrays.next_row())?;
        }
        let sql = R::text().postgres.get_or_init(text::<R>);
        let statement = Statement::new(sql, arrays.owned());
        self.plan.read(
            wanted,
            statement,
            R::Row::from_columns,
            |filling, key, rows| R::load(filling.working, key, rows).map_err(Content::new),
        );
        Ok(())
    }
}

fn text<R: reads::Read>() -> String {
    let given = given(&R::heads(), true);
    let select = R::SELECT;
    // Each need's rows are counted, or summed up, by themselves.
    let by_itself = select.limit.is_some() || select.sums_up || select.and.is_some();
    let (mut sql, by) = match by_itself {
        true => {
            let rows = reads::of_one_need::<R>(|_| String::new());
            let sql = format!("SELECT u.at, s.* FROM {given} CROSS JOIN LATERAL ({rows}) s");
            (sql, "s")
        }
        false => {
            let (columns, on) = (of("t", select.columns), reads::on::<R>(&select));
            let table = select.table;
            let sql = format!("SELECT u.at, {columns} FROM {given} JOIN ~{table} t ON {on}");
            (sql, "t")
        }
    };
    if let Some(order) = select.order {
        sql += &format!(" ORDER BY {by}.{order}");
    }
    sql
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
            let graph = parse_graph(found.into_iter().next().flatten())?;
            let graph = filling.graphs.put(id, version, own, graph);
            filling.working.load_graph(id, version, own, graph);
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
            filling.working.load_worker(id, !alive.is_empty());
            Ok(())
        },
    );
}

/// Looks at the head of each stretch of the queues. Relies on the outbox's key.
fn ready_heads<'n>(
    plan: &mut Plan<'n>,
    low_water: &LowWater,
    queues: Vec<VersionId>,
    wanted: Wanted<'n, &'n Arc<[VersionId]>>,
) {
    if queues.is_empty() {
        return;
    }
    let statement = Statement::new(
        "SELECT s.queue, -min(h.rank) \
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS s (queue, lowest, since, highest) \
         CROSS JOIN LATERAL (SELECT t.rank FROM ~task_outbox t WHERE t.worker = 0 AND t.queue = s.queue \
         AND (t.rank, t.ready_at) >= (s.lowest, s.since) AND t.rank <= s.highest \
         ORDER BY t.rank, t.ready_at LIMIT 1) h GROUP BY s.queue",
        low_water.stretches(&queues).params(),
    );
    plan.add(vec![statement], move |filling, mut answers| {
        let mut heads: FxHashMap<VersionId, Read<i16>> = FxHashMap::default();
        for row in answers.pop().unwrap_or_default() {
            let mut cells = Cells::new(row);
            let queue = cells.int().expect("a row begins with its queue");
            heads.insert(VersionId(queue), cells.int());
        }
        for queue in queues {
            match heads.remove(&queue).transpose() {
                Ok(head) => filling.working.load_ready_head(queue, head),
                Err(error) => {
                    let of_queue = wanted.iter().filter(|(_, queues)| queues.contains(&queue));
                    of_queue.for_each(|(need, _)| filling.fail(need, error.clone()));
                }
            }
        }
    });
}
