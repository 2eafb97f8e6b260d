//! When a process searches thoroughly for tasks of workers that have already been declared dead. A thorough
//! search reads every open task. It can find a task only if a worker has ended since the last search: a
//! worker that died between declaring another worker dead and taking its tasks back, or a worker whose last
//! claim was committed after its end.

use abide_core::ids::Timestamp;

/// How late a process may see the end of a worker, or the last write of a worker that has ended. Longer than
/// any statement of the store takes.
const MARGIN_US: i64 = 120_000_000;

/// A process searches thoroughly at least this often, as a guard against cases that these rules miss.
const THOROUGH_EVERY_US: i64 = 600_000_000;

/// The searches of a process so far, by the clock that leases are judged by.
#[derive(Debug, Default)]
pub(super) struct OrphanSearches {
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    at: Timestamp,
    /// When the last thorough search was.
    thorough: Timestamp,
    /// The search found tasks, and it is not known yet whether they were taken back.
    found: bool,
}

impl OrphanSearches {
    /// If a worker has ended since this time, the next search must be thorough.
    pub(super) fn ended_since(&self) -> Timestamp {
        match &self.last {
            Some(last) => last.at.plus_us(-MARGIN_US),
            None => Timestamp(i64::MIN),
        }
    }

    /// Whether a search at this time must be thorough although no worker has ended.
    pub(super) fn must_be_thorough(&self, at: Timestamp) -> bool {
        let Some(last) = &self.last else { return true };
        // A clock that was set back says nothing of what happened since.
        last.found || at < last.at || at.since_us(last.thorough) >= THOROUGH_EVERY_US
    }

    /// Notes that a search was done.
    pub(super) fn done(&mut self, at: Timestamp, thorough: bool, found: bool) {
        let before = self.last.as_ref().map(|last| last.thorough);
        self.last = Some(Last {
            at,
            thorough: before.filter(|_| !thorough).unwrap_or(at),
            found,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGUN: Timestamp = Timestamp(1_800_000_000_000_000);

    #[test]
    fn the_first_look_is_thorough_and_the_next_ones_only_now_and_then() {
        let mut searches = OrphanSearches::default();
        assert!(searches.must_be_thorough(BEGUN));
        searches.done(BEGUN, true, false);
        let mut now = BEGUN;
        let mut thorough = 0;
        for _ in 0..600 {
            now = now.plus_us(3_000_000);
            let must = searches.must_be_thorough(now);
            thorough += u32::from(must);
            searches.done(now, must, false);
        }
        assert_eq!(thorough, 3, "in half an hour");
    }

    #[test]
    fn what_was_found_is_looked_for_until_it_is_gone() {
        let mut searches = OrphanSearches::default();
        searches.done(BEGUN, true, true);
        let later = BEGUN.plus_us(1_000_000);
        assert!(searches.must_be_thorough(later));
        searches.done(later, true, false);
        assert!(!searches.must_be_thorough(later.plus_us(1_000_000)));
    }

    #[test]
    fn an_end_counts_however_long_ago_the_last_look_was() {
        let mut searches = OrphanSearches::default();
        assert_eq!(searches.ended_since(), Timestamp(i64::MIN));
        searches.done(BEGUN, true, false);
        assert_eq!(searches.ended_since(), BEGUN.plus_us(-MARGIN_US));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_a_look_thorough() {
        let mut searches = OrphanSearches::default();
        searches.done(BEGUN, true, false);
        assert!(searches.must_be_thorough(BEGUN.plus_us(-1)));
    }
}
