//! Inspecting executions: finding, listing, describing and following them.

use std::sync::Arc;

use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, Timestamp, WorkerId};
use abide_core::status::{SubStatus, TaskStatus};
use abide_store::{ExecutionFilter, ExecutionView, Rollup, TaskView};

use crate::error::EngineError;

use super::Client;
use super::estimate::Usual;
use super::follow::Follow;
use super::history::{self, History, HistoryFilter};
use super::live::Changes;
use super::name;
use super::page::{Cursor, Page};
use super::records::{Description, EventRecord, ExecutionRecord, TaskRecord};
use super::statistics::Statistics;

/// The tasks of an execution to list. Every condition that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct TaskFilter {
    /// One of these statuses or sub-statuses; both empty for any.
    pub statuses: Vec<TaskStatus>,
    /// One of these sub-statuses, or of the statuses.
    pub sub_statuses: Vec<SubStatus>,
    /// Of a node whose id begins with this.
    pub node_prefix: Option<String>,
    /// With a number higher than this. Default 0: all.
    pub after: u32,
    /// With a number of at most this.
    pub up_to: Option<u32>,
}

impl TaskFilter {
    fn matches(&self, view: &TaskView) -> bool {
        let (status, sub_status) = view.task.phase.status();
        let any = self.statuses.is_empty() && self.sub_statuses.is_empty();
        let has_sub_status = || sub_status.is_some_and(|it| self.sub_statuses.contains(&it));
        let by_status = any || self.statuses.contains(&status) || has_sub_status();
        let by_node = |prefix: &String| view.node.starts_with(prefix);
        by_status && self.node_prefix.as_ref().is_none_or(by_node)
    }
}

/// Tasks read at a time.
const TASKS_READ: u32 = 1000;

impl Client {
    /// The store's name, for messages: a path, or an address without its password.
    pub fn store_name(&self) -> String {
        self.store().name()
    }

    /// The present time of the store.
    pub fn now(&self) -> Timestamp {
        self.store().now()
    }

    /// The execution that a name means: an id, an instance (its latest generation), or
    /// `INSTANCE/GENERATION`.
    ///
    /// # Errors
    ///
    /// [`EngineError::Name`] if the name means nothing (the error says what was probably meant) or
    /// two executions.
    pub async fn resolve(&self, name: &str) -> Result<ExecutionView, EngineError> {
        Ok(name::resolve(self.store(), name).await??)
    }

    /// An execution in its present state.
    ///
    /// # Errors
    ///
    /// [`EngineError::UnknownExecution`].
    pub async fn execution(&self, id: ExecutionId) -> Result<ExecutionView, EngineError> {
        let view = self.store().execution(id).await?;
        view.ok_or(EngineError::UnknownExecution(id))
    }

    /// The same, as a record.
    ///
    /// # Errors
    ///
    /// [`EngineError::UnknownExecution`].
    pub async fn record(&self, id: ExecutionId) -> Result<ExecutionRecord, EngineError> {
        let view = self.execution(id).await?;
        Ok(ExecutionRecord::new(&view, self.now()))
    }

    /// Everything about an execution: the sums over its tasks, its first open and failed tasks, its
    /// input and output, the recorded operations of a durable function, and the estimated time
    /// left. Reads each task.
    ///
    /// ```no_run
    /// # use abide::{Client, EngineError, ExecutionId};
    /// # async fn example(client: &Client, id: ExecutionId) -> Result<(), EngineError> {
    /// let description = client.describe(id).await?;
    /// for task in &description.open_tasks {
    ///     println!("{} waits for {:?}", task.node, task.waits_for);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`EngineError::UnknownExecution`].
    pub async fn describe(&self, id: ExecutionId) -> Result<Description, EngineError> {
        let (view, rollup) = self.summary(id).await?;
        Ok(Description::read(self.store(), &view, &rollup).await?)
    }

