//! The store's queries: plain answers, as of one moment.

use std::sync::Arc;

use abide_core::graph::{Graph, Uses};
use abide_core::ids::{ExecutionId, TaskKey, VersionId, WorkerId};
use abide_core::kernel::{Claimed, Held, Notice};
use abide_core::payload::Payload;
use abide_core::step::StepRecord;

use crate::driver::{Driver, query};
use crate::error::StoreError;
use crate::health::Health;
use crate::queries;
use crate::rollup::Rollup;
#[cfg(feature = "sqlite")]
use crate::sqlite::Reader;
use crate::store::Store;
#[cfg(feature = "sqlite")]
use crate::store::blocking;
use crate::views::{
    EndView, EventFilter, EventView, ExecutionFilter, ExecutionView, TaskInputs, TaskView,
    VersionInfo, WorkerRow,
};

/// SQLite is read on the caller's thread: queries for more rows than this go elsewhere.
#[cfg(feature = "sqlite")]
const MANY: u32 = 256;

impl Store {
    /// How the store fares. Counts the outbox, which is as long as the queue is.
    pub async fn health(&self) -> Result<Health, StoreError> {
        query!(self.driver, health())
    }

    /// An execution.
    pub async fn execution(&self, id: ExecutionId) -> Result<Option<ExecutionView>, StoreError> {
        let now = self.now();
        query!(self.driver, one(queries::execution(id, now)))
    }

    /// The latest execution of an instance.
    pub async fn latest(&self, instance: &str) -> Result<Option<ExecutionView>, StoreError> {
        let now = self.now();
        query!(self.driver, one(queries::latest(instance, now)))
    }

    /// A generation of an instance.
    pub async fn generation(
        &self,
        instance: &str,
        generation: u32,
    ) -> Result<Option<ExecutionView>, StoreError> {
        let now = self.now();
        let query = || queries::generation(instance, generation, now);
        query!(self.driver, one(query()))
    }

    /// Executions, newest first, after the last id of the page before.
    pub async fn executions(
        &self,
        filter: &ExecutionFilter,
        before: Option<ExecutionId>,
        limit: u32,
    ) -> Result<Vec<ExecutionView>, StoreError> {
        let now = self.now();
        match &self.driver {
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(it) if limit > MANY => {
                let (it, filter) = (it.clone(), filter.clone());
                blocking(move || it.read(|reader| reader.executions(&filter, before, limit, now)))
                    .await
            }
            driver => query!(*driver, executions(filter, before, limit, now)),
        }
    }

    /// Tasks of an execution by number, after the last number of the page before.
    pub async fn tasks(
        &self,
        id: ExecutionId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<TaskView>, StoreError> {
        match &self.driver {
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(it) if limit > MANY => {
                let it = it.clone();
                let query = move |reader: &Reader<'_>| reader.all(queries::tasks(id, after, limit));
                blocking(move || it.read(query)).await
            }
            driver => query!(*driver, all(queries::tasks(id, after, limit))),
        }
    }

    /// An execution and what its tasks add up to, as of now and of one moment. Looks at each task.
    pub async fn summary(
        &self,
        id: ExecutionId,
    ) -> Result<Option<(ExecutionView, Rollup)>, StoreError> {
        let now = self.now();
        query!(self.driver, summary(id, now))
    }

    /// The input that an execution was started with.
    pub async fn input(&self, id: ExecutionId) -> Result<Option<Payload>, StoreError> {
        let query = || queries::input(id, format!("the input of execution {id}"));
        Ok(query!(self.driver, one(query()))?.flatten())
    }

    /// The position of the last event of all; 0 if there is none.
    pub async fn last_position(&self) -> Result<i64, StoreError> {
        query!(self.driver, last_position())
    }

    /// Events, oldest first, after a position.
    pub async fn events(
        &self,
        filter: &EventFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<EventView>, StoreError> {
        match &self.driver {
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(it) if limit > MANY => {
                let (it, filter) = (it.clone(), filter.clone());
                blocking(move || it.read(|reader| reader.events(&filter, after, limit))).await
            }
            driver => query!(*driver, events(filter, after, limit)),
        }
    }

    /// Recorded operations of a task: ended ones in the order in which they ended, then waits.
    pub async fn steps(&self, key: TaskKey) -> Result<Vec<StepRecord>, StoreError> {
        query!(self.driver, all(queries::steps(key)))
    }

    /// How an execution stands, with what it gave if it has ended.
    pub async fn end(&self, id: ExecutionId) -> Result<Option<EndView>, StoreError> {
        match &self.driver {
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(it) => it.read(|reader| reader.end(id)),
            #[cfg(feature = "postgres")]
            Driver::Postgres(it) => it.end(id).await,
        }
    }

    /// A task.
    pub async fn task(&self, key: TaskKey) -> Result<Option<TaskView>, StoreError> {
        let after = key.number.saturating_sub(1);
        let found = self.tasks(key.execution, after, 1).await?;
        Ok(found.into_iter().find(|view| view.task.key == key))
    }

    /// What a claimed task is given to work with, as far as the code that will run asks for it,
    /// which may be newer than the graph it was started with.
    pub async fn inputs(&self, claimed: &Claimed, uses: &Uses) -> Result<TaskInputs, StoreError> {
        #[cfg(feature = "sqlite")]
        let dependencies = claimed.graph.dependencies(claimed.task.key.number).len();
        match &self.driver {
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(it) if dependencies > MANY as usize => {
                let (it, claimed, uses) = (it.clone(), claimed.clone(), *uses);
                blocking(move || it.read(|reader| reader.inputs(&claimed, &uses))).await
            }
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(it) => it.read(|reader| reader.inputs(claimed, uses)),
            #[cfg(feature = "postgres")]
            Driver::Postgres(it) => it.inputs(claimed, uses).await,
        }
    }

    /// The graph of an execution.
    pub async fn graph(
        &self,
        id: ExecutionId,
        version: VersionId,
        own: bool,
    ) -> Result<Arc<Graph>, StoreError> {
        query!(self.driver, graph(id, version, own))
    }

    /// The tasks that a worker holds.
    pub async fn held_by(&self, worker: WorkerId) -> Result<Vec<Held>, StoreError> {
        query!(self.driver, held_by(worker))
    }

    /// What the tasks that a worker holds have to hear, whether or not it has heard that already: a
    /// message that a task waits for is there, or its execution is stopping.
    pub async fn notices_for(&self, worker: WorkerId) -> Result<Vec<Notice>, StoreError> {
        query!(self.driver, notices_for(worker))
    }

    /// Workers that have not ended.
    pub async fn workers(&self) -> Result<Vec<WorkerRow>, StoreError> {
        query!(self.driver, all(queries::workers()))
    }

    /// Every stored workflow version.
    pub async fn versions(&self) -> Result<Vec<VersionInfo>, StoreError> {
        query!(self.driver, versions())
    }
}
