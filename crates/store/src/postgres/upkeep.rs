//! What keeps a schema going besides transitions: workers, leases, workflow versions, partitions.
//! Each on a connection of the pool, in a transaction of its own.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId, first_id_at};
use abide_core::timer::Timer;

use crate::error::StoreError;
use crate::leftovers::Leftovers;
use crate::queries;
use crate::views::{NewWorker, WorkflowKind};

use super::connect::{COMMIT, ROLLBACK, Session, silent};
use super::leases::Lease;
use super::orphan_search::OrphanSearches;
use super::queries::answers;
use super::statement::{Execute, Statement, Value};
use super::{Postgres, maintenance};

/// How long before it is needed the next partition of the history is made at the latest.
const AHEAD_US: i64 = 30 * 86_400 * 1_000_000;

/// How long a server may take from its start until it takes connections.
const STARTUP: Duration = Duration::from_secs(30);

/// How often a lease is tried to be renewed at once, and how long an answer is waited for at least.
const RENEWALS: u32 = 2;
const SHORTEST_SILENCE: Duration = Duration::from_secs(1);

/// The database's clock.
pub(crate) async fn database_now(session: &Session) -> Result<Timestamp, StoreError> {
    let sql = format!("SELECT {}", maintenance::DATABASE_NOW);
    let ask = Statement {
        sql: sql.into(),
        params: Vec::new(),
    };
    let answers = session.run(vec![ask]).await?;
    match answers.into_iter().flatten().flatten().next() {
        Some(Value::Int(now)) => Ok(Timestamp(now)),
        other => Err(StoreError::Internal(format!("no time but {other:?}"))),
    }
}

/// The longest lease: its end is a time still.
const LONGEST_LEASE_US: i64 = i64::MAX / 2;

fn micros(lease: Duration) -> i64 {
    let us = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
    us.min(LONGEST_LEASE_US)
}

async fn only(session: &Session, sql: &'static str) -> Result<(), StoreError> {
    let statement = Statement::new(sql, Vec::new());
    session.run(vec![statement]).await.map(drop)
}

impl Postgres {
    /// The time that a test gave; none where it is the database's.
    fn given(&self) -> Option<Timestamp> {
        self.shared.clock.given()
    }

    pub(crate) async fn register_worker(
        &self,
        worker: NewWorker,
        lease: Duration,
    ) -> Result<(), StoreError> {
        let session = self.session().await?;
        let asked = Instant::now();
        let (given, lease_us) = (self.given(), micros(lease));
        let NewWorker { id, host, pid } = &worker;
        let version = self.shared.migrations.newest();
        let registered =
            maintenance::register_worker(&*session, given, *id, host, *pid, lease_us, version);
        let registered = registered.await?;
        self.unless_outdated(&session, registered.is_some()).await?;
        let now = registered
            .ok_or_else(|| StoreError::Internal("a worker was not recorded".to_owned()))?;
        self.shared.clock.set(now, asked);
        Ok(())
    }

    /// Nothing: a worker that no longer renews its lease is left already.
    pub(crate) fn leave_worker(&self, _worker: WorkerId) {}

    /// Never known before it is recorded.
    pub(crate) fn is_lost(&self, _worker: WorkerId) -> bool {
        false
    }

    /// Whether somebody may have died: leases are for recovery to judge.
    #[expect(clippy::unnecessary_wraps, reason = "the other driver asks the system")]
    pub(crate) fn someone_died(&self, _thorough: bool) -> Result<bool, StoreError> {
        Ok(true)
    }

    pub(crate) async fn record_queues(
        &self,
        worker: WorkerId,
        list: String,
    ) -> Result<(), StoreError> {
        let session = self.session().await?;
        self.begin(&session).await?;
        answers(&*session, queries::record_queues(worker, &list)).await?;
        only(&session, COMMIT).await
    }

    pub(crate) async fn heartbeat(
        &self,
        worker: WorkerId,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        // On another connection if no answer comes: the lease must not end with a process of the server
        // that stands still.
        let limit = (lease / 4).max(SHORTEST_SILENCE);
        let silent = || silent(&self.shared.address.database(), limit);
        let mut renewed = Err(silent());
        for _ in 0..RENEWALS {
            let renewing = tokio::time::timeout(limit, self.renew(worker, lease));
            renewed = renewing.await.unwrap_or_else(|_| Err(silent()));
            // A connection may have given the server up before that.
            if !matches!(renewed, Err(StoreError::Unavailable { .. })) {
                break;
            }
        }
        let is_alive = renewed?;
        if is_alive {
            self.look_ahead();
        }
        Ok(is_alive)
    }

    async fn renew(&self, worker: WorkerId, lease: Duration) -> Result<bool, StoreError> {
        let session = self.shared.keeper.get().await?;
        let asked = Instant::now();
        let given = self.given();
        let version = self.shared.migrations.newest();
        let now = maintenance::heartbeat(&*session, given, worker, micros(lease), version).await?;
        self.unless_outdated(&session, now.is_some()).await?;
        if let Some(now) = now {
            self.shared.clock.set(now, asked);
        }
        Ok(now.is_some())
    }

    /// Makes the partitions of the coming months while nobody needs them yet. No lease waits for that.
    fn look_ahead(&self) {
        let ahead = self.now().plus_us(AHEAD_US);
        if first_id_at(ahead) < self.shared.events_end.load(Ordering::Relaxed) {
            return;
        }
        let (shared, now) = (self.shared.clone(), self.now());
        self.shared.runtime.spawn(async move {
            let Ok(_alone) = shared.looking_ahead.try_lock() else {
                return;
            };
            let made = async {
                let mut session = shared.readers.get().await?;
                shared.make_room(&mut session, now).await
            };
            if let Err(error) = made.await {
                tracing::warn!(%error, "no partitions of the history could be made ahead of time");
            }
        });
    }

