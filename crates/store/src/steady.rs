//! The system's clock, kept from going back. What is due is stored as a time of day, so a clock that is
//! set back by an hour would keep everything waiting for an hour. Here time goes on, a little slower
//! than it is, until the system's clock has caught up. A clock that is set forward is followed at once:
//! as a rule it was behind, like that of a machine that was suspended.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use abide_core::ids::Timestamp;

/// How much slower time goes by while the system's clock is behind: by a tenth.
const SLOWER: i64 = 10;

/// This process's clock: all stores in it agree.
static CLOCK: Steady = Steady::new();

/// The system's clock. Never goes back while the process lives, however the clock is set.
pub fn system_now() -> Timestamp {
    CLOCK.now(wall_clock(), Instant::now())
}

fn wall_clock() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since_epoch.map_or(0, us))
}

fn us(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A wall clock and a monotonic one, and what becomes of both.
struct Steady {
    /// The latest reading at which the wall clock was not behind.
    latest: Mutex<Option<(Timestamp, Instant)>>,
}

impl Steady {
    const fn new() -> Steady {
        Steady {
            latest: Mutex::new(None),
        }
    }

    fn now(&self, wall: Timestamp, monotonic: Instant) -> Timestamp {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((time, at)) = *latest {
            let elapsed = us(monotonic.saturating_duration_since(at));
            let at_least = time.plus_us(elapsed - elapsed / SLOWER);
            if wall < at_least {
                return at_least;
            }
        }
        *latest = Some((wall, monotonic));
        wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: i64 = 1_000_000;
    const HOUR_US: i64 = 3600 * SECOND_US;
    const NOON: Timestamp = Timestamp(1_790_000_000_000_000);

    /// Reads a clock so many seconds after noon, while the wall clock is wrong by so much.
    struct Readings {
        clock: Steady,
        begun: Instant,
    }

    impl Readings {
        fn new() -> Readings {
            Readings {
                clock: Steady::new(),
                begun: Instant::now(),
            }
        }

        fn at(&self, second: u64, wrong_us: i64) -> i64 {
            let wall = NOON.plus_us(second as i64 * SECOND_US + wrong_us);
            let monotonic = self.begun + Duration::from_secs(second);
            self.clock.now(wall, monotonic).since_us(NOON)
        }
    }

    #[test]
    fn a_clock_that_is_right_is_read_as_it_is() {
        let readings = Readings::new();
        for second in 0..1000 {
            // As a clock that is corrected little by little.
            let wrong_us = if second % 2 == 0 { 0 } else { -400 };
            let time = readings.at(second, wrong_us);
            assert_eq!(time, second as i64 * SECOND_US + wrong_us);
        }
    }

    #[test]
    fn time_goes_on_while_a_clock_that_was_set_back_catches_up() {
        let readings = Readings::new();
        assert_eq!(readings.at(0, 0), 0);
        let mut last = 0;
        for second in 1..=10 * 3600 {
            let time = readings.at(second, -HOUR_US);
            assert!((899_999..=SECOND_US).contains(&(time - last)), "{second} s");
            last = time;
        }
        // Ten hours later by nine.
        assert_eq!(last, 9 * HOUR_US);
        assert_eq!(
            readings.at(10 * 3600 + 1, -HOUR_US),
            9 * HOUR_US + SECOND_US
        );
    }

    #[test]
    fn a_clock_that_is_set_forward_is_followed() {
        let readings = Readings::new();
        assert_eq!(readings.at(0, 0), 0);
        assert_eq!(readings.at(1, HOUR_US), HOUR_US + SECOND_US);
        // And when that is taken back, time does not.
        assert_eq!(readings.at(2, 0), HOUR_US + SECOND_US + SECOND_US * 9 / 10);
    }
}
