//! Executions whose rows another transaction keeps locked, such as a user's open transaction. For half a
//! second after a flush met the lock, no claim of this process picks their tasks, so that claims do not
//! wait for the same lock again and again.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use abide_core::ids::ExecutionId;
use rustc_hash::{FxHashMap, FxHashSet};

/// How long no claim picks tasks of an execution that was found locked.
const LEFT_ALONE: Duration = Duration::from_millis(500);

/// The executions that were found locked in the last half second.
#[derive(Default)]
pub(crate) struct LockedExecutions(Mutex<FxHashMap<ExecutionId, Instant>>);

impl LockedExecutions {
    pub(crate) fn add<'a>(&self, ids: impl IntoIterator<Item = &'a ExecutionId>) {
        let until = Instant::now() + LEFT_ALONE;
        let mut locked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locked.extend(ids.into_iter().map(|id| (*id, until)));
    }

    /// The executions whose tasks no claim may pick now.
    pub(crate) fn now(&self) -> FxHashSet<ExecutionId> {
        let mut locked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if locked.is_empty() {
            return FxHashSet::default();
        }
        let now = Instant::now();
        locked.retain(|_, until| *until > now);
        locked.keys().copied().collect()
    }
}
