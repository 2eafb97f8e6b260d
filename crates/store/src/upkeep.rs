//! What keeps a store going besides transitions: workers and their leases, recovery of what dead
//! ones left, workflow versions.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{PIECE, Recover, Recovered, Reply, Request};
use rustc_hash::FxHashSet;

use crate::checks::check_name;
use crate::driver::{Driver, on};
use crate::error::{ApplyError, StoreError};
use crate::job::Job;
use crate::store::{Store, unexpected};
use crate::views::{NewWorker, WorkerRow, WorkflowKind};

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoverySummary {
    /// Workers declared dead.
    pub workers: u32,
    /// Tasks that can be claimed again.
    pub recovered: u32,
    /// Tasks abandoned.
    pub abandoned: u32,
    /// Tasks cancelled with their execution.
    pub cancelled: u32,
    /// Starts of large graphs that were never finished, removed.
    pub removed: u32,
}

impl RecoverySummary {
    fn count(&mut self, recovered: Recovered) {
        match recovered {
            Recovered::Recovered => self.recovered += 1,
            Recovered::Abandoned => self.abandoned += 1,
            Recovered::Cancelled => self.cancelled += 1,
            Recovered::Unchanged => {}
        }
    }
}

/// How it shows that a worker is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// The system frees a lock when the process dies: at once, and whatever clocks say.
    Locks,
    /// Its lease is over, by the database's clock.
    Leases,
}

/// What others left and nobody looks after.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    /// Workers that are gone and have something to recover.
    pub(crate) dead: Vec<WorkerId>,
    /// Executions whose large graph was never finished: their process died, or another start won.
    pub(crate) unpublished: Vec<ExecutionId>,
}

/// Dead workers that this process recovers: what it does not get done is left to the next.
struct Charge<'a> {
    store: &'a Store,
    dead: Vec<WorkerId>,
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        for worker in &self.dead {
            self.store.leave_worker(*worker);
        }
    }
}

/// Tasks taken back in one transaction.
const RECOVERY_BATCH: u32 = 500;

/// Tasks of dead workers that cannot be taken back. They are tried again, since somebody may mend
/// them by hand, but told of once.
#[derive(Debug, Default)]
pub(crate) struct LeftAside(Mutex<FxHashSet<TaskKey>>);

impl LeftAside {
    /// More than these are forgotten, and told of again.
    const MOST: usize = 10_000;

    /// Leaves a task aside. False if it was already.
    fn add(&self, task: TaskKey) -> bool {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.len() >= LeftAside::MOST {
            tasks.clear();
        }
        tasks.insert(task)
    }
}

impl Store {
    // ---- workers ----

    /// Records a worker, whose lease begins now.
    pub async fn register_worker(
        &self,
        worker: NewWorker,
        lease: Duration,
    ) -> Result<(), StoreError> {
        on!(self.driver, it => it.register_worker(worker, lease).await)
    }

    /// Renews a worker's lease, from now on. False if it was declared dead.
    pub async fn heartbeat(&self, worker: WorkerId, lease: Duration) -> Result<bool, StoreError> {
        on!(self.driver, it => it.heartbeat(worker, lease).await)
    }

    /// Like [`Store::heartbeat`], for a thread outside the runtime.
    pub fn heartbeat_blocking(
        &self,
        worker: WorkerId,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        on!(self.driver, it => it.heartbeat_blocking(worker, lease))
    }

    /// Records that a worker is gone.
    pub async fn end_worker(&self, worker: WorkerId) -> Result<(), StoreError> {
        on!(self.driver, it => it.end_worker(worker).await)
    }

    /// Lets go of a worker without ending it: others find it dead and take its tasks back, on
    /// SQLite at once, on PostgreSQL when its lease is over.
    pub fn leave_worker(&self, worker: WorkerId) {
        match &self.driver {
            Driver::Sqlite(it) => it.leave_worker(worker),
            Driver::Postgres(_) => {}
        }
    }

    /// Whether any process runs the tasks.
    pub async fn has_workers(&self) -> Result<bool, StoreError> {
        on!(self.driver, it => it.has_workers().await)
    }

    /// The workers that are alive.
    pub async fn live_workers(&self) -> Result<Vec<WorkerId>, StoreError> {
        let now = self.now();
        let is_alive = |row: &WorkerRow| match &self.driver {
            Driver::Sqlite(it) => it.is_alive(row.id),
            Driver::Postgres(_) => row.lease_until > now,
        };
        let workers = self.workers().await?.into_iter();
        Ok(workers.filter(is_alive).map(|row| row.id).collect())
    }

    /// How it shows that a worker is dead.
    pub fn liveness(&self) -> Liveness {
        match &self.driver {
            Driver::Sqlite(_) => Liveness::Locks,
            Driver::Postgres(_) => Liveness::Leases,
        }
    }

