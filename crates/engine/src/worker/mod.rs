//! The worker: claims tasks and runs them. Nothing here knows SQL or decides about states: the worker
//! asks the store, and does what the store answers.
//!
//! - [`running`] starts and stops a worker: its [`catalog`] of what it can run, its [`identity`] in the
//!   store, its loops, its [`shutdown`].
//! - The loops: [`dispatch`] claims work, [`timers`] fires timers, [`recovery`] takes back the tasks of
//!   dead workers, [`reconcile`] compares the tasks of the worker and of the store, [`retention`]
//!   removes old histories. Two threads: [`heartbeat`] renews the lease, [`lookout`] watches other
//!   workers ([`reachability`]: whether this process may judge them).
//! - [`chain`] runs claimed tasks, each in a tokio task of its own. [`apart`] waits until a suspect task
//!   is alone, [`call`] calls its [`function`], [`drive`] polls it ([`persist`] writes what it did,
//!   [`timeout`] limits it) until its [`exit`]; [`finish`] records its outcome, [`report`] logs it.
//! - [`attempts`]: what is in memory. [`notice`]: what the store tells attempts. [`own`]: the runtime for
//!   what callers wait for.
//!
//! Invariant: a task's function runs only after its claim is written, and in a slot; the slot is
//! given away only after the store knows that the task waits, and taken before the store is told
//! that it goes on. So the tasks that the store calls Active are never more than the slots.

mod apart;
mod attempts;
mod call;
mod catalog;
mod chain;
mod dispatch;
mod drive;
mod exit;
mod finish;
mod function;
mod heartbeat;
mod identity;
mod lookout;
mod notice;
mod own;
mod persist;
mod reachability;
mod reconcile;
mod recovery;
mod report;
mod retention;
mod running;
mod shutdown;
#[cfg(test)]
mod tests;
mod timeout;
mod timers;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use abide_core::ids::{IdGenerator, VersionId, WorkerId};
use abide_core::kernel::{Claimed, Offer};
use abide_store::Store;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedRwLockReadGuard, OwnedSemaphorePermit, Semaphore};

use crate::attempt::Attempt;
use crate::authoring::StateMap;
use crate::clock::Clock;
use crate::handle::operations::Sign;
use crate::handle::report_writer::ReportWriter;
use crate::options::Options;
use crate::random::Random;
use crate::slot::SlotToken;

use attempts::{Attempts, Parked, Registered};
use catalog::Catalog;
use own::OwnRuntime;
use reachability::Reachability;

pub(crate) use running::{Running, start};

/// The most free slots that are offered besides the one at hand, so that a fan-out begins in the
/// transaction that makes it ready, but doesn't take every slot past the outbox's order.
const MAX_EXTRA_SLOTS: usize = 7;

/// What all parts of a worker share.
pub(crate) struct Worker {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) runtime: Handle,
    pub(crate) options: Options,
    pub(crate) random: Arc<Random>,
    /// The id under which the worker claims. It changes after a lost lease.
    id: AtomicI64,
    ids: Arc<Mutex<IdGenerator>>,
    slots: Arc<Semaphore>,
    /// The single permit of a task that runs alone.
    apart: Arc<Semaphore>,
    /// Runs starts, however busy the runtime of the tasks is.
    own: OwnRuntime,
    catalog: Catalog,
    queues: Arc<[VersionId]>,
    state: Arc<StateMap>,
    attempts: Arc<Attempts>,
    report_writer: Arc<ReportWriter>,
    parked: Arc<Parked>,
    stopping: AtomicBool,
    stop: Notify,
    /// Held for reading from before a claim until all that was claimed is in memory.
    claims: Arc<tokio::sync::RwLock<()>>,
    /// Notified when the store and this worker may disagree about what it holds, because an answer or a connection
    /// was lost.
    reconcile: Notify,
    /// Whether the last claim left rows in the outbox.
    has_backlog: AtomicBool,
    /// How many tasks in memory wait for slots. They come before what is in the outbox.
    waiting_for_slots: AtomicUsize,
    /// Notified when another worker may have died.
    death: Notify,
    reachability: Reachability,
    /// Held while the worker changes its id.
    beginning_anew: tokio::sync::Mutex<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        // No attempt is left: other workers may take back what this one could not give back.
        self.store.leave_worker(self.id());
    }
}