    /// An execution and the sums over its tasks, as of one moment. Reads each task.
    ///
    /// # Errors
    ///
    /// [`EngineError::UnknownExecution`].
    pub async fn summary(&self, id: ExecutionId) -> Result<(ExecutionView, Rollup), EngineError> {
        let summary = self.store().summary(id).await?;
        summary.ok_or(EngineError::UnknownExecution(id))
    }

    /// The latest execution of an instance, if it has one.
    ///
    /// # Errors
    ///
    /// The store can't be read.
    pub async fn latest(&self, instance: &str) -> Result<Option<ExecutionView>, EngineError> {
        Ok(self.store().latest(instance).await?)
    }

    /// Executions, newest first: at most `limit`, after a cursor of the same list. Each page is one
    /// query.
    ///
    /// ```no_run
    /// # use abide::{BlockedOn, Client, EngineError, ExecutionFilter};
    /// # async fn example(client: &Client) -> Result<(), EngineError> {
    /// let filter = ExecutionFilter {
    ///     blocked_on: vec![BlockedOn::Signal],
    ///     ..ExecutionFilter::default()
    /// };
    /// let mut cursor = None;
    /// loop {
    ///     let page = client.list(&filter, cursor.as_ref(), 100).await?;
    ///     for execution in &page.items {
    ///         println!("{} waits for a signal", execution.instance);
    ///     }
    ///     cursor = page.next;
    ///     if cursor.is_none() {
    ///         break Ok(());
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`EngineError::Cursor`] for a cursor of a list with another filter.
    pub async fn list(
        &self,
        filter: &ExecutionFilter,
        cursor: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<ExecutionRecord>, EngineError> {
        let identity = executions_identity(filter);
        let before = cursor.map(|cursor| cursor.after(&identity)).transpose()?;
        let now = self.now();
        // One more item than the page holds shows whether another page follows.
        let asked = limit.saturating_add(1);
        let store = self.store();
        let found = store
            .executions(filter, before.map(ExecutionId), asked)
            .await?;
        let views = found.iter().take(limit as usize);
        let items: Vec<_> = views.map(|view| ExecutionRecord::new(view, now)).collect();
        let last = items.last().map(|record| record.id.0);
        let next = last.filter(|_| found.len() > items.len());
        let next = next.map(|last| Cursor::new(last, &identity));
        Ok(Page { items, next })
    }

    /// Tasks of an execution, by number, which is the order in which the graph declares them: at most
    /// `limit`, after a cursor of the same list (none for the first page). An execution that does not
    /// exist has no tasks.
    ///
    /// ```no_run
    /// # use abide::{Client, EngineError, ExecutionId, TaskFilter, TaskStatus};
    /// # async fn example(client: &Client, id: ExecutionId) -> Result<(), EngineError> {
    /// let failed = TaskFilter {
    ///     statuses: vec![TaskStatus::Failed],
    ///     ..TaskFilter::default()
    /// };
    /// for task in client.tasks(id, &failed, None, 100).await?.items {
    ///     println!("{}: {:?}", task.node, task.error);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`EngineError::Cursor`] for a cursor of a list with another filter.
    pub async fn tasks(
        &self,
        id: ExecutionId,
        filter: &TaskFilter,
        cursor: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<TaskRecord>, EngineError> {
        let identity = tasks_identity(id, filter);
        let after = cursor.map(|cursor| cursor.after(&identity)).transpose()?;
        let after = after.map_or(filter.after, |after| {
            u32::try_from(after).unwrap_or(u32::MAX)
        });
        let (mut after, now, mut items) = (after, self.now(), Vec::new());
        loop {
            let views = self.store().tasks(id, after, TASKS_READ).await?;
            for view in &views {
                let number = view.task.key.number;
                if filter.up_to.is_some_and(|last| number > last) {
                    return Ok(Page { items, next: None });
                }
                if !filter.matches(view) {
                    continue;
                }
                if items.len() == limit as usize {
                    let last = items.last().map_or(after, |last: &TaskRecord| last.number);
                    let next = Some(Cursor::new(last.into(), &identity));
                    return Ok(Page { items, next });
                }
                items.push(TaskRecord::new(view, now));
            }
            match views.last() {
                Some(last) if views.len() == TASKS_READ as usize => after = last.task.key.number,
                _ => return Ok(Page { items, next: None }),
            }
        }
    }

    /// The history of an execution and its tasks, oldest first: at most `limit` events, after a cursor
    /// of the same history (none for the first page). The last page has no cursor, although a live
    /// execution has more events later: [`follow`](Client::follow) waits for them.
    ///
    /// ```no_run
    /// # use abide::{Client, EngineError, ExecutionId, HistoryFilter};
    /// # async fn example(client: &Client, id: ExecutionId) -> Result<(), EngineError> {
    /// let all = HistoryFilter::default();
    /// let mut cursor = None;
    /// loop {
    ///     let page = client.history(id, &all, cursor.as_ref(), 1000).await?;
    ///     for event in &page.items {
    ///         println!("{} {}", event.kind, event.to);
    ///     }
    ///     cursor = page.next;
    ///     if cursor.is_none() {
    ///         break Ok(());
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`EngineError::UnknownExecution`], and [`EngineError::Cursor`] for a cursor of another history.
    pub async fn history(
        &self,
        id: ExecutionId,
        filter: &HistoryFilter,
        cursor: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<EventRecord>, EngineError> {
        let identity = history_identity(id, filter);
        let after = cursor.map(|cursor| cursor.after(&identity)).transpose()?;
        let graph = self.graph_of(id).await?;
        // One more event than the page holds shows whether another page follows.
        let asked = limit.saturating_add(1);
        let mut history = History::new(self.store(), id, filter).read_by(asked);
        if let Some(after) = after {
            history = history.resumed(after);
        }
        let mut views = Vec::new();
        while views.len() < asked as usize {
            let read = history.next_page().await?;
            if read.is_empty() {
                break;
            }
            views.extend(read);
        }
        let has_more = views.len() > limit as usize;
        views.truncate(limit as usize);
        let items = history::records(views, &graph);
        let last = items.last().filter(|_| has_more);
        let next = last.map(|last| Cursor::new(last.position, &identity));
        Ok(Page { items, next })
    }

    /// The events of an execution and its tasks, oldest first, and then each new event as it is
    /// written, until the execution has ended. Each event comes once. To continue after an event that
    /// your program has seen, give its position as [`HistoryFilter::after`].
    ///
    /// ```no_run
    /// # use abide::{Client, EngineError, ExecutionId, HistoryFilter};
    /// # async fn example(client: &Client, id: ExecutionId) -> Result<(), EngineError> {
    /// let mut events = client.follow(id, &HistoryFilter::default());
    /// while let Some(page) = events.next_page().await? {
    ///     for event in page {
    ///         println!("{} {}", event.kind, event.to);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// This reads nothing yet: see [`Follow::next_page`] for the errors.
    pub fn follow(&self, id: ExecutionId, filter: &HistoryFilter) -> Follow<'_> {
        Follow::new(self, id, History::new(self.store(), id, filter))
    }

    /// Watches the store, to read again after each change without polling.
    pub fn changes(&self) -> Changes {
        Changes::new(
            self.store().hints(),
            self.watch().err().map(EngineError::from),
        )
    }

    /// The graph of an execution.
    ///
    /// # Errors
    ///
    /// The store can't be read.
    pub async fn graph(&self, view: &ExecutionView) -> Result<Arc<Graph>, EngineError> {
        let execution = &view.execution;
        let (workflow, own) = (execution.workflow, execution.own_graph);
        Ok(self.store().graph(execution.id, workflow, own).await?)
    }

    /// The graph of the execution with this id.
    pub(super) async fn graph_of(&self, id: ExecutionId) -> Result<Arc<Graph>, EngineError> {
        self.graph(&self.execution(id).await?).await
    }

    /// How long executions of this execution's workflow usually take, from the latest completed
    /// ones.
    ///
    /// # Errors
    ///
    /// The store can't be read.
    pub async fn usual(&self, view: &ExecutionView) -> Result<Usual, EngineError> {
        Ok(Usual::of(self.store(), view).await?)
    }

    /// Statistics of the store: its queue, its workers, its size. Counts the queue.
    ///
    /// ```no_run
    /// # use abide::{Client, EngineError};
    /// # async fn example(client: &Client) -> Result<(), EngineError> {
    /// let statistics = client.statistics().await?;
    /// println!("{} tasks wait for a worker", statistics.ready_tasks);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The store can't be read.
    pub async fn statistics(&self) -> Result<Statistics, EngineError> {
        Ok(Statistics::read(self.store()).await?)
    }

    /// Checks whether the store keeps its promises, as of one moment. Work continues meanwhile. For
    /// a SQLite file that may be too damaged to open, use
    /// [`admin::verify_file`](crate::admin::verify_file).
    ///
    /// # Errors
    ///
    /// The store cannot be read at all. Damage in what was read is in the report, and is no error.
    #[cfg(feature = "sqlite")]
    pub async fn verify(
        &self,
        options: crate::admin::VerifyOptions,
    ) -> Result<crate::admin::VerifyReport, EngineError> {
        Ok(self.store().verify(options).await?)
    }

    /// Whether any worker may be alive. Reads no more than needed.
    ///
    /// # Errors
    ///
    /// The store can't be read.
    pub async fn has_workers(&self) -> Result<bool, EngineError> {
        Ok(self.store().has_workers().await?)
    }

    /// The workers that are alive.
    ///
    /// # Errors
    ///
    /// The store can't be read.
    pub async fn live_workers(&self) -> Result<Vec<WorkerId>, EngineError> {
        Ok(self.store().live_workers().await?)
    }
}

