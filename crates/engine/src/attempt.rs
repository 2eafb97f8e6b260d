//! One claimed attempt of a task while it is in memory: its ids, and the shared state of its
//! function, its driver, and notices, shutdown and progress. The state of the task itself is in the
//! store; this module decides nothing about it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use abide_core::graph::{Graph, TaskSpec};
use abide_core::ids::{TaskKey, WorkerId};
use abide_core::kernel::{Claimed, Held};
use tokio::sync::Notify;
use tracing::Span;

use crate::clock::Clock;
use crate::handle::operations::{Operations, Sign};
use crate::handle::report_writer::ReportWriter;
use crate::handle::reports::Reports;

/// See the module's documentation.
pub(crate) struct Attempt {
    pub(crate) held: Held,
    pub(crate) number: u32,
    pub(crate) instance: Arc<str>,
    pub(crate) graph: Arc<Graph>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) payload_limit_bytes: usize,
    /// The span in which the function and its driver run, on any thread.
    pub(crate) span: Span,
    /// Weak: a handle that outlives its task must not keep the store open.
    pub(crate) report_writer: Weak<ReportWriter>,
    operations: Mutex<Operations>,
    pub(crate) reports: Mutex<Reports>,
    cancelled: AtomicBool,
    cancel: Notify,
    gone: AtomicBool,
    left: Notify,
    /// When the current poll of its function began; none while it is not polled.
    polled: Mutex<Option<Instant>>,
}

impl Attempt {
    /// The attempt that was claimed, by this worker unless the claim names another one, of a task of
    /// this workflow.
    pub(crate) fn new(
        claimed: &Claimed,
        worker: WorkerId,
        workflow: &str,
        clock: Arc<dyn Clock>,
        payload_limit_bytes: usize,
        report_writer: &Arc<ReportWriter>,
    ) -> Attempt {
        Attempt {
            held: Held {
                key: claimed.task.key,
                epoch: claimed.task.epoch,
                worker: claimed.task.worker.unwrap_or(worker),
            },
            number: claimed.task.attempt,
            instance: Arc::clone(&claimed.instance),
            graph: Arc::clone(&claimed.graph),
            clock,
            payload_limit_bytes,
            span: span(claimed, workflow),
            report_writer: Arc::downgrade(report_writer),
            operations: Mutex::new(Operations::new()),
            reports: Mutex::new(Reports::default()),
            cancelled: AtomicBool::new(false),
            cancel: Notify::new(),
            gone: AtomicBool::new(false),
            left: Notify::new(),
            polled: Mutex::new(None),
        }
    }

    /// Records that its function is being polled since then, or is not polled.
    pub(crate) fn set_polled(&self, since: Option<Instant>) {
        *self.polled.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Since when its function has occupied the thread that polls it.
    pub(crate) fn polled_since(&self) -> Option<Instant> {
        *self.polled.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Tells the function, by its token, that it should stop, and tells the driver why.
    pub(crate) fn stop(&self, sign: Sign) {
        self.cancelled.store(true, Ordering::Release);
        self.cancel.notify_waiters();
        self.operations().tell(sign);
    }

    /// Tells the driver something that does not concern the function.
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

/// The span that tells in the log to which attempt a line belongs. Its level is the highest, so
/// that no filter by level removes it. It is a root span, because the attempt belongs to its
/// execution, not to the code that happened to claim it. Without a subscriber this costs nothing.
fn span(claimed: &Claimed, workflow: &str) -> Span {
    let key = claimed.task.key;
    tracing::error_span!(
        parent: None,
        "attempt",
        instance = %claimed.instance,
        %workflow,
        execution = %key.execution,
        task = %claimed.graph.task_of(key.number).id,
        node = %claimed.graph.node_id(key.number),
        attempt = claimed.task.attempt,
    )
}

/// Waits until another task sets the flag and notifies.
async fn wait_for(flag: &AtomicBool, notify: &Notify) {
    loop {
        let notified = notify.notified();
        let mut notified = std::pin::pin!(notified);
        // A notification is not missed from here on, so the flag is checked afterwards.
        notified.as_mut().enable();
        if flag.load(Ordering::Acquire) {
            return;
        }
        notified.await;
    }
}
