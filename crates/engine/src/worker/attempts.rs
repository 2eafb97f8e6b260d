//! The attempts in this process's memory, and which of them are parked.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use abide_core::ids::TaskKey;
use tokio::sync::Notify;

use crate::attempt::Attempt;
use crate::handle::operations::Sign;

/// By task: a worker holds a task at most once.
#[derive(Default)]
pub(crate) struct Attempts {
    by_key: Mutex<HashMap<TaskKey, Arc<Attempt>>>,
    emptied: Notify,
}

impl Attempts {
    /// Adds an attempt. Returns an earlier claim of the same task that is still in memory: the new
    /// attempt must not begin before the earlier one has left.
    fn insert(&self, attempt: &Arc<Attempt>) -> Option<Arc<Attempt>> {
        self.lock().insert(attempt.key(), Arc::clone(attempt))
    }

    fn remove(&self, attempt: &Arc<Attempt>) {
        let mut by_key = self.lock();
        let known = by_key.get(&attempt.key());
        if known.is_some_and(|known| Arc::ptr_eq(known, attempt)) {
            by_key.remove(&attempt.key());
        }
        if by_key.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    pub(crate) fn get(&self, key: TaskKey) -> Option<Arc<Attempt>> {
        self.lock().get(&key).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Attempt>> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Waits until no attempt is in memory.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            let mut emptied = std::pin::pin!(emptied);
            emptied.as_mut().enable();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskKey, Arc<Attempt>>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt's place among the attempts, for as long as its future may be in memory.
pub(crate) struct Registered {
    pub(crate) attempt: Arc<Attempt>,
    predecessor: Option<Arc<Attempt>>,
    attempts: Arc<Attempts>,
}

impl Registered {
    pub(crate) fn new(attempts: &Arc<Attempts>, attempt: Attempt) -> Registered {
        let attempt = Arc::new(attempt);
        let predecessor = attempts.insert(&attempt);
        Registered {
            attempt,
            predecessor,
            attempts: Arc::clone(attempts),
        }
    }

    /// Waits until an earlier claim of the same task has left memory.
    pub(crate) async fn alone(&mut self) {
        if let Some(predecessor) = self.predecessor.take() {
            predecessor.left().await;
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.attempts.remove(&self.attempt);
        self.attempt.leave();
    }
}

/// The parked attempts whose futures may be dropped, oldest first. At most `limit` stay.
pub(crate) struct Parked {
    limit: usize,
    queue: Mutex<ParkedQueue>,
}

#[derive(Default)]
struct ParkedQueue {
    next: u64,
    attempts: BTreeMap<u64, Arc<Attempt>>,
}

impl Parked {
    pub(crate) fn new(limit: usize) -> Parked {
        Parked {
            limit,
            queue: Mutex::default(),
        }
    }

    /// Whether the future of a parked attempt is dropped at once.
    pub(crate) fn evicts_at_once(&self) -> bool {
        self.limit == 0
    }

    /// Adds an attempt. If there are now too many, tells the oldest to leave memory.
    pub(crate) fn add(self: &Arc<Self>, attempt: &Arc<Attempt>) -> ParkedPlace {
        let mut queue = self.lock();
        let number = queue.next;
        queue.next += 1;
        queue.attempts.insert(number, Arc::clone(attempt));
        let oldest = match queue.attempts.len() > self.limit {
            true => queue.attempts.pop_first(),
            false => None,
        };
        drop(queue);
        if let Some((_, oldest)) = oldest {
            oldest.tell(Sign::Evict);
        }
        ParkedPlace {
            parked: Arc::clone(self),
            number,
        }
    }

    fn lock(&self) -> MutexGuard<'_, ParkedQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A parked attempt's place in the queue.
pub(crate) struct ParkedPlace {
    parked: Arc<Parked>,
    number: u64,
}

impl Drop for ParkedPlace {
    fn drop(&mut self) {
        self.parked.lock().attempts.remove(&self.number);
    }
}
