//! The timeout of an attempt.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::authoring::BoxFuture;
use crate::clock::{Clock, duration_of_us, us_of};

/// The active time that an attempt may take. It stands still while the task waits.
pub(super) struct Timeout {
    pub(super) limit_us: Option<i64>,
    left_us: i64,
    /// By [`Clock::elapsed`].
    runs_since: Option<Duration>,
    alarm: Option<BoxFuture<'static, ()>>,
}

impl Timeout {
    pub(super) fn new(limit_us: Option<i64>, spent_us: i64) -> Timeout {
        Timeout {
            limit_us,
            left_us: limit_us.unwrap_or(0).saturating_sub(spent_us),
            runs_since: None,
            alarm: None,
        }
    }

    /// Lets the time run. Does nothing if it runs already, or if there is no limit.
    pub(super) fn run(&mut self, clock: &dyn Clock) {
        if self.limit_us.is_some() && self.runs_since.is_none() {
            self.runs_since = Some(clock.elapsed());
            self.alarm = Some(clock.sleep(duration_of_us(self.left_us)));
        }
    }

    pub(super) fn pause(&mut self, clock: &dyn Clock) {
        if let Some(since) = self.runs_since.take() {
            self.left_us -= us_of(clock.elapsed().saturating_sub(since));
            self.alarm = None;
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.alarm {
            Some(alarm) => alarm.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}