    /// The connection lives on the driver's own thread, so a thread of any kind may wait for it.
    pub(crate) fn heartbeat_blocking(
        &self,
        worker: WorkerId,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        if self.shared.queue.is_closed() {
            return Err(StoreError::Closed);
        }
        self.shared.runtime.block_on(self.heartbeat(worker, lease))
    }

    pub(crate) async fn end_worker(&self, worker: WorkerId) -> Result<(), StoreError> {
        let session = self.session().await?;
        self.begin(&session).await?;
        maintenance::end_worker(&*session, self.given(), worker).await?;
        only(&session, COMMIT).await
    }

    /// Whether the server has been there for so long that everybody could renew a lease. A store whose
    /// time a test gives is always as the test says.
    pub(crate) async fn is_settled(&self, lease: Duration) -> Result<bool, StoreError> {
        if self.given().is_some() {
            return Ok(true);
        }
        let session = self.session().await?;
        let age_us = maintenance::server_age(&*session).await?;
        Ok(age_us > micros(lease.saturating_add(STARTUP)))
    }

    pub(crate) async fn has_workers(&self) -> Result<bool, StoreError> {
        let session = self.session().await?;
        let workers = answers(&*session, queries::workers()).await?;
        let now = self.now();
        Ok(workers.iter().any(|worker| worker.lease_until >= now))
    }

    /// Declares a worker dead if its lease is over still. Where a test gives the time, that decides.
    async fn declare_dead(&self, session: &Session, lease: &Lease) -> Result<bool, StoreError> {
        let version = self.shared.migrations.newest();
        let declared = match self.given() {
            Some(now) => {
                maintenance::declare_dead(session, Some(now), lease.worker, version).await?
            }
            None => maintenance::declare_silent(session, lease, version).await?,
        };
        self.unless_outdated(session, declared).await?;
        Ok(declared)
    }

    /// The workers whose lease is over, as this look and those before it found.
    fn over(&self, look: &maintenance::Look) -> Vec<Lease> {
        if self.given().is_some() {
            let is_over = |lease: &&Lease| look.expired.contains(&lease.worker);
            return look.leases.iter().filter(is_over).copied().collect();
        }
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.look(&look.leases, Instant::now())
    }

    /// Declares the workers dead whose lease is over; with them those that are known to be gone and
    /// left something all the same: whoever recovered them died too, or an answer to their last
    /// claim was under way. Of these there can be some only if a worker has ended lately.
    pub(crate) async fn leftovers(&self, own: WorkerId) -> Result<Leftovers, StoreError> {
        let session = self.session().await?;
        let given = self.given();
        let since = self.orphan_searches().ended_since();
        let look = maintenance::look(&*session, given, since).await?;
        let mut dead = Vec::new();
        for lease in self.over(&look).iter().filter(|lease| lease.worker != own) {
            let worker = lease.worker;
            if self.declare_dead(&session, lease).await? {
                tracing::warn!(%worker, "a worker's lease is over: its tasks are taken back");
                dead.push(worker);
            }
        }
        let thorough =
            look.ended || !dead.is_empty() || self.orphan_searches().must_be_thorough(look.at);
        let left = match thorough {
            true => maintenance::left_behind(&*session).await?,
            false => Vec::new(),
        };
        self.orphan_searches()
            .done(look.at, thorough, !left.is_empty());
        dead.extend(left.into_iter().filter(|worker| *worker != own));
        dead.sort_unstable();
        dead.dedup();
        Ok(Leftovers {
            dead,
            unpublished: look.unpublished,
        })
    }

    fn orphan_searches(&self) -> MutexGuard<'_, OrphanSearches> {
        self.orphan_searches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn active_of(&self, worker: WorkerId) -> Result<u32, StoreError> {
        let session = self.session().await?;
        maintenance::active_of(&*session, worker).await
    }

    pub(crate) async fn left_by(
        &self,
        worker: WorkerId,
        after: TaskKey,
        limit: u32,
    ) -> Result<Vec<TaskKey>, StoreError> {
        let session = self.session().await?;
        maintenance::left_by(&*session, worker, after, limit).await
    }

    pub(crate) async fn waiting_for_code(&self) -> Result<Vec<Timer>, StoreError> {
        let session = self.session().await?;
        answers(&*session, queries::waiting_for_code()).await
    }

    pub(crate) async fn remove_unpublished(
        &self,
        id: ExecutionId,
        limit: u32,
    ) -> Result<bool, StoreError> {
        let session = self.session().await?;
        self.begin(&session).await?;
        let is_gone = maintenance::remove_unpublished(&*session, id, limit).await?;
        only(&session, COMMIT).await?;
        Ok(is_gone)
    }

    pub(crate) async fn ensure_version(
        &self,
        name: &str,
        version: &str,
        kind: WorkflowKind,
        graph: Arc<Graph>,
    ) -> Result<VersionId, StoreError> {
        let session = self.session().await?;
        let fingerprint = graph.fingerprint();
        let committed = queries::version(name, version, &fingerprint);
        if let Some(id) = answers(&*session, committed).await?.pop() {
            return Ok(id);
        }
        self.begin(&session).await?;
        let now = self.now();
        let id = maintenance::ensure_version(&*session, now, name, version, kind, &graph).await;
        let end = if id.is_ok() { COMMIT } else { ROLLBACK };
        only(&session, end).await?;
        id
    }
}
