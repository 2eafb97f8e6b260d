//! Looking again whenever something changed, without polling. Hints of the store say when; a slow
//! look of its own covers whatever no hint came for.

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use abide_store::{Hints, Store};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::output::note;
use crate::problem::Problem;

/// The longest time without a look.
const BACKSTOP: Duration = Duration::from_secs(2);

/// The same where changes by other processes cannot be watched.
const POLL: Duration = Duration::from_millis(200);

/// Eyes on a store.
pub(crate) struct Live {
    hints: Arc<Hints>,
    backstop: Duration,
}

impl Live {
    /// Starts to watch for changes by other processes.
    pub(crate) fn new(store: &Store) -> Live {
        let backstop = match store.watch_others(true) {
            Ok(()) => BACKSTOP,
            Err(error) => {
                note(format_args!("note: looking every {POLL:?}, since {error}"));
                POLL
            }
        };
        Live {
            hints: store.hints(),
            backstop,
        }
    }

    /// Looks now, and again after every change, but not more often than every `pace`, until
    /// `look` breaks with an answer. None once it is later than `deadline`.
    pub(crate) async fn until<T>(
        &self,
        pace: Duration,
        deadline: Option<Instant>,
        mut look: impl AsyncFnMut() -> Result<ControlFlow<T>, Problem>,
    ) -> Result<Option<T>, Problem> {
        loop {
            let looked = Instant::now();
            let mut changed = pin!(self.hints.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if let ControlFlow::Break(answer) = look().await? {
                return Ok(Some(answer));
            }
            let at_latest = |moment: Instant| deadline.map_or(moment, |end| moment.min(end));
            let hint = timeout_at(at_latest(looked + self.backstop), changed).await;
            // Without a hint the backstop is over, and it is time to look as well.
            drop(hint);
            sleep_until(at_latest(looked + pace)).await;
            if deadline.is_some_and(|end| end <= Instant::now()) {
                // What changed in the last moment counts.
                return match look().await? {
                    ControlFlow::Break(answer) => Ok(Some(answer)),
                    ControlFlow::Continue(()) => Ok(None),
                };
            }
        }
    }
}
