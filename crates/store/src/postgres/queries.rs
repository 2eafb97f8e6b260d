//! Queries. What one answers is what the store had at one moment, or at a few that follow each other
//! where it takes more than one statement.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::{Arc, LazyLock};

use abide_core::execution::{Execution, ResultSource};
use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{Held, Notice};
use abide_core::payload::Payload;
use abide_core::status::ExecutionStatus;
use abide_core::step::StepKind;
use rustc_hash::FxHashMap;

use crate::error::StoreError;
use crate::graphs::GraphCache;
use crate::listing::{Dialect, Listing};
use crate::queries::{self, Operand, Query};
use crate::rows::{Columns, EXECUTION, FromColumns, VersionRow, of};
use crate::views::{EndView, ExecutionFilter, ExecutionView, VersionInfo};
use crate::words::{self, input_of, result_of};

use super::rows::{Cells, Read, by_place, parse_graph};
use super::statement::{Execute, Param, Row, Statement};

/// What was found, or why it cannot be read.
pub(crate) type Found<T> = Result<T, StoreError>;

/// A connection that reads, and what reading needs besides it.
pub(crate) struct Reader<'a, E> {
    pub(crate) execute: &'a E,
    pub(crate) graphs: &'a GraphCache,
}

/// A parameter of an id or another number.
pub(super) fn int(number: impl Into<i64>) -> Param<'static> {
    Param::Int(Some(number.into()))
}

pub(super) fn text(text: &str) -> Param<'_> {
    Param::Text(Some(Cow::Borrowed(text)))
}

/// The rows of the one statement that was run.
pub(super) async fn rows_of(
    execute: &(impl Execute + Sync),
    statement: Statement<'_>,
) -> Result<Vec<Row>, StoreError> {
    Ok(execute
        .run(vec![statement])
        .await?
        .pop()
        .unwrap_or_default())
}

/// Reads every row of a statement.
pub(super) async fn all<T>(
    execute: &(impl Execute + Sync),
    statement: Statement<'_>,
    what: impl Display,
    read: impl Fn(&mut Cells) -> Read<T>,
) -> Result<Vec<T>, StoreError> {
    let what = what.to_string();
    let rows = rows_of(execute, statement).await?.into_iter();
    rows.map(|row| read(&mut Cells::new(row)))
        .collect::<Read<_>>()
        .map_err(|error| error.of(what))
}

/// Reads the only row of a statement, if there is one.
pub(super) async fn one<T>(
    execute: &(impl Execute + Sync),
    statement: Statement<'_>,
    what: impl Display,
    read: impl Fn(&mut Cells) -> Read<T>,
) -> Result<Option<T>, StoreError> {
    Ok(all(execute, statement, what, read).await?.pop())
}

