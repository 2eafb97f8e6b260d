//! Waiting for a condition of the outside world: the task polls it while its slot is free for
//! others.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use abide_core::ids::Timestamp;

use super::TaskHandle;
use super::condition::Condition;
use crate::attempt::Attempt;
use crate::authoring::TaskError;
use crate::clock::{timestamp_of, us_of};

/// The shortest interval between two looks at a condition; what is shorter is made this long.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// When to stop waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// So long after the wait began. It begins again if the task does, after a crash.
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
    /// The condition came true.
    Met,
    /// The deadline passed first.
    Expired,
}

impl TaskHandle {
    /// Waits until `condition` is true, without a slot: the task is Deferred, other tasks run in
    /// its place, and it takes its turn to get a slot back when the condition has come true.
    ///
    /// The condition is looked at first, and then at every `interval` (at least a millisecond). It
    /// answers `bool` or `Result<bool, E>`, at once or as a future; an error ends the wait and is
    /// returned. If it is true already, nothing is written and no time is lost. The attempt's
    /// timeout does not run while the task waits.
    ///
    /// If the execution is stopped meanwhile, this returns an error of kind `cancelled` promptly,
    /// without waiting for a slot. After a crash the task runs again and waits again: the
    /// condition is polled in memory, so a task that waits like this is never evicted.
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
        let deadline = match deadline.into() {
            Deadline::After(after) => self.attempt.clock.now().plus_us(us_of(after)),
            Deadline::At(at) => timestamp_of(at),
        };
        self.wait_until(condition, interval, Some(deadline))
    }

    async fn wait_until<C, Kind>(
        &self,
        mut condition: C,
        interval: Duration,
        deadline: Option<Timestamp>,
    ) -> Result<Deferred, TaskError>
    where
        C: Condition<Kind>,
    {
        if condition.check().await? {
            return Ok(Deferred::Met);
        }
        let interval_us = us_of(interval.max(SHORTEST_INTERVAL));
        let clock = &self.attempt.clock;
        let waiting = Waiting::begin(&self.attempt);
        let outcome = loop {
            let now = clock.now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                break Ok(Deferred::Expired);
            }
            let next = now.plus_us(interval_us);
            let next = deadline.map_or(next, |deadline| next.min(deadline));
            if self.sleeps_undisturbed(next).await.is_err() {
                return Err(self.cancellation_error());
            }
            match condition.check().await {
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

    /// Sleeps, unless the task is to stop first.
    async fn sleeps_undisturbed(&self, until: Timestamp) -> Result<(), Stopped> {
        let mut sleep = self.attempt.clock.sleep_until(until);
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

/// The task polls a condition, as long as this exists.
struct Waiting<'a> {
    attempt: &'a Arc<Attempt>,
    id: u32,
}

impl<'a> Waiting<'a> {
    fn begin(attempt: &'a Arc<Attempt>) -> Waiting<'a> {
        let id = attempt.operations().add_condition();
        Waiting { attempt, id }
    }

    /// Waits until the task holds its slot again, or is to stop.
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