    /// Whether a process that has just come may judge others by their leases: not if the database was
    /// away until now, so that nobody could renew one. Then a lease's time later.
    pub async fn is_settled(&self, lease: Duration) -> Result<bool, StoreError> {
        match &self.driver {
            Driver::Sqlite(_) => Ok(true),
            Driver::Postgres(it) => it.is_settled(lease).await,
        }
    }

    /// Whether a worker may have died, so that [`Store::recover`] has something to do. With
    /// [`Liveness::Locks`] this asks the system, and only if the look is `thorough` the database;
    /// with [`Liveness::Leases`] only recovery can tell.
    pub fn someone_died(&self, thorough: bool) -> Result<bool, StoreError> {
        match &self.driver {
            Driver::Sqlite(it) => it.someone_died(thorough),
            Driver::Postgres(_) => Ok(true),
        }
    }

    /// Whether others take this process's worker for dead, although nobody recorded that yet.
    pub fn is_lost(&self, worker: WorkerId) -> bool {
        match &self.driver {
            Driver::Sqlite(it) => it.is_lost(worker),
            Driver::Postgres(_) => false,
        }
    }

    /// Takes back the tasks of every worker that is dead; removes unfinished starts. Never those of
    /// `own`. Any number of processes may do so at the same time: each task is taken back once.
    pub async fn recover(
        &self,
        crash_cap: u32,
        own: WorkerId,
    ) -> Result<RecoverySummary, ApplyError> {
        let mut summary = RecoverySummary::default();
        let Leftovers { dead, unpublished } = on!(self.driver, it => it.leftovers(own).await)?;
        let charge = Charge { store: self, dead };
        for &worker in &charge.dead {
            let is_news = self.recover_worker(worker, crash_cap, &mut summary).await?;
            self.end_worker(worker).await?;
            summary.workers += u32::from(is_news);
        }
        if summary.workers > 0 {
            // Nobody else may know of the timers that they kept.
            self.hints().timer_set(Timestamp(0));
        }
        for id in unpublished {
            self.remove_unpublished(id).await?;
            summary.removed += 1;
        }
        Ok(summary)
    }

    /// Wakes the tasks that wait for other code: this process may be it. Answers how many.
    pub async fn wake_for_code(&self) -> Result<u32, ApplyError> {
        let mut woken = 0;
        for timer in on!(self.driver, it => it.waiting_for_code().await)? {
            match self.apply(Request::Fire(timer)).await {
                Ok(_) => woken += 1,
                Err(ApplyError::Store(error @ StoreError::Undecodable { .. })) => {
                    tracing::error!(%error, "a task that waits for other code cannot be woken");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(woken)
    }

    /// False if there was nothing but tasks that are left aside already.
    async fn recover_worker(
        &self,
        worker: WorkerId,
        crash_cap: u32,
        summary: &mut RecoverySummary,
    ) -> Result<bool, ApplyError> {
        let (mut found, mut known) = (0, 0);
        let mut after = TaskKey::new(ExecutionId(0), 0);
        loop {
            let left = on!(self.driver, it => it.left_by(worker, after, RECOVERY_BATCH).await)?;
            let Some(last) = left.last() else {
                return Ok(found == 0 || known < found);
            };
            after = *last;
            found += left.len();
            known += self.take_back(worker, left, crash_cap, summary).await?;
        }
    }

    /// Takes a batch of tasks back from a dead worker. Answers how many were left aside already.
    async fn take_back(
        &self,
        worker: WorkerId,
        tasks: Vec<TaskKey>,
        crash_cap: u32,
        summary: &mut RecoverySummary,
    ) -> Result<usize, ApplyError> {
        let mut answers = Vec::with_capacity(tasks.len());
        for key in tasks {
            let reason = "the process that held it is gone".to_owned();
            let request = Request::Recover(Recover {
                key,
                worker,
                crash_cap,
                reason,
            });
            let answer = self.ask(|answer| Job::Apply(Box::new(request), answer))?;
            answers.push((key, answer));
        }
        let mut known = 0;
        for (task, answer) in answers {
            match answer.await.map_err(|_| StoreError::Closed)? {
                Ok(Reply::Recovered(recovered)) => summary.count(recovered),
                Ok(other) => return Err(unexpected(&other)),
                Err(ApplyError::Store(error @ StoreError::Undecodable { .. })) => {
                    if self.left_aside.add(task) {
                        tracing::error!(%task, %error, "a task of a dead worker cannot be taken back");
                    } else {
                        known += 1;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(known)
    }

    /// Removes an execution, unless it was published.
    pub(crate) async fn remove_unpublished(&self, id: ExecutionId) -> Result<(), StoreError> {
        while !on!(self.driver, it => it.remove_unpublished(id, PIECE).await)? {}
        Ok(())
    }

    // ---- workflow versions ----

    /// The id of a workflow version, recorded if it is new.
    pub async fn ensure_version(
        &self,
        name: &str,
        version: &str,
        kind: WorkflowKind,
        graph: Arc<Graph>,
    ) -> Result<VersionId, StoreError> {
        check_name("workflow", name)?;
        on!(self.driver, it => it.ensure_version(name, version, kind, graph).await)
    }
}
