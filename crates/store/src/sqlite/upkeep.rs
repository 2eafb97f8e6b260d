//! What keeps a file going besides transitions, as errands of the writer.

use std::sync::Arc;
use std::time::Duration;

use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, Timestamp, VersionId, WorkerId};
use abide_core::kernel::Held;
use abide_core::timer::Timer;

use crate::error::StoreError;
use crate::views::{NewWorker, WorkflowKind};

use super::{Sqlite, maintenance};

/// When a lease ends that is renewed now.
fn lease_end(now: Timestamp, lease: Duration) -> Timestamp {
    now.plus_us(i64::try_from(lease.as_micros()).unwrap_or(i64::MAX))
}

impl Sqlite {
    pub(crate) async fn register_worker(
        &self,
        worker: NewWorker,
        lease: Duration,
    ) -> Result<(), StoreError> {
        self.errand("a worker", move |connection, now| {
            maintenance::register_worker(connection, &worker, now, lease_end(now, lease))
        })
        .await
    }

    pub(crate) async fn heartbeat(
        &self,
        worker: WorkerId,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        self.errand("a worker", move |connection, now| {
            maintenance::heartbeat(connection, now, worker, lease_end(now, lease))
        })
        .await
    }

    pub(crate) fn heartbeat_blocking(
        &self,
        worker: WorkerId,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        self.errand_blocking("a worker", move |connection, now| {
            maintenance::heartbeat(connection, now, worker, lease_end(now, lease))
        })
    }

    pub(crate) async fn end_worker(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.errand("a worker", move |connection, now| {
            maintenance::end_worker(connection, now, worker)
        })
        .await
    }

    /// Every worker but `own`: they all are dead, since the caller holds the workers' lock.
    pub(crate) async fn dead_workers(&self, own: WorkerId) -> Result<Vec<WorkerId>, StoreError> {
        self.errand("a worker", move |connection, _| {
            maintenance::other_workers(connection, own)
        })
        .await
    }

    pub(crate) async fn left_by(
        &self,
        worker: WorkerId,
        limit: u32,
    ) -> Result<Vec<Held>, StoreError> {
        self.errand("a held task", move |connection, _| {
            maintenance::left_by(connection, worker, limit)
        })
        .await
    }

    pub(crate) async fn waiting_for_code(&self) -> Result<Vec<Timer>, StoreError> {
        self.errand("a timer", |connection, _| {
            maintenance::waiting_for_code(connection)
        })
        .await
    }

    pub(crate) async fn unpublished(
        &self,
        id: Option<ExecutionId>,
    ) -> Result<Vec<ExecutionId>, StoreError> {
        self.errand("an unfinished start", move |connection, now| {
            maintenance::unpublished(connection, now, id)
        })
        .await
    }

    pub(crate) async fn remove_unpublished(
        &self,
        id: ExecutionId,
        limit: u32,
    ) -> Result<bool, StoreError> {
        self.errand("an unfinished start", move |connection, _| {
            maintenance::remove_unpublished(connection, id, limit)
        })
        .await
    }

    pub(crate) async fn prune_history(
        &self,
        after: ExecutionId,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<ExecutionId>, StoreError> {
        self.errand("a history", move |connection, now| {
            maintenance::prune_history(connection, now, after, before, limit)
        })
        .await
    }

    pub(crate) async fn ensure_version(
        &self,
        name: &str,
        version: &str,
        kind: WorkflowKind,
        graph: Arc<Graph>,
    ) -> Result<VersionId, StoreError> {
        let (name, version) = (name.to_owned(), version.to_owned());
        self.errand("a workflow version", move |connection, now| {
            maintenance::ensure_version(connection, now, &name, &version, kind, &graph)
        })
        .await
    }
}