/// Counts a task in memory that waits for a slot, until this is dropped.
struct WaitsForSlots<'a>(&'a AtomicUsize);

impl Drop for WaitsForSlots<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A claimed task with a slot to run in.
struct Work {
    claimed: Claimed,
    registered: Registered,
    slot: SlotToken,
}

impl Worker {
    /// The id under which the worker claims.
    pub(crate) fn id(&self) -> WorkerId {
        WorkerId(self.id.load(Ordering::Acquire))
    }

    /// Whether the worker claims no more.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits until the worker claims no more.
    async fn stopping(&self) {
        loop {
            let stop = self.stop.notified();
            let mut stop = std::pin::pin!(stop);
            stop.as_mut().enable();
            if self.is_stopping() {
                return;
            }
            stop.await;
        }
    }

    /// The runtime for starts.
    pub(crate) fn own(&self) -> &Handle {
        self.own.handle()
    }

    /// Has the store's and the worker's lists of held tasks compared soon.
    pub(crate) fn reconcile_soon(&self) {
        self.reconcile.notify_one();
    }

    /// Leave to claim, for as long as this is kept. None while a comparison waits for claims under
    /// way.
    pub(crate) fn may_claim(&self) -> Option<OwnedRwLockReadGuard<()>> {
        Arc::clone(&self.claims).try_read_owned().ok()
    }

    /// Free slots to offer with a request that may make up to `tasks` tasks ready, and the permits
    /// that keep them free meanwhile.
    pub(crate) fn offer(&self, tasks: usize) -> Option<(Offer, Vec<OwnedSemaphorePermit>)> {
        if self.is_stopping() {
            return None;
        }
        let permits = self.free_slots(tasks.min(1 + MAX_EXTRA_SLOTS));
        let slots = u32::try_from(permits.len()).expect("a few slots");
        let offer = Offer {
            worker: self.id(),
            slots,
            hop: 0,
            queues: Arc::clone(&self.queues),
            fills: false,
        };
        (slots > 0).then_some((offer, permits))
    }

    /// Whether a slot that a task leaves is offered to the outbox: tasks are left there, and no task in memory waits
    /// for a slot.
    fn fills_slots(&self) -> bool {
        self.has_backlog.load(Ordering::Relaxed)
            && self.waiting_for_slots.load(Ordering::Relaxed) == 0
    }

    /// Counts a task that waits for slots, until this is dropped.
    fn waits_for_slots(&self) -> WaitsForSlots<'_> {
        self.waiting_for_slots.fetch_add(1, Ordering::Relaxed);
        WaitsForSlots(&self.waiting_for_slots)
    }

    /// Claimed tasks, each with one of the permits to run in.
    fn works(
        &self,
        claimed: impl IntoIterator<Item = Claimed>,
        permits: impl IntoIterator<Item = OwnedSemaphorePermit>,
    ) -> Vec<Work> {
        let mut permits = permits.into_iter();
        let claimed = claimed.into_iter();
        let work = |claimed| {
            let permit = permits.next();
            debug_assert!(permit.is_some(), "no more is claimed than there are slots");
            self.work(claimed, permit)
        };
        claimed.map(work).collect()
    }

    fn work(&self, claimed: Claimed, permit: Option<OwnedSemaphorePermit>) -> Work {
        let attempt = Attempt::new(
            &claimed,
            self.id(),
            self.catalog.name(claimed.workflow).unwrap_or_default(),
            Arc::clone(&self.clock),
            self.options.payload_limit_bytes,
            &self.report_writer,
        );
        let registered = Registered::new(&self.attempts, attempt);
        // The sign may have been sent before this attempt was registered.
        if self.store.hints().is_lost() {
            registered.attempt.stop(Sign::Lost);
        } else if self.is_stopping() {
            registered.attempt.tell(Sign::Leave);
        }
        let slots = Arc::clone(&self.slots);
        let slot = match permit {
            Some(permit) => SlotToken::holding(slots, permit),
            None => SlotToken::new(slots),
        };
        Work {
            claimed,
            registered,
            slot,
        }
    }

    /// Up to `most` slots that are free right now.
    fn free_slots(&self, most: usize) -> Vec<OwnedSemaphorePermit> {
        let free = || Arc::clone(&self.slots).try_acquire_owned().ok();
        std::iter::from_fn(free).take(most).collect()
    }
}
