//! Queries, on read connections. What they answer is what the store had at one moment.

use std::sync::Arc;

use abide_core::context::{self, fold};
use abide_core::execution::Given;
use abide_core::graph::{Graph, Uses};
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{Claimed, Held};
use abide_core::payload::Payload;
use abide_core::step::StepRecord;
use abide_core::trigger::Ending;
use rusqlite::types::ToSqlOutput;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use crate::error::StoreError;
use crate::graphs::GraphCache;
use crate::health::{Health, Ready};
use crate::listing::{Dialect, Listing, Operand, Page};
use crate::rows::{self, Columns, EVENT, EXECUTION, STEP, TASK, of};
use crate::views::{
    ContextView, EndView, EventFilter, EventView, ExecutionFilter, ExecutionView, TaskInputs,
    TaskView, VersionInfo, WorkerRow, WorkflowKind,
};
use crate::words::{input_of, result_of};

use super::connection::Database;
use super::load;
use super::rows::{Cells, is_content, payload};

pub(super) type Read<T> = rusqlite::Result<T>;

/// A read connection and what reading needs besides it.
pub(crate) struct Reader<'a> {
    pub(crate) database: &'a Database,
    pub(crate) connection: &'a Connection,
    pub(crate) graphs: &'a GraphCache,
}

