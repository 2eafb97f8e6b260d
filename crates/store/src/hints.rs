//! Hints: after a commit, who may have something to do. They are never the truth: whoever is woken
//! looks into the store.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use abide_core::ids::{ExecutionId, Timestamp};
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, watch};

/// What this process's loops wait on.
#[derive(Debug)]
pub struct Hints {
    /// The outbox, or this process's inbox, may have something.
    pub work: Notify,
    /// A timer earlier than the ones known may have been set.
    pub timers: Notify,
    /// Another process may have changed something.
    pub changed: Notify,
    next_due: AtomicI64,
    ends: Mutex<FxHashMap<ExecutionId, watch::Sender<bool>>>,
}

impl Default for Hints {
    fn default() -> Self {
        Hints {
            work: Notify::new(),
            timers: Notify::new(),
            changed: Notify::new(),
            next_due: AtomicI64::new(i64::MAX),
            ends: Mutex::default(),
        }
    }
}

impl Hints {
    /// When the earliest timer that this process knows of is due; none if it knows of none.
    pub fn next_due(&self) -> Option<Timestamp> {
        match self.next_due.load(Ordering::Acquire) {
            i64::MAX => None,
            due => Some(Timestamp(due)),
        }
    }

    /// A timer was set.
    pub(crate) fn timer_set(&self, due: Timestamp) {
        if self.next_due.fetch_min(due.0, Ordering::AcqRel) > due.0 {
            self.timers.notify_one();
        }
    }

    /// The timers were read: this is the earliest that is left.
    pub(crate) fn timers_read(&self, next: Option<Timestamp>) {
        self.next_due
            .store(next.map_or(i64::MAX, |next| next.0), Ordering::Release);
    }

    pub(crate) fn ended(&self, id: ExecutionId) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = ends.remove(&id) {
            sender.send_replace(true);
        }
    }

    /// The executions whose end somebody waits for.
    pub(crate) fn watched(&self) -> Vec<ExecutionId> {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.retain(|_, sender| sender.receiver_count() > 0);
        ends.keys().copied().collect()
    }

    pub(crate) fn watch_end(self: &Arc<Self>, id: ExecutionId) -> EndWatch {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = ends.entry(id).or_insert_with(|| watch::channel(false).0);
        EndWatch {
            id,
            receiver: sender.subscribe(),
            hints: self.clone(),
        }
    }
}

/// Waits for the commit that ends an execution. Taken before the status is read, it misses
/// nothing.
#[derive(Debug)]
pub struct EndWatch {
    id: ExecutionId,
    receiver: watch::Receiver<bool>,
    hints: Arc<Hints>,
}

impl EndWatch {
    /// Returns once the execution may have ended.
    pub async fn ended(&mut self) {
        // An error means that the sender is gone, which happens after it told the end.
        let told = self.receiver.wait_for(|ended| *ended).await;
        drop(told);
    }
}

impl Drop for EndWatch {
    fn drop(&mut self) {
        let mut ends = self
            .hints
            .ends
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // This receiver still counts.
        if ends
            .get(&self.id)
            .is_some_and(|sender| sender.receiver_count() <= 1)
        {
            ends.remove(&self.id);
        }
    }
}