/// The filter that a cursor of executions is bound to. Time bounds are left out, because they may
/// be relative.
fn executions_identity(filter: &ExecutionFilter) -> impl serde::Serialize {
    // Field by field, so that a new one is not forgotten.
    let ExecutionFilter {
        statuses,
        sub_statuses,
        blocked_on,
        workflow,
        instance_prefix,
        tag,
        priority,
        created_from: _,
        created_before: _,
    } = filter;
    let mut states: Vec<&str> = Vec::new();
    states.extend(statuses.iter().map(|status| status.as_str()));
    states.extend(sub_statuses.iter().map(|status| status.as_str()));
    states.sort_unstable();
    states.dedup();
    let mut blocked_on: Vec<&str> = blocked_on.iter().map(|it| it.as_str()).collect();
    blocked_on.sort_unstable();
    blocked_on.dedup();
    let of = (
        workflow.clone(),
        instance_prefix.clone(),
        tag.clone(),
        priority.clone(),
    );
    ("executions", states, blocked_on, of)
}

/// The filter that a cursor of tasks is bound to.
fn tasks_identity(id: ExecutionId, filter: &TaskFilter) -> impl serde::Serialize {
    let mut states: Vec<&str> = Vec::new();
    states.extend(filter.statuses.iter().map(|status| status.as_str()));
    states.extend(filter.sub_statuses.iter().map(|status| status.as_str()));
    states.sort_unstable();
    states.dedup();
    let of = (filter.node_prefix.clone(), filter.after, filter.up_to);
    ("tasks", id.0.to_string(), states, of)
}

/// The filter that a cursor of a history is bound to.
fn history_identity(id: ExecutionId, filter: &HistoryFilter) -> impl serde::Serialize {
    ("history", id.0.to_string(), filter.task, filter.after)
}
