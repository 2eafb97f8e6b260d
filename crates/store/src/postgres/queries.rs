//! Queries. What one answers is what the store had at one moment, or at a few that follow each other
//! where it takes more than one statement.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::{Arc, LazyLock};

use abide_core::execution::{Execution, Given};
use abide_core::failure::Failure;
use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, VersionId, WorkerId};
use abide_core::kernel::Held;
use abide_core::payload::Payload;
use abide_core::step::StepRecord;
use rustc_hash::FxHashMap;

use crate::error::StoreError;
use crate::graphs::GraphCache;
use crate::listing::{Dialect, Listing, Operand, Page};
use crate::rows::{self, Columns, EXECUTION, STEP, TASK, of};
use crate::views::{
    EndView, ExecutionFilter, ExecutionView, TaskView, VersionInfo, WorkerRow, WorkflowKind,
};
use crate::words::{self, input_of, result_of};

use super::gathered::Found;
use super::load::by_place;
use super::needs::parse_graph;
use super::rows::{Cells, Read};
use super::statement::{Execute, Param, Row, Statement};

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

pub(super) fn key(key: TaskKey) -> Vec<Param<'static>> {
    vec![int(key.execution.0), int(key.number)]
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
    pub(crate) async fn execution(
        &self,
        id: ExecutionId,
    ) -> Result<Option<ExecutionView>, StoreError> {
        let statement = Statement::new(&EXECUTION_BY_ID, vec![int(id.0)]);
        let what = format!("execution {id}");
        one(self.execute, statement, what, rows::execution_view).await
    }

    // Relies on executions_instance.
    pub(crate) async fn latest(&self, instance: &str) -> Result<Option<ExecutionView>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            executions_sql(
                "e.instance = $1 AND e.generation IS NOT NULL ORDER BY e.generation DESC LIMIT 1",
            )
        });
        let statement = Statement::new(&SQL, vec![text(instance)]);
        let what = format!("instance `{instance}`");
        one(self.execute, statement, what, rows::execution_view).await
    }

    // Relies on executions_instance.
    pub(crate) async fn generation(
        &self,
        instance: &str,
        generation: u32,
    ) -> Result<Option<ExecutionView>, StoreError> {
        static SQL: LazyLock<String> =
            LazyLock::new(|| executions_sql("e.instance = $1 AND e.generation = $2::bigint"));
        let statement = Statement::new(&SQL, vec![text(instance), int(generation)]);
        let what = format!("generation {generation} of instance `{instance}`");
        one(self.execute, statement, what, rows::execution_view).await
    }

    /// Newest first; `before` is the last id of the list before.
    pub(crate) async fn executions(
        &self,
        filter: &ExecutionFilter,
        before: Option<ExecutionId>,
        limit: u32,
    ) -> Result<Vec<ExecutionView>, StoreError> {
        let mut listing = Listing::new(before, limit);
        while let Some(page) = listing.next() {
            let rows = rows_of(self.execute, select(page, filter)).await?;
            let view = |row: Row| {
                let id = Cells::new(row[..1].to_vec()).int().map(ExecutionId);
                let view = rows::execution_view(&mut Cells::new(row));
                let view = view.map_err(|error| error.of("an execution"));
                (id.expect("an id is a number"), view)
            };
            listing.add(page, rows.into_iter().map(view).collect());
        }
        Ok(listing.done())
    }

    pub(crate) async fn tasks(
        &self,
        id: ExecutionId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<TaskView>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {TASK}, node, error, progress FROM ~task_executions \
                 WHERE execution = $1::bigint AND number > $2::bigint ORDER BY number LIMIT $3::bigint"
            )
        });
        let statement = Statement::new(&SQL, vec![int(id.0), int(after), int(limit)]);
        let what = format!("a task of execution {id}");
        all(self.execute, statement, what, rows::task_view).await
    }

    /// Ended operations in the order in which they ended, then those that are waited for.
    pub(crate) async fn steps(&self, task: TaskKey) -> Result<Vec<StepRecord>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {STEP} FROM ~steps WHERE execution = $1::bigint AND task = $2::bigint \
                 ORDER BY ordinal = 0, ordinal, number"
            )
        });
        let what = format!("an operation of task {task}");
        all(
            self.execute,
            Statement::new(&SQL, key(task)),
            what,
            rows::step,
        )
        .await
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
        for (id, rows) in ids.iter().zip(by_place(ids.len(), rows, rows::execution)) {
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
        let Some(given) = execution.given() else {
            return Ok(end);
        };
        let graph = self.graph(id, execution.workflow, execution.own_graph);
        let number = given.task(&*graph.await?);
        match (given, number.map(|number| TaskKey::new(id, number))) {
            (Given::Output, task) => outputs.extend(task),
            (Given::Error(_), Some(task)) => {
                end.error = self.error(task, &result_of(id)).await?;
            }
            (Given::Error(_), None) => {}
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

    async fn error(&self, task: TaskKey, what: &str) -> Result<Option<Failure>, StoreError> {
        let sql = "SELECT error FROM ~task_executions WHERE execution = $1::bigint AND number = $2::bigint";
        let statement = Statement::new(sql, key(task));
        let read = one(self.execute, statement, what, rows::failure_option);
        Ok(read.await?.flatten())
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
        let (sql, stored_at) = match own {
            true => ("SELECT graph FROM ~executions WHERE id = $1::bigint", id.0),
            false => (
                "SELECT graph FROM ~workflow_versions WHERE id = $1::bigint",
                version.0,
            ),
        };
        let what = words::graph(id, version, own);
        let statement = Statement::new(sql, vec![int(stored_at)]);
        let found = all(self.execute, statement, &what, Cells::payload).await?;
        let graph = parse_graph(found).map_err(|error| error.of(what))?;
        Ok(self.graphs.put(id, version, own, graph))
    }

    pub(crate) async fn execution_input(
        &self,
        id: ExecutionId,
    ) -> Result<Option<Payload>, StoreError> {
        let sql = "SELECT input FROM ~executions WHERE id = $1::bigint";
        let what = format!("the input of execution {id}");
        let statement = Statement::new(sql, vec![int(id.0)]);
        let read = one(self.execute, statement, what, Cells::payload);
        Ok(read.await?.flatten())
    }

    /// The tasks that a worker holds. Relies on executions_open: whoever holds a task holds one of an
    /// execution that has begun and goes on.
    pub(crate) async fn held_by(&self, worker: WorkerId) -> Result<Vec<Held>, StoreError> {
        let statement = Statement::new(
            "SELECT t.execution, t.number, t.epoch FROM ~executions e JOIN ~task_executions t ON t.execution = e.id \
             WHERE e.closed_at IS NULL AND e.started_at IS NOT NULL AND t.worker = $1::bigint AND t.closed_at IS NULL \
             ORDER BY t.execution, t.number",
            vec![int(worker.0)],
        );
        let read = |cells: &mut Cells| rows::held(cells, worker);
        all(self.execute, statement, "a held task", read).await
    }

    pub(crate) async fn versions(&self) -> Result<Vec<VersionInfo>, StoreError> {
        // Relies on executions_open.
        let sql = "SELECT w.id, w.name, w.version, w.kind, (SELECT count(*) FROM ~executions e \
             WHERE e.workflow_version = w.id AND e.closed_at IS NULL) FROM ~workflow_versions w ORDER BY w.id";
        let statement = Statement::new(sql, Vec::new());
        let found = all(self.execute, statement, "a workflow version", version).await?;
        let ids = found.iter().map(|version| VersionId(version.0));
        let mut graphs = self.version_graphs(ids).await?;
        let mut versions = Vec::with_capacity(found.len());
        for (id, name, version, kind, open_executions) in found {
            let id = VersionId(id);
            match graphs.remove(&id) {
                Some(Ok(graph)) => versions.push(VersionInfo {
                    id,
                    name,
                    version,
                    kind,
                    graph,
                    open_executions,
                }),
                Some(Err(error)) => {
                    let error = error.of(words::graph(ExecutionId(0), id, false));
                    tracing::error!(workflow = name, version, %error, "a workflow version is left aside");
                }
                None => {}
            }
        }
        Ok(versions)
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
        let read = |cells: &mut Cells| Ok((VersionId(cells.int()?), cells.payload()?));
        for (id, json) in all(self.execute, statement, "a workflow version", read).await? {
            let graph = parse_graph(vec![json]);
            let graph = graph.map(|graph| self.graphs.put(ExecutionId(0), id, false, graph));
            graphs.insert(id, graph);
        }
        Ok(graphs)
    }

    pub(crate) async fn workers(&self) -> Result<Vec<WorkerRow>, StoreError> {
        let sql = "SELECT id, host, pid, started_at, lease_until FROM ~workers WHERE ended_at IS NULL ORDER BY id";
        let statement = Statement::new(sql, Vec::new());
        all(self.execute, statement, "a worker", rows::worker).await
    }
}

fn version(cells: &mut Cells) -> Read<(i64, String, String, WorkflowKind, u32)> {
    Ok((
        cells.int()?,
        cells.text()?,
        cells.text()?,
        cells.parse("kind of workflow", WorkflowKind::parse)?,
        cells.int()?,
    ))
}

/// An execution that is published.
pub(super) static EXECUTION_BY_ID: LazyLock<String> =
    LazyLock::new(|| executions_sql("e.id = $1::bigint AND e.generation IS NOT NULL"));

fn executions_sql(condition: &str) -> String {
    format!(
        "SELECT {}, w.name, w.version, e.tags, \
         (SELECT coalesce(max(t.number), 0) FROM ~task_executions t WHERE t.execution = e.id) FROM ~executions e \
         JOIN ~workflow_versions w ON w.id = e.workflow_version WHERE {condition}",
        of("e", EXECUTION)
    )
}

const DIALECT: Dialect = Dialect {
    number: "${n}::bigint",
    text: "${n}",
    begins: "starts_with(e.instance, ??)",
    tagged: "e.tags IS NOT NULL AND e.tags::jsonb ? ??",
};

fn select(page: Page, filter: &ExecutionFilter) -> Statement<'_> {
    let (conditions, operands) = page.conditions(filter, &DIALECT);
    let param = |operand| match operand {
        Operand::Number(number) => int(number),
        Operand::Text(words) => text(words),
    };
    Statement {
        sql: Cow::Owned(executions_sql(&conditions)),
        params: operands.into_iter().map(param).collect(),
    }
}
