//! Retention: whole histories go once their execution has been over for long enough. The execution
//! itself stays, with its result and its instance id; `executions.history_pruned_at` says when its
//! history went, and `verify` honours it.

use std::time::Duration;

use abide_core::ids::Timestamp;

use crate::driver::Driver;
use crate::error::StoreError;
use crate::store::Store;

/// Executions whose history goes in one transaction, on SQLite.
#[cfg(feature = "sqlite")]
const AT_ONCE: u32 = 200;

impl Store {
    /// Removes the histories of executions that ended longer than `keep` ago, and answers how many.
    ///
    /// On SQLite they go one by one, in bounded transactions. On PostgreSQL they go by the month of
    /// their start, with the last of the month: a month's partition is emptied at once, which gives
    /// its space back and leaves nothing to vacuum.
    ///
    /// # Errors
    ///
    /// What writing can meet. What was removed before stays removed.
    pub async fn prune_history(&self, keep: Duration) -> Result<u64, StoreError> {
        let keep_us = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
        let before = Timestamp(self.now().0.saturating_sub(keep_us));
        match &self.driver {
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(driver) => {
                let (mut pruned, mut after) = (0, abide_core::ids::ExecutionId(i64::MIN));
                loop {
                    let ended = driver.prune_history(after, before, AT_ONCE).await?;
                    pruned += ended.len() as u64;
                    match ended.last() {
                        Some(last) if ended.len() == AT_ONCE as usize => after = *last,
                        _ => return Ok(pruned),
                    }
                }
            }
            #[cfg(feature = "postgres")]
            Driver::Postgres(driver) => driver.prune_history(before).await,
        }
    }
}
