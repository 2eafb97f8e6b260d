//! Reading the store again after each change, without polling. Hints from the store say when
//! something changed. A slow poll finds changes for which no hint came.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use abide_store::Hints;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::error::EngineError;

/// The longest time between two reads.
const BACKSTOP: Duration = Duration::from_secs(2);

/// The same if changes by other processes cannot be watched.
const POLL: Duration = Duration::from_millis(200);

/// Watches a store for changes: see [`Client::changes`](crate::Client::changes).
pub struct Changes {
    hints: Arc<Hints>,
    backstop: Duration,
    trouble: Option<EngineError>,
}

impl Changes {
    /// Watches by hints, unless hints of other processes are not available.
    pub(super) fn new(hints: Arc<Hints>, trouble: Option<EngineError>) -> Changes {
        let backstop = match trouble {
            None => BACKSTOP,
            Some(_) => POLL,
        };
        Changes {
            hints,
            backstop,
            trouble,
        }
    }

    /// Why changes by other processes are not noticed at once, but only polled every
    /// [`backstop`](Changes::backstop). None if they are noticed at once.
    pub fn trouble(&self) -> Option<&EngineError> {
        self.trouble.as_ref()
    }

    /// How often the store is read without a hint.
    pub fn backstop(&self) -> Duration {
        self.backstop
    }

    /// Calls `look` now and again after every change, but not more often than every `pace`, until
    /// `look` breaks with an answer. Returns none if `deadline` passes first.
    ///
    /// # Errors
    ///
    /// Those of `look`.
    pub async fn until<T, E>(
        &self,
        pace: Duration,
        deadline: Option<Instant>,
        mut look: impl AsyncFnMut() -> Result<ControlFlow<T>, E>,
    ) -> Result<Option<T>, E> {
        loop {
            let looked = Instant::now();
            let mut changed = pin!(self.hints.changed.notified());
            // No change is missed from here on.
            changed.as_mut().enable();
            if let ControlFlow::Break(answer) = look().await? {
                return Ok(Some(answer));
            }
            let at_latest = |moment: Instant| deadline.map_or(moment, |end| moment.min(end));
            let hint = timeout_at(at_latest(looked + self.backstop), changed).await;
            // No hint came in the longest time, so read again anyway.
            drop(hint);
            sleep_until(at_latest(looked + pace)).await;
            if deadline.is_some_and(|end| end <= Instant::now()) {
                // A change in the last moment still counts.
                return match look().await? {
                    ControlFlow::Break(answer) => Ok(Some(answer)),
                    ControlFlow::Continue(()) => Ok(None),
                };
            }
        }
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Changes");
        shown
            .field("backstop", &self.backstop)
            .finish_non_exhaustive()
    }
}
