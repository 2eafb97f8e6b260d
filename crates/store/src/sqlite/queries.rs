//! Queries, on read connections. What they answer is what the store had at one moment.

use std::sync::{Arc, LazyLock};

use abide_core::context::{self, fold};
use abide_core::execution::ResultSource;
use abide_core::graph::{Graph, Uses};
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{Claimed, Held, Notice};
use abide_core::payload::Payload;
use abide_core::status::ExecutionStatus;
use abide_core::step::StepKind;
use abide_core::trigger::Ending;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use crate::error::StoreError;
use crate::graphs::GraphCache;
use crate::health::Health;
use crate::listing::{Dialect, Listing};
use crate::queries::{self, Query, changes, context_base};
use crate::rows::{EVENT, FromColumns, VersionRow};
use crate::views::{
    ContextView, EndView, EventFilter, EventView, ExecutionFilter, ExecutionView, TaskInputs,
    VersionInfo,
};
use crate::words::{input_of, result_of};

use super::connection::Database;
use super::load;
use super::rows::{Cells, all, rows};

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

    /// Every row of a query.
    pub(crate) fn all<R: FromColumns>(&self, query: Query<'_, R>) -> Result<Vec<R>, StoreError> {
        all(self.connection, &query).map_err(self.fail(query.what))
    }

    /// The only row of a query, if there is one.
    pub(crate) fn one<R: FromColumns>(&self, query: Query<'_, R>) -> Result<Option<R>, StoreError> {
        Ok(self.all(query)?.pop())
    }

    /// Newest first; `before` is the last id of the list before.
    pub(crate) fn executions(
        &self,
        filter: &ExecutionFilter,
        before: Option<ExecutionId>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<ExecutionView>, StoreError> {
        let mut listing = Listing::new(before, limit);
        while let Some(page) = listing.next() {
            listing.add(page, self.all(queries::page(page, filter, now, &DIALECT))?);
        }
        Ok(listing.done())
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
        let mut values: Vec<i64> = vec![after, i64::from(limit)];
        values.extend(execution.map(|id| id.0));
        values.extend(filter.task.map(|key| i64::from(key.number)));
        rows(self.connection, &sql, params_from_iter(values)).map_err(self.fail("an event"))
    }

    pub(crate) fn last_position(&self) -> Result<i64, StoreError> {
        let sql = "SELECT coalesce(max(position), 0) FROM execution_events";
        let read = self.connection.query_row(sql, [], |row| row.get(0));
        read.map_err(self.fail("an event"))
    }

    /// How an execution stands, with what it gave if it has ended.
    pub(crate) fn end(&self, id: ExecutionId) -> Result<Option<EndView>, StoreError> {
        let what = result_of(id);
        let execution = load::execution(self.connection, id).map_err(self.fail(&what))?;
        let Some(execution) = execution.filter(|execution| execution.generation.is_some()) else {
            return Ok(None);
        };
        let mut end = EndView::of(&execution);
        if let Some(source) = execution.result_source() {
            let graph = self.graph(id, execution.workflow, execution.own_graph)?;
            let task = source.task(&graph).map(|number| TaskKey::new(id, number));
            match (source, task) {
                (ResultSource::Output, Some(task)) => {
                    end.output = self.output(task).map_err(self.fail(&what))?;
                }
                (ResultSource::Error(number), Some(task)) => {
                    end.failed_node = Some(graph.node_id(number).to_owned());
                    end.error = self.one(queries::failure(task, what))?.flatten();
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
        let found = rows(self.connection, sql, params![key.execution.0, key.number]);
        Ok(found?.pop().flatten())
    }

    pub(crate) fn output(&self, key: TaskKey) -> Read<Option<Payload>> {
        self.column(
            "SELECT output FROM task_executions WHERE execution = ?1 AND number = ?2",
            key,
        )
    }

    /// What a claimed task is given to work with, as far as its code asks for it.
    pub(crate) fn inputs(&self, claimed: &Claimed, uses: &Uses) -> Result<TaskInputs, StoreError> {
        let key = claimed.task.key;
        let fail = self.fail(input_of(key));
        let mut inputs = TaskInputs::default();
        if uses.input {
            inputs.input = match &claimed.input {
                Some(input) => Some(input.clone()),
                None => self.input(key)?,
            };
        }
        if uses.outputs {
            inputs.outputs = self.outputs(key, &claimed.graph).map_err(&fail)?;
        }
        if uses.context {
            inputs.context = Some(self.context(key, &claimed.graph)?);
        }
        Ok(inputs)
    }

    /// The task's own input, or the execution's.
    fn input(&self, key: TaskKey) -> Result<Option<Payload>, StoreError> {
        let sql = "SELECT input FROM task_executions WHERE execution = ?1 AND number = ?2";
        match self.column(sql, key).map_err(self.fail(input_of(key)))? {
            Some(own) => Ok(Some(own)),
            None => Ok(self
                .one(queries::input(key.execution, input_of(key)))?
                .flatten()),
        }
    }

    fn outputs(&self, key: TaskKey, graph: &Graph) -> Read<Vec<(u32, Ending, Option<Payload>)>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT status, output FROM task_executions WHERE execution = ?1 AND number = ?2",
        )?;
        let mut outputs = Vec::with_capacity(graph.dependencies(key.number).len());
        for &number in graph.dependencies(key.number) {
            let read = |row: &Row<'_>| FromColumns::from_columns(&mut self.cells(row));
            let found = statement.query_row(params![key.execution.0, number], read);
            if let Some((ending, output)) = found.optional()? {
                outputs.push((number, ending, output));
            }
        }
        Ok(outputs)
    }

    fn context(&self, key: TaskKey, graph: &Graph) -> Result<ContextView, StoreError> {
        let undecodable = |detail| StoreError::Undecodable {
            what: input_of(key),
            detail,
        };
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
        let input = self.one(queries::input(key.execution, input_of(key)))?;
        let base = context_base(input.flatten().as_ref()).map_err(undecodable)?;
        let of = |number: u32| TaskKey::new(key.execution, number);
        let mut parts = Vec::with_capacity(sources.changes.len() + 1);
        if let Some(number) = sources.checkpoint {
            let checkpoint = queries::checkpoint(of(number), input_of(key));
            if let Some(checkpoint) = self.one(checkpoint)?.flatten() {
                parts.push(changes(&checkpoint).map_err(undecodable)?);
            }
        }
        let charged = context::chargeable(graph, key.number, &sources, &has);
        let mut charged_bytes = 0;
        for &number in &sources.changes {
            let sql = "SELECT changes FROM task_executions WHERE execution = ?1 AND number = ?2";
            let stored = self.column(sql, of(number));
            let Some(stored) = stored.map_err(self.fail(input_of(key)))? else {
                continue;
            };
            if charged.contains(&number) {
                charged_bytes += stored.len() + context::SOURCE_COST;
            }
            parts.push(changes(&stored).map_err(undecodable)?);
        }
        Ok(ContextView {
            map: fold(base.clone(), &parts),
            base,
            charged_bytes,
        })
    }

    /// The tasks that a worker holds. Relies on task_executions_worker.
    pub(crate) fn held_by(&self, worker: WorkerId) -> Result<Vec<Held>, StoreError> {
        let sql = "SELECT execution, number, epoch, worker FROM task_executions WHERE worker = ?1 \
             ORDER BY execution, number";
        rows(self.connection, sql, [worker.0]).map_err(self.fail("a held task"))
    }

    /// What the tasks that a worker holds have to hear: that a message which one of them waits for is
    /// there, or that an execution is stopping. Relies on task_executions_worker, steps_waiting and
    /// signals_unread.
    pub(crate) fn notices_for(&self, worker: WorkerId) -> Result<Vec<Notice>, StoreError> {
        static SQL: LazyLock<String> = LazyLock::new(|| {
            let stopping = ExecutionStatus::Cancelling;
            format!(
                "SELECT t.execution, t.number, e.status = '{stopping}' FROM task_executions t \
                 JOIN executions e ON e.id = t.execution WHERE t.worker = ?1 AND (e.status = '{stopping}' OR EXISTS (\
                 SELECT 1 FROM steps s JOIN signals g ON g.execution = s.execution AND g.name = s.name \
                 WHERE s.execution = t.execution AND s.task = t.number AND s.state = 'waiting' AND s.kind = '{signal}' \
                 AND g.read_execution IS NULL)) ORDER BY t.execution, t.number",
                signal = StepKind::Signal,
            )
        });
        rows(self.connection, &SQL, [worker.0]).map_err(self.fail("a held task"))
    }

    pub(crate) fn versions(&self) -> Result<Vec<VersionInfo>, StoreError> {
        let versions = self.all(queries::versions())?.into_iter();
        let with_graph = |version: VersionRow| {
            let graph = self.graph(ExecutionId(0), version.id, false);
            version.with(graph).transpose()
        };
        versions.filter_map(with_graph).collect()
    }

    /// How the file fares.
    pub(crate) fn health(&self) -> Result<Health, StoreError> {
        let size =
            |suffix| std::fs::metadata(self.database.beside(suffix)).map_or(0, |of| of.len());
        Ok(Health {
            ready: self.all(queries::ready())?,
            bytes: size("") + size("-wal"),
            ..Health::default()
        })
    }
}

const DIALECT: Dialect = Dialect {
    begins: "substr(e.instance, 1, length(??)) = ??",
    tagged: "e.tags IS NOT NULL AND EXISTS (SELECT 1 FROM json_each(e.tags) WHERE value = ??)",
};
