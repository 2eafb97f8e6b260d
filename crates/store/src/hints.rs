//! Hints: after a commit, who may have something to do. They are never the truth: whoever is woken
//! looks into the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use abide_core::ids::{ExecutionId, Timestamp};
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, watch};

use crate::error::StoreError;

/// What this process's loops wait on.
#[derive(Debug)]
pub struct Hints {
    /// The outbox, or this process's inbox, may have something.
    pub work: Notify,
    /// A timer earlier than the ones known may have been set.
    pub timers: Notify,
    /// Another process may have changed something.
    pub changed: Notify,
    /// The connection to the database was lost and is back. What was told meanwhile was not heard, and
    /// a database that took over for another one may not have all that was acknowledged.
    pub reconnected: Notify,
    due: Mutex<Due>,
    ends: Mutex<Ends>,
    /// Why nothing can be written any more.
    lost: watch::Sender<Option<StoreError>>,
}

/// Whom the end of an execution is told to.
#[derive(Debug, Default)]
struct Ends {
    watched: FxHashMap<ExecutionId, watch::Sender<bool>>,
}

/// What is known of timers.
#[derive(Debug, Default)]
struct Due {
    next: Option<Timestamp>,
    sets: u64,
}

impl Default for Hints {
    fn default() -> Self {
        Hints {
            work: Notify::new(),
            timers: Notify::new(),
            changed: Notify::new(),
            reconnected: Notify::new(),
            due: Mutex::default(),
            ends: Mutex::default(),
            lost: watch::Sender::default(),
        }
    }
}

impl Hints {
    /// When the earliest timer that this process knows of is due; none if it knows of none.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.due().next
    }

    /// A timer was set.
    pub(crate) fn timer_set(&self, at: Timestamp) {
        let mut due = self.due();
        due.sets += 1;
        if due.next.is_none_or(|next| at < next) {
            due.next = Some(at);
            drop(due);
            self.timers.notify_one();
        }
    }

    /// How often a timer was set, for those who are about to read them.
    pub(crate) fn timer_sets(&self) -> u64 {
        self.due().sets
    }

    /// The timers were read: this is the earliest that is left. If some were set since `sets`, they
    /// may not have been read, and nothing that is known is forgotten.
    pub(crate) fn timers_read(&self, next: Option<Timestamp>, sets: u64) {
        let mut due = self.due();
        due.next = match due.next {
            Some(known) if due.sets != sets => Some(next.map_or(known, |next| next.min(known))),
            _ => next,
        };
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ended(&self, id: ExecutionId) {
        if let Some(sender) = self.ends().watched.remove(&id) {
            sender.send_replace(true);
        }
    }

    /// This process can write nothing any more, for good: its worker is told why, and so are callers that
    /// wait for an end.
    pub(crate) fn lose(&self, error: StoreError) {
        let mut ends = self.ends();
        self.lost.send_if_modified(|lost| {
            let is_news = lost.is_none();
            lost.get_or_insert(error);
            is_news
        });
        for (_, sender) in ends.watched.drain() {
            sender.send_replace(true);
        }
    }

    /// Whether this process can write nothing any more.
    pub fn is_lost(&self) -> bool {
        self.lost.borrow().is_some()
    }

    /// Returns once this process can write nothing any more, with the reason:
    /// [`StoreError::FileGone`] or [`StoreError::TooNew`].
    pub async fn lost(&self) -> StoreError {
        let mut lost = self.lost.subscribe();
        let told = lost.wait_for(Option::is_some).await;
        // The sender is part of `self`.
        let told = told.expect("the sender lives");
        told.clone().expect("there is a reason")
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The executions whose end somebody waits for.
    pub(crate) fn watched(&self) -> Vec<ExecutionId> {
        let watched = &mut self.ends().watched;
        watched.retain(|_, sender| sender.receiver_count() > 0);
        watched.keys().copied().collect()
    }

    pub(crate) fn watch_end(self: &Arc<Self>, id: ExecutionId) -> EndWatch {
        let mut ends = self.ends();
        let is_lost = self.is_lost();
        let made = || watch::channel(is_lost).0;
        let sender = ends.watched.entry(id).or_insert_with(made);
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
    ///
    /// # Errors
    ///
    /// [`StoreError::FileGone`] or [`StoreError::TooNew`] if this process can write nothing any more.
    pub async fn ended(&mut self) -> Result<(), StoreError> {
        // An error means that the sender is gone, which happens after it told the end.
        let told = self.receiver.wait_for(|ended| *ended).await;
        drop(told);
        self.hints.lost.borrow().clone().map_or(Ok(()), Err)
    }
}

impl Drop for EndWatch {
    fn drop(&mut self) {
        let watched = &mut self.hints.ends().watched;
        // This receiver still counts.
        if watched
            .get(&self.id)
            .is_some_and(|sender| sender.receiver_count() <= 1)
        {
            watched.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_is_set_while_others_are_read_is_not_forgotten() {
        let hints = Hints::default();
        let sets = hints.timer_sets();
        hints.timer_set(Timestamp(7));
        hints.timers_read(None, sets);
        assert_eq!(hints.next_due(), Some(Timestamp(7)));
        hints.timers_read(None, hints.timer_sets());
        assert_eq!(hints.next_due(), None);
    }
}