impl<E: Execute + Sync> Reader<'_, E> {
    /// Every row of a query.
    pub(crate) async fn all<R: FromColumns>(
        &self,
        query: Query<'_, R>,
    ) -> Result<Vec<R>, StoreError> {
        answers(self.execute, query).await
    }

    /// The only row of a query, if there is one.
    pub(crate) async fn one<R: FromColumns>(
        &self,
        query: Query<'_, R>,
    ) -> Result<Option<R>, StoreError> {
        Ok(self.all(query).await?.pop())
    }

    /// Newest first; `before` is the last id of the list before.
    pub(crate) async fn executions(
        &self,
        filter: &ExecutionFilter,
        before: Option<ExecutionId>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<ExecutionView>, StoreError> {
        let mut listing = Listing::new(before, limit);
        while let Some(page) = listing.next() {
            let rows = self.all(queries::page(page, filter, now, &DIALECT));
            listing.add(page, rows.await?);
        }
        Ok(listing.done())
    }

    /// How executions stand, each with what it gave if it has ended, in their order.
    pub(crate) async fn ends(
        &self,
        ids: &[ExecutionId],
    ) -> Result<Vec<Found<Option<EndView>>>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT u.at, {} FROM unnest($1::bigint[]) WITH ORDINALITY AS u (id, at) \
                 JOIN ~executions e ON e.id = u.id WHERE e.generation IS NOT NULL",
                of("e", EXECUTION)
            )
        });
        let of_ids = Param::Ints(ids.iter().map(|id| Some(id.0)).collect());
        let rows = rows_of(self.execute, Statement::new(&SQL, vec![of_ids])).await?;
        let (mut ends, mut outputs) = (Vec::with_capacity(ids.len()), Vec::new());
        for (id, rows) in ids
            .iter()
            .zip(by_place(ids.len(), rows, Execution::from_columns))
        {
            let execution = rows.map(|mut rows| rows.pop());
            let execution = execution.map_err(|error| error.of(result_of(*id)));
            ends.push(match execution {
                Ok(Some(execution)) => self.end(&execution, &mut outputs).await.map(Some),
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            });
        }
        for (task, output) in outputs.iter().zip(self.outputs_of(&outputs).await?) {
            let of_task = ids.iter().zip(&mut ends);
            for (_, end) in of_task.filter(|(id, _)| **id == task.execution) {
                match (&mut *end, &output) {
                    (Ok(Some(end)), Ok(output)) => end.output = output.clone(),
                    (_, Ok(_)) => {}
                    (end, Err(error)) => *end = Err(error.clone()),
                }
            }
        }
        Ok(ends)
    }

    /// How it stands, but for its output, whose task is added to those to read.
    async fn end(
        &self,
        execution: &Execution,
        outputs: &mut Vec<TaskKey>,
    ) -> Result<EndView, StoreError> {
        let id = execution.id;
        let mut end = EndView::of(execution);
        let Some(source) = execution.result_source() else {
            return Ok(end);
        };
        let graph = self.graph(id, execution.workflow, execution.own_graph);
        let graph = graph.await?;
        let number = source.task(&graph);
        match (source, number.map(|number| TaskKey::new(id, number))) {
            (ResultSource::Output, task) => outputs.extend(task),
            (ResultSource::Error(number), Some(task)) => {
                end.failed_node = Some(graph.node_id(number).to_owned());
                let failure = self.one(queries::failure(task, result_of(id)));
                end.error = failure.await?.flatten();
            }
            (ResultSource::Error(_), None) => {}
        }
        Ok(end)
    }

    /// The outputs of tasks, in their order.
    async fn outputs_of(
        &self,
        tasks: &[TaskKey],
    ) -> Result<Vec<Found<Option<Payload>>>, StoreError> {
        let sql = "SELECT u.at, t.output FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY \
             AS u (execution, number, at) \
             JOIN ~task_executions t ON t.execution = u.execution AND t.number = u.number";
        self.payloads_of(sql, tasks, |task| result_of(task.execution))
            .await
    }

    /// The inputs of tasks, their own or the workflow's, in their order.
    pub(crate) async fn task_inputs(
        &self,
        tasks: &[TaskKey],
    ) -> Result<Vec<Found<Option<Payload>>>, StoreError> {
        let sql = "SELECT u.at, coalesce(t.input, e.input) \
             FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS u (execution, number, at) \
             JOIN ~executions e ON e.id = u.execution \
             LEFT JOIN ~task_executions t ON t.execution = e.id AND t.number = u.number";
        self.payloads_of(sql, tasks, input_of).await
    }

    async fn payloads_of(
        &self,
        sql: &'static str,
        tasks: &[TaskKey],
        what: impl Fn(TaskKey) -> String,
    ) -> Result<Vec<Found<Option<Payload>>>, StoreError> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let params = vec![
            Param::Ints(tasks.iter().map(|t| Some(t.execution.0)).collect()),
            Param::Ints(tasks.iter().map(|t| Some(t.number.into())).collect()),
        ];
        let rows = rows_of(self.execute, Statement::new(sql, params)).await?;
        let found = by_place(tasks.len(), rows, Cells::payload).into_iter();
        let found = tasks.iter().zip(found).map(|(task, found)| {
            let found = found.map(|mut found| found.pop().flatten());
            found.map_err(|error| error.of(what(*task)))
        });
        Ok(found.collect())
    }

    pub(crate) async fn graph(
        &self,
        id: ExecutionId,
        version: VersionId,
        own: bool,
    ) -> Result<Arc<Graph>, StoreError> {
        if let Some(graph) = self.graphs.get(id, version, own) {
            return Ok(graph);
        }
        let query = queries::graph(id, version, own);
        let what = query.what.clone();
        let found = self.one(query).await?.flatten();
        let graph = parse_graph(found).map_err(|error| error.of(what))?;
        Ok(self.graphs.put(id, version, own, graph))
    }

    /// The tasks that a worker holds. Relies on executions_open: whoever holds a task holds one of an
    /// execution that has begun and goes on.
    pub(crate) async fn held_by(&self, worker: WorkerId) -> Result<Vec<Held>, StoreError> {
        let statement = Statement::new(
            "SELECT t.execution, t.number, t.epoch, t.worker FROM ~executions e JOIN ~task_executions t ON t.execution = e.id \
             WHERE e.closed_at IS NULL AND e.started_at IS NOT NULL AND t.worker = $1::bigint AND t.closed_at IS NULL \
             ORDER BY t.execution, t.number",
            vec![int(worker.0)],
        );
        all(self.execute, statement, "a held task", Held::from_columns).await
    }

    /// What the tasks that a worker holds have to hear: that a message which one of them waits for is
    /// there, or that an execution is stopping. Relies on executions_open, steps_waiting and
    /// signals_unread.
    pub(crate) async fn notices_for(&self, worker: WorkerId) -> Result<Vec<Notice>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let stopping = ExecutionStatus::Cancelling;
            format!(
                "SELECT t.execution, t.number, (e.status = '{stopping}')::int::bigint FROM ~executions e \
                 JOIN ~task_executions t ON t.execution = e.id WHERE e.closed_at IS NULL AND e.started_at IS NOT NULL \
                 AND t.worker = $1::bigint AND t.closed_at IS NULL AND (e.status = '{stopping}' OR EXISTS (\
                 SELECT FROM ~steps s JOIN ~signals g ON g.execution = s.execution AND g.name = s.name \
                 WHERE s.execution = t.execution AND s.task = t.number AND s.state = 'waiting' AND s.kind = '{signal}' \
                 AND g.read_execution IS NULL)) ORDER BY t.execution, t.number",
                signal = StepKind::Signal,
            )
        });
        let statement = Statement::new(&SQL, vec![int(worker.0)]);
        all(self.execute, statement, "a held task", Notice::from_columns).await
    }

    pub(crate) async fn versions(&self) -> Result<Vec<VersionInfo>, StoreError> {
        let found = self.all(queries::versions()).await?;
        let ids = found.iter().map(|version| version.id);
        let mut graphs = self.version_graphs(ids).await?;
        let with_graph = |version: VersionRow| {
            let graph = graphs.remove(&version.id)?;
            let what = words::graph(ExecutionId(0), version.id, false);
            version
                .with(graph.map_err(|error| error.of(what)))
                .transpose()
        };
        found.into_iter().filter_map(with_graph).collect()
    }

    async fn version_graphs(
        &self,
        ids: impl Iterator<Item = VersionId>,
    ) -> Result<FxHashMap<VersionId, Read<Arc<Graph>>>, StoreError> {
        let mut graphs = FxHashMap::default();
        let mut missing = Vec::new();
        for id in ids {
            match self.graphs.get(ExecutionId(0), id, false) {
                Some(graph) => drop(graphs.insert(id, Ok(graph))),
                None => missing.push(Some(id.0)),
            }
        }
        if missing.is_empty() {
            return Ok(graphs);
        }
        let statement = Statement::new(
            "SELECT id, graph FROM ~workflow_versions WHERE id = ANY ($1::bigint[])",
            vec![Param::Ints(missing)],
        );
        type Stored = (VersionId, Option<Payload>);
        let read = Stored::from_columns;
        for (id, json) in all(self.execute, statement, "a workflow version", read).await? {
            let graph = parse_graph(json);
            let graph = graph.map(|graph| self.graphs.put(ExecutionId(0), id, false, graph));
            graphs.insert(id, graph);
        }
        Ok(graphs)
    }
}

/// Every row of a query.
pub(super) async fn answers<R: FromColumns>(
    execute: &(impl Execute + Sync),
    query: Query<'_, R>,
) -> Result<Vec<R>, StoreError> {
    all(execute, statement(&query), query.what, R::from_columns).await
}

/// A query as a statement.
pub(super) fn statement<'q, R: FromColumns>(query: &Query<'q, R>) -> Statement<'q> {
    let param = |operand: &Operand<'q>| match *operand {
        Operand::Number(number) => int(number),
        Operand::Text(words) => text(words),
    };
    Statement {
        sql: query.postgres(),
        params: query.operands.iter().map(param).collect(),
    }
}

const DIALECT: Dialect = Dialect {
    begins: "starts_with(e.instance, ??)",
    tagged: "e.tags IS NOT NULL AND e.tags::jsonb ? ??",
};