impl Reader<'_> {
    pub(super) fn fail(
        &self,
        what: impl std::fmt::Display,
    ) -> impl Fn(rusqlite::Error) -> StoreError {
        move |error| self.database.read_error(error, &what)
    }

    pub(super) fn cells<'a, 'r>(&'a self, row: &'a Row<'r>) -> Cells<'a, 'r> {
        Cells::new(self.connection, row)
    }

    pub(crate) fn execution(&self, id: ExecutionId) -> Result<Option<ExecutionView>, StoreError> {
        let sql = executions_sql("e.id = ?1 AND e.generation IS NOT NULL");
        let read = || {
            self.connection
                .prepare_cached(&sql)?
                .query_row([id.0], |row| rows::execution_view(&mut self.cells(row)))
                .optional()
        };
        read().map_err(self.fail(format!("execution {id}")))
    }

    // Relies on executions_instance.
    pub(crate) fn latest(&self, instance: &str) -> Result<Option<ExecutionView>, StoreError> {
        let sql = executions_sql(
            "e.instance = ?1 AND e.generation IS NOT NULL ORDER BY e.generation DESC LIMIT 1",
        );
        let read = || {
            self.connection
                .prepare_cached(&sql)?
                .query_row([instance], |row| rows::execution_view(&mut self.cells(row)))
                .optional()
        };
        read().map_err(self.fail(format!("instance `{instance}`")))
    }

    // Relies on executions_instance.
    pub(crate) fn generation(
        &self,
        instance: &str,
        generation: u32,
    ) -> Result<Option<ExecutionView>, StoreError> {
        let sql = executions_sql("e.instance = ?1 AND e.generation = ?2");
        let read = || {
            self.connection
                .prepare_cached(&sql)?
                .query_row(params![instance, generation], |row| {
                    rows::execution_view(&mut self.cells(row))
                })
                .optional()
        };
        read().map_err(self.fail(format!("generation {generation} of instance `{instance}`")))
    }

    /// Newest first; `before` is the last id of the list before.
    pub(crate) fn executions(
        &self,
        filter: &ExecutionFilter,
        before: Option<ExecutionId>,
        limit: u32,
    ) -> Result<Vec<ExecutionView>, StoreError> {
        let mut listing = Listing::new(before, limit);
        while let Some(page) = listing.next() {
            let rows = self.page(page, filter).map_err(self.fail("an execution"))?;
            listing.add(page, rows);
        }
        Ok(listing.done())
    }

    fn page(
        &self,
        page: Page,
        filter: &ExecutionFilter,
    ) -> Read<Vec<(ExecutionId, Read<ExecutionView>)>> {
        let (conditions, operands) = page.conditions(filter, &DIALECT);
        let value = |operand| match operand {
            Operand::Number(number) => ToSqlOutput::from(number),
            Operand::Text(text) => ToSqlOutput::from(text),
        };
        let values = params_from_iter(operands.into_iter().map(value));
        let mut statement = self.connection.prepare(&executions_sql(&conditions))?;
        let rows = statement.query_map(values, |row| {
            let id = ExecutionId(row.get(0)?);
            match rows::execution_view(&mut self.cells(row)) {
                Err(error) if !is_content(&error) => Err(error),
                view => Ok((id, view)),
            }
        })?;
        rows.collect()
    }

    pub(crate) fn tasks(
        &self,
        id: ExecutionId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<TaskView>, StoreError> {
        let sql = format!(
            "SELECT {TASK}, node, error, progress FROM task_executions WHERE execution = ?1 AND number > ?2 \
             ORDER BY number LIMIT ?3"
        );
        let read = || -> Read<Vec<TaskView>> {
            let mut statement = self.connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params![id.0, after, limit], |row| {
                rows::task_view(&mut self.cells(row))
            })?;
            rows.collect()
        };
        read().map_err(self.fail(format!("a task of execution {id}")))
    }

    /// Oldest first, after a position.
    pub(crate) fn events(
        &self,
        filter: &EventFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<EventView>, StoreError> {
        let execution = filter.task.map(|key| key.execution).or(filter.execution);
        let condition = match (execution, filter.task) {
            // Relies on execution_events_stream; positions of one execution are few.
            (Some(_), Some(_)) => "execution = ?3 AND task = ?4 AND position > ?1",
            (Some(_), None) => "execution = ?3 AND position > ?1",
            (None, _) => "position > ?1",
        };
        // The page is chosen in the index alone, so that rows outside it are not looked up.
        let sql = format!(
            "SELECT {EVENT} FROM execution_events WHERE position IN \
             (SELECT position FROM execution_events WHERE {condition} ORDER BY position LIMIT ?2) ORDER BY position"
        );
        let read = || -> Read<Vec<EventView>> {
            let mut statement = self.connection.prepare_cached(&sql)?;
            let mut values: Vec<i64> = vec![after, i64::from(limit)];
            values.extend(execution.map(|id| id.0));
            values.extend(filter.task.map(|key| i64::from(key.number)));
            let rows = statement.query_map(params_from_iter(values), |row| {
                rows::event(&mut self.cells(row))
            })?;
            rows.collect()
        };
        read().map_err(self.fail("an event"))
    }

    pub(crate) fn last_position(&self) -> Result<i64, StoreError> {
        let sql = "SELECT coalesce(max(position), 0) FROM execution_events";
        let read = self.connection.query_row(sql, [], |row| row.get(0));
        read.map_err(self.fail("an event"))
    }

    /// Ended operations in the order in which they ended, then those that are waited for.
    pub(crate) fn steps(&self, key: TaskKey) -> Result<Vec<StepRecord>, StoreError> {
        let sql = format!(
            "SELECT {STEP} FROM steps WHERE execution = ?1 AND task = ?2 ORDER BY ordinal = 0, ordinal, number"
        );
        let read = || -> Read<Vec<StepRecord>> {
            let mut statement = self.connection.prepare_cached(&sql)?;
            let rows = statement.query_map(params![key.execution.0, key.number], |row| {
                rows::step(&mut self.cells(row))
            })?;
            rows.collect()
        };
        read().map_err(self.fail(format!("an operation of task {key}")))
    }

    /// How an execution stands, with what it gave if it has ended.
    pub(crate) fn end(&self, id: ExecutionId) -> Result<Option<EndView>, StoreError> {
        let what = result_of(id);
        let execution = load::execution(self.connection, id).map_err(self.fail(&what))?;
        let Some(execution) = execution.filter(|execution| execution.generation.is_some()) else {
            return Ok(None);
        };
        let mut end = EndView::of(&execution);
        if let Some(given) = execution.given() {
            let graph = self.graph(id, execution.workflow, execution.own_graph)?;
            let task = given.task(&graph).map(|number| TaskKey::new(id, number));
            match (given, task) {
                (Given::Output, Some(task)) => {
                    end.output = self.output(task).map_err(self.fail(&what))?;
                }
                (Given::Error(_), Some(task)) => {
                    end.error = self.error(task).map_err(self.fail(&what))?;
                }
                (_, None) => {}
            }
        }
        Ok(Some(end))
    }

    pub(crate) fn graph(
        &self,
        id: ExecutionId,
        version: VersionId,
        own: bool,
    ) -> Result<Arc<Graph>, StoreError> {
        load::load_graph(
            self.database,
            self.connection,
            self.graphs,
            id,
            version,
            own,
        )
    }

    fn column(&self, sql: &str, key: TaskKey) -> Read<Option<Payload>> {
        let stored: Option<Option<String>> = self
            .connection
            .prepare_cached(sql)?
            .query_row(params![key.execution.0, key.number], |row| row.get(0))
            .optional()?;
        payload(self.connection, stored.flatten())
    }

    pub(crate) fn output(&self, key: TaskKey) -> Read<Option<Payload>> {
        self.column(
            "SELECT output FROM task_executions WHERE execution = ?1 AND number = ?2",
            key,
        )
    }

    fn error(&self, key: TaskKey) -> Read<Option<abide_core::failure::Failure>> {
        let found = self
            .connection
            .prepare_cached(
                "SELECT error FROM task_executions WHERE execution = ?1 AND number = ?2",
            )?
            .query_row(params![key.execution.0, key.number], |row| {
                rows::failure_option(&mut self.cells(row))
            })
            .optional()?;
        Ok(found.flatten())
    }

    /// What a claimed task is given to work with, as far as its code asks for it.
    pub(crate) fn inputs(&self, claimed: &Claimed, uses: &Uses) -> Result<TaskInputs, StoreError> {
        let key = claimed.task.key;
        let fail = self.fail(input_of(key));
        let mut inputs = TaskInputs::default();
        if uses.input {
            inputs.input = match &claimed.input {
                Some(input) => Some(input.clone()),
                None => self.input(key).map_err(&fail)?,
            };
        }
        if uses.outputs {
            inputs.outputs = self.outputs(key, &claimed.graph).map_err(&fail)?;
        }
        if uses.context {
            inputs.context = Some(self.context(key, &claimed.graph).map_err(&fail)?);
        }
        Ok(inputs)
    }

    fn input(&self, key: TaskKey) -> Read<Option<Payload>> {
        let own = self.column(
            "SELECT input FROM task_executions WHERE execution = ?1 AND number = ?2",
            key,
        )?;
        match own {
            Some(own) => Ok(Some(own)),
            None => self.input_of_execution(key.execution),
        }
    }

    fn input_of_execution(&self, id: ExecutionId) -> Read<Option<Payload>> {
        let stored: Option<Option<String>> = self
            .connection
            .prepare_cached("SELECT input FROM executions WHERE id = ?1")?
            .query_row([id.0], |row| row.get(0))
            .optional()?;
        payload(self.connection, stored.flatten())
    }

    pub(crate) fn execution_input(&self, id: ExecutionId) -> Result<Option<Payload>, StoreError> {
        self.input_of_execution(id)
            .map_err(self.fail(format!("the input of execution {id}")))
    }

    fn outputs(&self, key: TaskKey, graph: &Graph) -> Read<Vec<(u32, Ending, Option<Payload>)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT status, output FROM task_executions WHERE execution = ?1 AND number = ?2",
        )?;
        let mut outputs = Vec::with_capacity(graph.dependencies(key.number).len());
        for &number in graph.dependencies(key.number) {
            let row: Option<(String, Option<String>)> = statement
                .query_row(params![key.execution.0, number], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            let Some((status, output)) = row else {
                continue;
            };
            let ending = rows::ending(&status);
            outputs.push((number, ending, payload(self.connection, output)?));
        }
        Ok(outputs)
    }

    fn context(&self, key: TaskKey, graph: &Graph) -> Read<ContextView> {
        let has = |number: u32| {
            let found = self
                .connection
                .prepare_cached(
                    "SELECT checkpoint IS NOT NULL FROM task_executions WHERE execution = ?1 AND number = ?2",
                )
                .and_then(|mut statement| statement.query_row(params![key.execution.0, number], |row| row.get(0)));
            found.unwrap_or(false)
        };
        let sources = context::sources(graph, key.number, &has);
        let base = load::context_base(self.connection, key.execution)?;
        let of = |number: u32| TaskKey::new(key.execution, number);
        let mut parts = Vec::with_capacity(sources.changes.len() + 1);
        if let Some(number) = sources.checkpoint {
            let sql = "SELECT checkpoint FROM task_executions WHERE execution = ?1 AND number = ?2";
            if let Some(checkpoint) = self.column(sql, of(number))? {
                parts.push(load::changes(&checkpoint)?);
            }
        }
        let charged = context::chargeable(graph, key.number, &sources, &has);
        let mut charged_bytes = 0;
        for &number in &sources.changes {
            let sql = "SELECT changes FROM task_executions WHERE execution = ?1 AND number = ?2";
            let Some(changes) = self.column(sql, of(number))? else {
                continue;
            };
            if charged.contains(&number) {
                charged_bytes += changes.len() + context::SOURCE_COST;
            }
            parts.push(load::changes(&changes)?);
        }
        Ok(ContextView {
            map: fold(base.clone(), &parts),
            base,
            charged_bytes,
        })
    }

    /// The tasks that a worker holds. Relies on task_executions_worker.
    pub(crate) fn held_by(&self, worker: WorkerId) -> Result<Vec<Held>, StoreError> {
        let read = || -> Read<Vec<Held>> {
            let mut statement = self.connection.prepare_cached(
                "SELECT execution, number, epoch FROM task_executions WHERE worker = ?1 ORDER BY execution, number",
            )?;
            let rows =
                statement.query_map([worker.0], |row| rows::held(&mut self.cells(row), worker))?;
            rows.collect()
        };
        read().map_err(self.fail("a held task"))
    }

    pub(crate) fn versions(&self) -> Result<Vec<VersionInfo>, StoreError> {
        let read = || -> Read<Vec<_>> {
            let mut statement = self.connection.prepare_cached(
                "SELECT w.id, w.name, w.version, w.kind, (SELECT count(*) FROM executions e \
                 WHERE e.workflow_version = w.id AND e.closed_at IS NULL) FROM workflow_versions w ORDER BY w.id",
            )?;
            let rows = statement.query_map([], |row| {
                let mut cells = self.cells(row);
                Ok((
                    cells.int()?,
                    cells.text()?,
                    cells.text()?,
                    cells.parse("kind of workflow", WorkflowKind::parse)?,
                    cells.int()?,
                ))
            })?;
            rows.collect()
        };
        let rows = read().map_err(self.fail("a workflow version"))?;
        let mut versions = Vec::with_capacity(rows.len());
        for (id, name, version, kind, open_executions) in rows {
            let id = VersionId(id);
            let graph = match self.graph(ExecutionId(0), id, false) {
                Err(error @ StoreError::Undecodable { .. }) => {
                    tracing::error!(workflow = name, version, %error, "a workflow version is left aside");
                    continue;
                }
                graph => graph?,
            };
            versions.push(VersionInfo {
                id,
                name,
                version,
                kind,
                graph,
                open_executions,
            });
        }
        Ok(versions)
    }

    /// How the file fares.
    pub(crate) fn health(&self) -> Result<Health, StoreError> {
        let read = || -> Read<Vec<Ready>> {
            let mut statement = self.connection.prepare_cached(
                "SELECT queue, count(*), min(ready_at) FROM task_outbox WHERE worker = 0 GROUP BY queue ORDER BY queue",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(Ready {
                    queue: VersionId(row.get(0)?),
                    tasks: row.get::<_, i64>(1)?.unsigned_abs(),
                    oldest_at: row.get::<_, Option<i64>>(2)?.map(Timestamp),
                })
            })?;
            rows.collect()
        };
        let size =
            |suffix| std::fs::metadata(self.database.beside(suffix)).map_or(0, |of| of.len());
        Ok(Health {
            ready: read().map_err(self.fail("the outbox"))?,
            bytes: size("") + size("-wal"),
            ..Health::default()
        })
    }

    pub(crate) fn workers(&self) -> Result<Vec<WorkerRow>, StoreError> {
        let read = || -> Read<Vec<WorkerRow>> {
            let mut statement = self.connection.prepare_cached(
                "SELECT id, host, pid, started_at, lease_until FROM workers WHERE ended_at IS NULL ORDER BY id",
            )?;
            let rows = statement.query_map([], |row| rows::worker(&mut self.cells(row)))?;
            rows.collect()
        };
        read().map_err(self.fail("a worker"))
    }
}

fn executions_sql(condition: &str) -> String {
    format!(
        "SELECT {}, w.name, w.version, e.tags, \
         (SELECT coalesce(max(t.number), 0) FROM task_executions t WHERE t.execution = e.id) FROM executions e \
         JOIN workflow_versions w ON w.id = e.workflow_version WHERE {condition}",
        of("e", EXECUTION)
    )
}

const DIALECT: Dialect = Dialect {
    number: "?{n}",
    text: "?{n}",
    begins: "substr(e.instance, 1, length(??)) = ??",
    tagged: "e.tags IS NOT NULL AND EXISTS (SELECT 1 FROM json_each(e.tags) WHERE value = ??)",
};
