//! Tasks that recovery could not take back.

use std::sync::{Mutex, PoisonError};

use abide_core::ids::TaskKey;
use rustc_hash::FxHashSet;

/// Tasks of dead workers that cannot be taken back. They are tried again, since somebody may mend
/// them by hand, but told of once.
#[derive(Debug, Default)]
pub(crate) struct LeftAside(Mutex<FxHashSet<TaskKey>>);

impl LeftAside {
    /// More than these are forgotten, and told of again.
    const MOST: usize = 10_000;

    /// Leaves a task aside. False if it was already.
    pub(crate) fn add(&self, task: TaskKey) -> bool {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.len() >= LeftAside::MOST {
            tasks.clear();
        }
        tasks.insert(task)
    }
}
