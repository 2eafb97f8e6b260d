//! Time as the engine sees it. Retries, timers, timeouts, leases and polling intervals all use one
//! [`Clock`]. With a [`VirtualClock`] a test decides when an hour has passed.
//!
//! Only stored times are times of day. Everything that is measured or waited for in memory uses
//! [`Clock::elapsed`] and [`Clock::sleep`], which do not depend on the time of day.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use abide_core::ids::Timestamp;
use abide_store::Store;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::authoring::BoxFuture;

/// Longest uninterrupted sleep of the [`SystemClock`]. After it the wall clock is read again, so a
/// clock that was set forward is noticed.
const LONGEST_NAP: Duration = Duration::from_secs(60);

/// The engine's source of time.
///
/// Times are wall-clock times, because they are stored and outlive the process. All processes that
/// work on one store must use clocks that agree.
pub trait Clock: Send + Sync + 'static {
    /// The present time.
    fn now(&self) -> Timestamp;

    /// Ends when the time is `at` or later; at once if it is already.
    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()>;

    /// The time since a fixed moment, which is the same for the whole process. A clock whose time
    /// of day may be set must not derive this from the time of day. The default does, so such a
    /// clock must override it.
    fn elapsed(&self) -> Duration {
        duration_of_us(self.now().0)
    }

    /// Ends after `duration`, even if the time of day is set meanwhile. The default uses the time
    /// of day, which is right only for clocks that are never set.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.sleep_until(self.now().plus_us(us_of(duration)))
    }
}

/// The system's clock and tokio's timers. It never goes back while the process lives. If the
/// system's clock is set back, this clock goes on at nine tenths of its normal pace until the
/// system's clock has caught up.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        abide_store::system_now()
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(sleep_until(SystemClock, at))
    }

    fn elapsed(&self) -> Duration {
        elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// The default clock: the store's clock and tokio's timers. All processes of a store see the same
/// time, whatever their hosts' clocks say.
#[derive(Clone, Debug)]
pub(crate) struct StoreClock(Store);

impl StoreClock {
    pub(crate) fn new(store: Store) -> StoreClock {
        StoreClock(store)
    }
}

impl Clock for StoreClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        Box::pin(sleep_until(self.clone(), at))
    }

    fn elapsed(&self) -> Duration {
        elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// The time since the first call, by a clock that cannot be set.
fn elapsed() -> Duration {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    BEGUN.get_or_init(Instant::now).elapsed()
}

async fn sleep_until(clock: impl Clock, at: Timestamp) {
    loop {
        let left = duration_of_us(at.since_us(clock.now()));
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LONGEST_NAP)).await;
    }
}

/// A clock that stands still until you move it. Clones are the same clock.
///
/// ```
/// use std::time::Duration;
/// use abide::{Clock, VirtualClock};
///
/// let clock = VirtualClock::new();
/// let before = clock.now();
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now().since_us(before), 3_600_000_000);
/// ```
#[derive(Clone, Debug)]
pub struct VirtualClock {
    shared: Arc<Virtual>,
}

#[derive(Debug)]
struct Virtual {
    state: Mutex<VirtualState>,
    /// Notified when a task begins to sleep.
    slept: Notify,
}

#[derive(Debug)]
struct VirtualState {
    now: Timestamp,
    sleepers: BTreeMap<(Timestamp, u64), Waker>,
    next: u64,
}

impl VirtualClock {
    /// A clock that shows 2026-01-01, 00:00 UTC.
    pub fn new() -> VirtualClock {
        VirtualClock::at(Timestamp(1_767_225_600_000_000))
    }

    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> VirtualClock {
        let state = VirtualState {
            now,
            sleepers: BTreeMap::new(),
            next: 0,
        };
        VirtualClock {
            shared: Arc::new(Virtual {
                state: Mutex::new(state),
                slept: Notify::new(),
            }),
        }
    }

    /// Moves the clock forward and wakes every sleeper whose time has come.
    pub fn advance(&self, by: Duration) {
        let to = self.now().plus_us(us_of(by));
        self.advance_to(to);
    }

