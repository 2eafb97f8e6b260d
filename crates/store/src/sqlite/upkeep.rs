//! What keeps a file going besides transitions, as errands of the writer.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::timer::Timer;

use crate::error::StoreError;
use crate::leftovers::Leftovers;
use crate::queries;
use crate::views::{NewWorker, WorkflowKind};

use super::rows::all;
use super::{Sqlite, maintenance};

/// When a lease ends that is renewed now.
fn lease_end(now: Timestamp, lease: Duration) -> Timestamp {
    now.plus_us(i64::try_from(lease.as_micros()).unwrap_or(i64::MAX))
}

/// Why a worker's file cannot be made.
fn not_registered(error: &io::Error, database: &str, file: &Path) -> StoreError {
    let path = file.display().to_string();
    match error.kind() {
        ErrorKind::StorageFull => StoreError::Full(database.to_owned()),
        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            StoreError::CannotOpen {
                path,
                detail: error.to_string(),
            }
        }
        _ => StoreError::Io {
            path,
            detail: format!("a write failed: {error}"),
            unknown: false,
        },
    }
}

impl Sqlite {
    /// Records a worker and takes its lock, together: nobody sees one without the other.
    pub(crate) async fn register_worker(
        self: &Arc<Self>,
        worker: NewWorker,
        lease: Duration,
    ) -> Result<(), StoreError> {
        let id = worker.id;
        let files = Arc::clone(&self.workers);
        let name = self.database.name();
        let registered = self.errand("a worker", move |connection, now| {
            if maintenance::is_id_taken(connection, id)? {
                return Ok(Err(StoreError::IdTaken));
            }
            if let Err(error) = files.register(id) {
                return Ok(Err(not_registered(&error, &name, &files.path(id))));
            }
            maintenance::register_worker(connection, &worker, now, lease_end(now, lease))?;
            Ok(Ok(()))
        });
        match registered.await.and_then(|registered| registered) {
            Ok(()) => self.watch_worker(id),
            // Somebody else's.
            Err(StoreError::IdTaken) => Err(StoreError::IdTaken),
            Err(error) => {
                self.workers.let_go(id);
                Err(error)
            }
        }
    }

    pub(crate) async fn record_queues(
        &self,
        worker: WorkerId,
        list: String,
    ) -> Result<(), StoreError> {
        self.errand("a worker", move |connection, _| {
            all(connection, &queries::record_queues(worker, &list)).map(drop)
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

    /// Ends a worker. What it left is for others to recover; what even the one who recovers it
    /// leaves cannot be recovered, and is not tried again.
    pub(crate) async fn end_worker(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.unwatch_worker(worker);
        let files = Arc::clone(&self.workers);
        let ended = self.errand("a worker", move |connection, now| {
            let left = maintenance::end_worker(connection, now, worker)?;
            match (left, files.is_ours(worker)) {
                (true, true) => {}
                (true, false) => files.give_up(worker),
                (false, _) => files.remove(worker),
            }
            Ok(())
        });
        ended.await?;
        self.leave_worker(worker);
        Ok(())
    }

    /// Lets go of a worker's lock: whoever looks next finds it dead.
    pub(crate) fn leave_worker(&self, worker: WorkerId) {
        self.unwatch_worker(worker);
        self.workers.let_go(worker);
    }

    /// Whether any process, this one included, holds a worker's lock.
    pub(crate) async fn has_workers(&self) -> Result<bool, StoreError> {
        Ok(self.workers.is_any_held())
    }

    pub(crate) fn is_alive(&self, worker: WorkerId) -> bool {
        self.workers.is_held(worker)
    }

    /// Locks are judged at once: nobody has to renew them while the database is away.
    pub(crate) async fn is_settled(&self, _lease: Duration) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Whether others take a worker of this store for dead.
    pub(crate) fn is_lost(&self, worker: WorkerId) -> bool {
        self.workers.has_lost(worker)
    }

    /// Whether somebody died: a lock is free. A thorough look asks the database as well, for
    /// workers whose file was removed and for what ended ones left.
    pub(crate) fn someone_died(&self, thorough: bool) -> Result<bool, StoreError> {
        if self.workers.is_any_free() {
            return Ok(true);
        }
        if !thorough {
            return Ok(false);
        }
        let unsettled = self.read(|reader| {
            let found = maintenance::unsettled_workers(reader.connection);
            found.map_err(|error| self.database().read_error(error, "a worker"))
        })?;
        let files = &self.workers;
        Ok(unsettled
            .into_iter()
            .any(|id| !files.is_held(id) && !files.is_given_up(id)))
    }

    /// What others left, but for `own`. The locks of workers come last: whoever holds them recovers.
    pub(crate) async fn leftovers(&self, own: WorkerId) -> Result<Leftovers, StoreError> {
        let unpublished = self.errand("an unfinished start", maintenance::unpublished);
        Ok(Leftovers {
            unpublished: unpublished.await?,
            dead: self.dead_workers(own).await?,
        })
    }

    /// The dead workers that have something to recover, but for `own`. Their locks are taken, so
    /// that nobody else recovers the same at the same time.
    async fn dead_workers(&self, own: WorkerId) -> Result<Vec<WorkerId>, StoreError> {
        let files = Arc::clone(&self.workers);
        self.errand("a worker", move |connection, _| {
            let take = |id: &WorkerId| {
                files.take_from_dead(*id).unwrap_or_else(|error| {
                    tracing::warn!(worker = %id, %error, "can't tell whether a worker is alive");
                    false
                })
            };
            let unsettled = maintenance::unsettled_workers(connection)?;
            let settled = files.list().into_iter();
            let settled = settled.filter(|id| !unsettled.contains(id) && !files.is_ours(*id));
            // Left behind by whoever died while it registered or ended.
            settled.filter(take).for_each(|id| files.remove(id));
            let others = unsettled.into_iter().filter(|id| *id != own);
            Ok(others
                .filter(|id| !files.is_given_up(*id) && take(id))
                .collect())
        })
        .await
    }

    pub(crate) async fn active_of(&self, worker: WorkerId) -> Result<u32, StoreError> {
        self.errand("a held task", move |connection, _| {
            maintenance::active_of(connection, worker)
        })
        .await
    }

    pub(crate) async fn left_by(
        &self,
        worker: WorkerId,
        after: TaskKey,
        limit: u32,
    ) -> Result<Vec<TaskKey>, StoreError> {
        self.errand("a held task", move |connection, _| {
            maintenance::left_by(connection, worker, after, limit)
        })
        .await
    }

    pub(crate) async fn waiting_for_code(&self) -> Result<Vec<Timer>, StoreError> {
        self.errand("a timer", |connection, _| {
            all(connection, &queries::waiting_for_code())
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
        .await?
    }
}
