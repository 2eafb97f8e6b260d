//! What keeps a store going besides transitions: workers and their leases, recovery of what dead
//! ones left, workflow versions.

use std::sync::Arc;
use std::time::Duration;

use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{Ask, PIECE, Recover, Recovered};

use crate::checks::check_name;
use crate::driver::{Driver, on};
use crate::error::{ApplyError, StoreError};
use crate::job::Job;
use crate::leftovers::Leftovers;
use crate::store::Store;
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
    /// Whether something was taken over. A dead worker may have held nothing.
    pub fn took_over(&self) -> bool {
        self.recovered + self.abandoned + self.cancelled + self.removed > 0
    }

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
    /// Its lease is over: its heartbeat has stood still for so long, by the clock of whoever looks.
    Leases,
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

/// The first error of many things that are done one after another, where the others are still worth
/// a try.
#[derive(Debug, Default)]
struct Trouble(Option<ApplyError>);

impl Trouble {
    /// What was done; none if it failed in a way that the others need not. Otherwise the error.
    fn unless<T>(&mut self, done: Result<T, ApplyError>) -> Result<Option<T>, ApplyError> {
        match done {
            Ok(done) => Ok(Some(done)),
            Err(ApplyError::Store(error)) if !error.may_be_of_one() => Err(error.into()),
            Err(error @ ApplyError::Store(StoreError::Closed)) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "a part of the recovery failed; the rest goes on");
                self.0.get_or_insert(error);
                Ok(None)
            }
        }
    }

    /// The answer, if nothing failed.
    fn or<T>(self, answer: T) -> Result<T, ApplyError> {
        self.0.map_or(Ok(answer), Err)
    }
}

