//! Executions that somebody keeps locked for long, such as a user's open transaction. For a moment
//! nobody claims from them, so that a claim doesn't wait for them again and again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use abide_core::ids::ExecutionId;
use rustc_hash::{FxHashMap, FxHashSet};

/// How long an execution that was found locked is left alone.
const LEFT_ALONE: Duration = Duration::from_millis(500);

/// The executions that were found locked lately.
#[derive(Default)]
pub(crate) struct Stuck(Mutex<FxHashMap<ExecutionId, Instant>>);

impl Stuck {
    pub(crate) fn add<'a>(&self, ids: impl IntoIterator<Item = &'a ExecutionId>) {
        let until = Instant::now() + LEFT_ALONE;
        let mut stuck = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.extend(ids.into_iter().map(|id| (*id, until)));
    }

    /// Those that are to be left alone now.
    pub(crate) fn now(&self) -> FxHashSet<ExecutionId> {
        let mut stuck = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stuck.is_empty() {
            return FxHashSet::default();
        }
        let now = Instant::now();
        stuck.retain(|_, until| *until > now);
        stuck.keys().copied().collect()
    }
}
