//! One claimed attempt of a task while it is in memory: who it is, and where its function, its
//! driver and everybody else (notices, shutdown, progress) meet. The task's state itself is in the
//! store; nothing here decides about it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use abide_core::graph::{Graph, TaskSpec};
use abide_core::ids::TaskKey;
use abide_core::kernel::{Claimed, Held};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::handle::operations::{Operations, Sign};
use crate::handle::progress::Reports;
use crate::worker::Worker;

/// See the module's documentation.
pub(crate) struct Attempt {
    pub(crate) held: Held,
    pub(crate) number: u32,
    pub(crate) instance: Arc<str>,
    pub(crate) graph: Arc<Graph>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) payload_limit_bytes: usize,
    /// Weak: a handle that outlives its task must not keep the store open.
    pub(crate) worker: Weak<Worker>,
    operations: Mutex<Operations>,
    pub(crate) reports: Mutex<Reports>,
    cancelled: AtomicBool,
    cancel: Notify,
    gone: AtomicBool,
    left: Notify,
}

impl Attempt {
    pub(crate) fn new(claimed: &Claimed, worker: &Arc<Worker>) -> Attempt {
        Attempt {
            held: Held {
                key: claimed.task.key,
                epoch: claimed.task.epoch,
                worker: claimed.task.worker.unwrap_or_else(|| worker.id()),
            },
            number: claimed.task.attempt,
            instance: Arc::clone(&claimed.instance),
            graph: Arc::clone(&claimed.graph),
            clock: Arc::clone(&worker.clock),
            payload_limit_bytes: worker.options.payload_limit_bytes,
            worker: Arc::downgrade(worker),
            operations: Mutex::new(Operations::new()),
            reports: Mutex::new(Reports::default()),
            cancelled: AtomicBool::new(false),
            cancel: Notify::new(),
            gone: AtomicBool::new(false),
            left: Notify::new(),
        }
    }

    pub(crate) fn key(&self) -> TaskKey {
        self.held.key
    }

    /// The task that its node runs.
    pub(crate) fn task(&self) -> &TaskSpec {
        self.graph.task_of(self.key().number)
    }

    /// The node's id.
    pub(crate) fn node(&self) -> &str {
        self.graph.node_id(self.key().number)
    }

    /// Its durable operations. The lock is held for a few instructions, never across an `await`.
    pub(crate) fn operations(&self) -> MutexGuard<'_, Operations> {
        self.operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the function, by its token, that it should stop, and the driver why.
    pub(crate) fn stop(&self, sign: Sign) {
        self.cancelled.store(true, Ordering::Release);
        self.cancel.notify_waiters();
        self.operations().tell(sign);
    }

    /// Tells the driver something that is none of the function's business.
    pub(crate) fn tell(&self, sign: Sign) {
        self.operations().tell(sign);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(crate) async fn cancelled(&self) {
        wait_for(&self.cancelled, &self.cancel).await;
    }

    /// Says that its function is gone from memory.
    pub(crate) fn leave(&self) {
        self.gone.store(true, Ordering::Release);
        self.left.notify_waiters();
    }

    /// Waits until its function is gone from memory.
    pub(crate) async fn left(&self) {
        wait_for(&self.gone, &self.left).await;
    }
}

/// Waits until the flag is set by somebody who then notifies.
async fn wait_for(flag: &AtomicBool, notify: &Notify) {
    loop {
        let notified = notify.notified();
        let mut notified = std::pin::pin!(notified);
        // From here on a notification is not missed, so the flag is looked at afterwards.
        notified.as_mut().enable();
        if flag.load(Ordering::Acquire) {
            return;
        }
        notified.await;
    }
}