/// Tasks taken back in one transaction.
const RECOVERY_BATCH: u32 = 500;

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

    /// Records which workflow versions a worker knows. It claims tasks of no others, and verification names
    /// those that it is said to hold.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn record_queues(
        &self,
        worker: WorkerId,
        queues: &[VersionId],
    ) -> Result<(), StoreError> {
        let ids: Vec<i64> = queues.iter().map(|queue| queue.0).collect();
        let list = serde_json::to_string(&ids).expect("a list of numbers");
        on!(self.driver, it => it.record_queues(worker, list).await)
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
        on!(self.driver, it => it.leave_worker(worker));
    }

    /// Whether any process runs the tasks.
    pub async fn has_workers(&self) -> Result<bool, StoreError> {
        on!(self.driver, it => it.has_workers().await)
    }

    /// The workers that are alive.
    pub async fn live_workers(&self) -> Result<Vec<WorkerId>, StoreError> {
        let is_alive = |row: &WorkerRow| match &self.driver {
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(it) => it.is_alive(row.id),
            #[cfg(feature = "postgres")]
            Driver::Postgres(_) => row.lease_until > self.now(),
        };
        let workers = self.workers().await?.into_iter();
        Ok(workers.filter(is_alive).map(|row| row.id).collect())
    }

    /// How it shows that a worker is dead.
    pub fn liveness(&self) -> Liveness {
        match &self.driver {
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(_) => Liveness::Locks,
            #[cfg(feature = "postgres")]
            Driver::Postgres(_) => Liveness::Leases,
        }
    }

    /// Whether a process that has just come may judge others by their leases: not if the database was
    /// away until now, so that nobody could renew one. Then a lease's time later.
    pub async fn is_settled(&self, lease: Duration) -> Result<bool, StoreError> {
        on!(self.driver, it => it.is_settled(lease).await)
    }

    /// Whether a worker may have died, so that [`Store::recover`] has something to do. With
    /// [`Liveness::Locks`] this asks the system, and only if the look is `thorough` the database;
    /// with [`Liveness::Leases`] only recovery can tell.
    pub fn someone_died(&self, thorough: bool) -> Result<bool, StoreError> {
        on!(self.driver, it => it.someone_died(thorough))
    }

    /// Whether others take this process's worker for dead, although nobody recorded that yet.
    pub fn is_lost(&self, worker: WorkerId) -> bool {
        on!(self.driver, it => it.is_lost(worker))
    }

    /// Takes back the tasks of every worker that is dead; removes unfinished starts. Never those of
    /// `own`. Any number of processes may do so at the same time: each task is taken back once.
    ///
    /// # Errors
    ///
    /// The first one; what else could be recovered was. Whatever could not is found by the next call.
    pub async fn recover(
        &self,
        crash_cap: u32,
        own: WorkerId,
    ) -> Result<RecoverySummary, ApplyError> {
        let mut summary = RecoverySummary::default();
        let Leftovers { dead, unpublished } = on!(self.driver, it => it.leftovers(own).await)?;
        let charge = Charge { store: self, dead };
        let mut trouble = Trouble::default();
        for &worker in &charge.dead {
            let ended = self.recover_and_end(worker, crash_cap, &mut summary).await;
            summary.workers += u32::from(trouble.unless(ended)?.unwrap_or(false));
        }
        if summary.workers > 0 {
            // Nobody else may know of the timers that they kept.
            self.hints().timer_set(Timestamp(0));
        }
        for id in unpublished {
            let removed = self.remove_unpublished(id).await.map_err(ApplyError::from);
            summary.removed += u32::from(trouble.unless(removed)?.is_some());
        }
        trouble.or(summary)
    }

    /// Wakes the tasks that wait for other code: this process may be it. Answers how many.
    pub async fn wake_for_code(&self) -> Result<u32, ApplyError> {
        let mut woken = 0;
        let mut trouble = Trouble::default();
        for timer in on!(self.driver, it => it.waiting_for_code().await)? {
            match self.apply(timer).await {
                Ok(_) => woken += 1,
                Err(ApplyError::Store(error @ StoreError::Undecodable { .. })) => {
                    tracing::error!(%error, "a task that waits for other code cannot be woken");
                }
                Err(error) => drop(trouble.unless::<()>(Err(error))?),
            }
        }
        trouble.or(woken)
    }

    /// Takes back a dead worker's tasks, and records that the worker is gone once that is done.
    async fn recover_and_end(
        &self,
        worker: WorkerId,
        crash_cap: u32,
        summary: &mut RecoverySummary,
    ) -> Result<bool, ApplyError> {
        let is_news = self.recover_worker(worker, crash_cap, summary).await?;
        self.end_worker(worker).await?;
        Ok(is_news)
    }

    /// False if there was nothing but tasks that are left aside already.
    async fn recover_worker(
        &self,
        worker: WorkerId,
        crash_cap: u32,
        summary: &mut RecoverySummary,
    ) -> Result<bool, ApplyError> {
        // Asked before anything is taken back. Where several processes recover the same worker, one may
        // come when only the last task is left and find that alone. The engine starts no other task
        // beside one of which it matters.
        let alone = on!(self.driver, it => it.active_of(worker).await)? <= 1;
        let death = |key| Recover {
            key,
            worker,
            crash_cap,
            alone,
            reason: "the process that held it is gone".to_owned(),
        };
        let (mut found, mut known) = (0, 0);
        let mut trouble = Trouble::default();
        let mut after = TaskKey::new(ExecutionId(0), 0);
        loop {
            let left = on!(self.driver, it => it.left_by(worker, after, RECOVERY_BATCH).await)?;
            let Some(last) = left.last() else {
                return trouble.or(found == 0 || known < found);
            };
            after = *last;
            found += left.len();
            let taken = self.take_back(left.into_iter().map(death), summary).await;
            known += trouble.unless(taken)?.unwrap_or(0);
        }
    }

    /// Takes a batch of tasks back from a dead worker. Answers how many were left aside already.
    async fn take_back(
        &self,
        tasks: impl ExactSizeIterator<Item = Recover>,
        summary: &mut RecoverySummary,
    ) -> Result<usize, ApplyError> {
        let mut answers = Vec::with_capacity(tasks.len());
        for recover in tasks {
            let (key, crash_cap) = (recover.key, recover.crash_cap);
            let request = Box::new(recover.into());
            let answer = self.ask(|answer| Job::Apply(request, answer))?;
            answers.push((key, crash_cap, answer));
        }
        let mut known = 0;
        let mut trouble = Trouble::default();
        for (task, crash_cap, answer) in answers {
            match answer.await.map_err(|_| StoreError::Closed)? {
                Ok(reply) => {
                    let recovered = Recover::answer(reply);
                    if recovered == Recovered::Abandoned {
                        tracing::warn!(
                            key = %task,
                            "a task is abandoned: its process died under it more than {crash_cap} \
                             times in a row; once the cause is mended, start its instance anew",
                        );
                    }
                    summary.count(recovered);
                }
                Err(ApplyError::Store(error @ StoreError::Undecodable { .. })) => {
                    if self.left_aside.add(task) {
                        tracing::error!(key = %task, %error, "a task of a dead worker cannot be taken back");
                    } else {
                        known += 1;
                    }
                }
                Err(error) => drop(trouble.unless::<()>(Err(error))?),
            }
        }
        trouble.or(known)
    }

    /// Removes an execution, unless it was published.
    pub(crate) async fn remove_unpublished(&self, id: ExecutionId) -> Result<(), StoreError> {
        while !on!(self.driver, it => it.remove_unpublished(id, PIECE).await)? {}
        Ok(())
    }

    // ---- workflow versions ----

    /// The id of a workflow version, recorded if it is new. Several may be recorded that differ in
    /// options: executions keep those with which they were started.
    ///
    /// # Errors
    ///
    /// [`StoreError::OtherGraph`] if the version is recorded with another graph.
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
