//! The database's clock, which is the time of everything that is written. A process asks for it now
//! and then and goes on by its own monotonic clock meanwhile, so that neither hosts whose clocks
//! differ nor one whose clock is set matter.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use abide_core::ids::Timestamp;

use crate::Clock;

/// The time as the database has it, or as a test says.
pub(crate) struct DatabaseClock {
    /// Goes before the database's.
    given: Option<Clock>,
    /// What the database said, and when.
    read: Mutex<(Timestamp, Instant)>,
    last: AtomicI64,
}

impl DatabaseClock {
    /// A clock that was read just now.
    pub(crate) fn new(given: Option<Clock>, read: Timestamp) -> DatabaseClock {
        DatabaseClock {
            given,
            read: Mutex::new((read, Instant::now())),
            last: AtomicI64::new(i64::MIN),
        }
    }

    /// The database was asked at `asked` and said `read`.
    pub(crate) fn set(&self, read: Timestamp, asked: Instant) {
        let now = Instant::now();
        // It said so half-way between question and answer, as far as anybody knows.
        let age_us = now.duration_since(asked).as_micros() as i64 / 2;
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        *known = (read.plus_us(age_us), now);
    }

    /// The time that a test gave; none where it is the database's.
    pub(crate) fn given(&self) -> Option<Timestamp> {
        self.given.as_ref().map(|given| given())
    }

    /// What time it is. Goes back only if the database's clock was set back, and by more than two
    /// estimates of the same time may differ.
    pub(crate) fn now(&self) -> Timestamp {
        if let Some(given) = &self.given {
            return given();
        }
        let (read, at) = *self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let now = read.plus_us(at.elapsed().as_micros() as i64);
        let last = self.last.fetch_max(now.0, Ordering::Relaxed);
        // A small step back is the estimate's; a large one is the database's own.
        match last.saturating_sub(now.0) {
            back @ 1..=JITTER_US => now.plus_us(back),
            _ => {
                self.last.store(now.0, Ordering::Relaxed);
                now
            }
        }
    }
}

/// How far two estimates of the same time may differ.
const JITTER_US: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_correction_never_turns_time_back() {
        let clock = DatabaseClock::new(None, Timestamp(1_000_000_000));
        let before = clock.now();
        clock.set(Timestamp(999_900_000), Instant::now());
        assert!(clock.now() >= before);
    }

    #[test]
    fn a_database_whose_clock_was_set_back_is_followed() {
        let clock = DatabaseClock::new(None, Timestamp(10_000_000_000));
        clock.now();
        clock.set(Timestamp(5_000_000_000), Instant::now());
        assert!(clock.now() < Timestamp(6_000_000_000));
    }
}