    /// Moves the clock forward to `to`. Does nothing if the clock is already later.
    pub fn advance_to(&self, to: Timestamp) {
        let due = {
            let mut state = self.state();
            let now = state.now.max(to);
            state.now = now;
            let later = state.sleepers.split_off(&(now.plus_us(1), 0));
            std::mem::replace(&mut state.sleepers, later)
        };
        for waker in due.into_values() {
            waker.wake();
        }
    }

    /// The earliest time at which a sleeper wakes.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.state().sleepers.keys().next().map(|(at, _)| *at)
    }

    /// Waits until there is a sleeper, then moves the clock to the earliest time at which a sleeper
    /// wakes, and returns that time. Called in a loop, it runs a program at full speed.
    pub async fn skip(&self) -> Timestamp {
        loop {
            let slept = self.shared.slept.notified();
            if let Some(at) = self.next_wake() {
                self.advance_to(at);
                return at;
            }
            slept.await;
        }
    }

    /// Waits until a sleeper waits for `at` or later.
    pub async fn sleeper_until(&self, at: Timestamp) {
        loop {
            let slept = self.shared.slept.notified();
            if self.state().sleepers.keys().any(|(until, _)| *until >= at) {
                return;
            }
            slept.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, VirtualState> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for VirtualClock {
    fn default() -> VirtualClock {
        VirtualClock::new()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.state().now
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(VirtualSleep {
            clock,
            at,
            place: None,
        })
    }
}

struct VirtualSleep {
    clock: VirtualClock,
    at: Timestamp,
    place: Option<u64>,
}

impl Future for VirtualSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut state = clock.state();
        if state.now >= self.at {
            return Poll::Ready(());
        }
        let place = *self.place.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        state.sleepers.insert((self.at, place), cx.waker().clone());
        drop(state);
        clock.shared.slept.notify_waiters();
        Poll::Pending
    }
}

impl Drop for VirtualSleep {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.clock.state().sleepers.remove(&(self.at, place));
        }
    }
}

/// A duration in microseconds, saturating.
pub(crate) fn us_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// The reverse of [`us_of`]. A negative number gives zero.
pub(crate) fn duration_of_us(us: i64) -> Duration {
    Duration::from_micros(u64::try_from(us).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleepers_wake_when_the_clock_reaches_them_and_not_before() {
        let clock = VirtualClock::new();
        let start = clock.now();
        let sleeper = tokio::spawn(clock.sleep_until(start.plus_us(10)));
        clock.sleeper_until(start.plus_us(10)).await;
        clock.advance(Duration::from_micros(9));
        assert_eq!(clock.next_wake(), Some(start.plus_us(10)));
        clock.advance(Duration::from_micros(1));
        sleeper.await.expect("it only sleeps");
        assert_eq!(clock.next_wake(), None);
    }

    #[tokio::test]
    async fn skipping_goes_to_the_earliest_sleeper() {
        let clock = VirtualClock::new();
        let start = clock.now();
        let late = tokio::spawn(clock.sleep_until(start.plus_us(20)));
        let early = tokio::spawn(clock.sleep_until(start.plus_us(10)));
        clock.sleeper_until(start.plus_us(20)).await;
        while clock.state().sleepers.len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(clock.skip().await, start.plus_us(10));
        early.await.expect("it only sleeps");
        assert_eq!(clock.skip().await, start.plus_us(20));
        late.await.expect("it only sleeps");
    }

    #[tokio::test]
    async fn a_dropped_sleep_is_forgotten() {
        let clock = VirtualClock::new();
        let mut sleep = clock.sleep_until(clock.now().plus_us(5));
        let pending = futures_poll(&mut sleep);
        assert!(pending.is_pending());
        drop(sleep);
        assert_eq!(clock.next_wake(), None);
    }

    fn futures_poll(future: &mut BoxFuture<'static, ()>) -> Poll<()> {
        future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    }
}
