//! Waiting for a condition outside the program. The task polls the condition, and other tasks use
//! its slot meanwhile.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use abide_core::ids::Timestamp;

use super::TaskHandle;
use super::condition::Condition;
use super::place::{Asked, Place};
use crate::attempt::Attempt;
use crate::authoring::TaskError;
use crate::clock::{Clock, duration_of_us};

/// The shortest interval between two checks of a condition. A shorter interval is raised to this
/// one.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// When to stop waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// This long after the wait began. After a crash the task runs again and the time begins anew.
    After(Duration),
    /// At this time.
    At(SystemTime),
}

impl From<Duration> for Deadline {
    fn from(after: Duration) -> Deadline {
        Deadline::After(after)
    }
}

impl From<SystemTime> for Deadline {
    fn from(at: SystemTime) -> Deadline {
        Deadline::At(at)
    }
}

/// How a wait with a deadline ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Deferred {
    /// The condition became true.
    Met,
    /// The deadline passed before the condition was true.
    Expired,
}

impl TaskHandle {
    /// Waits until `condition` is true, without a slot. The task is Deferred and other tasks run in
    /// its place. When the condition is true, the task waits its turn for a slot and then
    /// continues.
    ///
    /// The condition is checked first at once, and then at every `interval` (at least a
    /// millisecond). It returns `bool` or `Result<bool, E>`, directly or as a future. An error ends
    /// the wait and is returned. If the condition is true at the first check, nothing is written
    /// and no time is lost. The attempt's timeout does not run while the task waits.
    ///
    /// If the execution is stopped meanwhile, this returns an error of kind `cancelled` promptly,
    /// without waiting for a slot. After a crash the task runs again and waits again. The condition
    /// is polled in memory, so a task that waits like this is never evicted. The condition must not
    /// call operations of the task: they are refused with an error of kind `misplaced`.
    ///
    /// The result of the condition is not recorded. In a race with a signal, a sleep or a step, the
    /// condition is checked only after the function has got all results that are ready. So a replay
    /// takes the same signal as the first run. If later code depends on the winner of the race,
    /// record the winner with a step.
    ///
    /// ```
    /// use std::time::Duration;
    /// use abide::{TaskError, TaskHandle, task};
    ///
    /// #[task]
    /// async fn wait_for_file(handle: &TaskHandle) -> Result<(), TaskError> {
    ///     let exists = || std::path::Path::new("/data.csv").exists();
    ///     handle.defer_until(exists, Duration::from_secs(5)).await
    /// }
    /// # fn main() {}
    /// ```
    #[expect(
        clippy::manual_async_fn,
        reason = "the bound spares the compiler the question whether the condition's future is \
                  Send, which it can't answer for an async function that borrows"
    )]
    pub fn defer_until<C, Kind>(
        &self,
        condition: C,
        interval: Duration,
    ) -> impl Future<Output = Result<(), TaskError>> + Send
    where
        C: Condition<Kind>,
    {
        async move {
            let _met = self.wait_until(condition, interval, None).await?;
            Ok(())
        }
    }

    /// [`defer_until`](TaskHandle::defer_until) with an end: a [`Duration`] from now, or a
    /// [`SystemTime`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use abide::{Deferred, TaskError, TaskHandle, task};
    ///
    /// #[task]
    /// async fn marker(handle: &TaskHandle) -> Result<bool, TaskError> {
    ///     let exists = || std::path::Path::new("/data.done").exists();
    ///     let end = handle
    ///         .defer_until_or(exists, Duration::from_secs(1), Duration::from_secs(60))
    ///         .await?;
    ///     Ok(end == Deferred::Met)
    /// }
    /// # fn main() {}
    /// ```
    pub fn defer_until_or<C, Kind>(
        &self,
        condition: C,
        interval: Duration,
        deadline: impl Into<Deadline>,
    ) -> impl Future<Output = Result<Deferred, TaskError>> + Send
    where
        C: Condition<Kind>,
    {
        let end = match deadline.into() {
            Deadline::After(after) => {
                Until::Elapsed(self.attempt.clock.elapsed().saturating_add(after))
            }
            Deadline::At(at) => Until::Time(Timestamp::from(at)),
        };
        self.wait_until(condition, interval, Some(end))
    }

    async fn wait_until<C, Kind>(
        &self,
        mut condition: C,
        interval: Duration,
        end: Option<Until>,
    ) -> Result<Deferred, TaskError>
    where
        C: Condition<Kind>,
    {
        self.attempt.check_place(&Asked::Condition)?;
        let place = Place::condition(&self.attempt);
        self.leave_to_look().await;
        if place.poll(condition.check()).await? {
            return Ok(Deferred::Met);
        }
        let interval = interval.max(SHORTEST_INTERVAL);
        let clock = &self.attempt.clock;
        let waiting = Waiting::begin(&self.attempt);
        let outcome = loop {
            let left = end.map_or(Duration::MAX, |end| end.left(&**clock));
            if left.is_zero() {
                break Ok(Deferred::Expired);
            }
            if self.sleeps_undisturbed(interval.min(left)).await.is_err() {
                return Err(self.cancellation_error());
            }
            self.leave_to_look().await;
            match place.poll(condition.check()).await {
                Ok(false) => {}
                Ok(true) => break Ok(Deferred::Met),
                Err(error) => break Err(error),
            }
        };
        match waiting.slot().await {
            Ok(()) => outcome,
            Err(Stopped) => Err(self.cancellation_error()),
        }
    }

    async fn leave_to_look(&self) {
        std::future::poll_fn(|cx| self.attempt.operations().poll_look(cx)).await;
    }

    /// Sleeps, unless the task must stop before.
    async fn sleeps_undisturbed(&self, duration: Duration) -> Result<(), Stopped> {
        let mut sleep = self.attempt.clock.sleep(duration);
        let mut cancelled = pin!(self.attempt.cancelled());
        std::future::poll_fn(|cx| {
            if cancelled.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Stopped));
            }
            sleep.as_mut().poll(cx).map(Ok)
        })
        .await
    }
}

struct Stopped;

/// When a wait ends: by the clock that cannot be set, or at a time of day.
#[derive(Clone, Copy)]
enum Until {
    Elapsed(Duration),
    Time(Timestamp),
}

impl Until {
    fn left(self, clock: &dyn Clock) -> Duration {
        match self {
            Until::Elapsed(end) => end.saturating_sub(clock.elapsed()),
            Until::Time(at) => duration_of_us(at.since_us(clock.now())),
        }
    }
}

/// Exists while the task polls a condition.
struct Waiting<'a> {
    attempt: &'a Arc<Attempt>,
    id: u32,
}

impl<'a> Waiting<'a> {
    fn begin(attempt: &'a Arc<Attempt>) -> Waiting<'a> {
        let id = attempt.operations().add_condition();
        Waiting { attempt, id }
    }

    /// Waits until the task holds its slot again, or must stop.
    async fn slot(self) -> Result<(), Stopped> {
        let mut cancelled = pin!(self.attempt.cancelled());
        std::future::poll_fn(|cx| {
            if cancelled.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Stopped));
            }
            self.attempt
                .operations()
                .poll_condition(self.id, cx)
                .map(Ok)
        })
        .await
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.attempt.operations().remove_condition(self.id);
    }
}
