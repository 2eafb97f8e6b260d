//! The loop that looks below the low-water marks.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::Shared;
use super::low_water::LowWater;

/// How long after something was picked what lies below the marks is looked at.
const SOUND_AFTER: Duration = Duration::from_secs(1);

/// A look that took long is followed by a pause that is so many times as long.
const PAUSES: u32 = 20;

/// Looks below the marks now and then, for as long as the store is open. A process that picks
/// nothing looks at nothing.
pub(crate) async fn keep_sounding(low_water: Arc<LowWater>, shared: Weak<Shared>) {
    let mut pause = SOUND_AFTER;
    loop {
        low_water.picked.notified().await;
        tokio::time::sleep(pause).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let begun = Instant::now();
        let sounded = async { low_water.sound(&*shared.readers.get().await?).await };
        match sounded.await {
            Ok((work, timer)) => {
                if work {
                    shared.hints.work.notify_one();
                }
                if let Some(due) = timer {
                    shared.hints.timer_set(due);
                }
            }
            Err(error) => tracing::debug!(%error, "can't look below the low-water marks"),
        }
        pause = SOUND_AFTER.max(begun.elapsed() * PAUSES);
    }
}
