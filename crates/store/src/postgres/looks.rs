//! When a process looks for what workers left that are known to be gone. That reads everything open,
//! and can find something only if a worker has ended since the last time: it died between declaring
//! another one dead and taking its tasks back, or an answer to its last claim was under way.

use abide_core::ids::Timestamp;

/// How late the end of a worker may be seen, or something that a worker wrote which had ended: longer
/// than any statement of the store takes.
const MARGIN_US: i64 = 120_000_000;

/// Now and then a process looks all the same, for what nobody thought of.
const THOROUGH_EVERY_US: i64 = 600_000_000;

/// The looks of a process so far, by the clock that counts.
#[derive(Debug, Default)]
pub(super) struct Looks {
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    at: Timestamp,
    /// The last one that was thorough.
    thorough: Timestamp,
    /// It found something, and nobody knows yet what became of that.
    found: bool,
}

impl Looks {
    /// A worker that has ended since makes the next look a thorough one.
    pub(super) fn ended_since(&self) -> Timestamp {
        match &self.last {
            Some(last) => last.at.plus_us(-MARGIN_US),
            None => Timestamp(i64::MIN),
        }
    }

    /// Whether a look at this time must be thorough though no worker has ended.
    pub(super) fn must_be_thorough(&self, at: Timestamp) -> bool {
        let Some(last) = &self.last else { return true };
        // A clock that was set back says nothing of what happened since.
        last.found || at < last.at || at.since_us(last.thorough) >= THOROUGH_EVERY_US
    }

    /// A look was done, and so far nothing else.
    pub(super) fn looked(&mut self, at: Timestamp, thorough: bool, found: bool) {
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
        let mut looks = Looks::default();
        assert!(looks.must_be_thorough(BEGUN));
        looks.looked(BEGUN, true, false);
        let mut now = BEGUN;
        let mut thorough = 0;
        for _ in 0..600 {
            now = now.plus_us(3_000_000);
            let must = looks.must_be_thorough(now);
            thorough += u32::from(must);
            looks.looked(now, must, false);
        }
        assert_eq!(thorough, 3, "in half an hour");
    }

    #[test]
    fn what_was_found_is_looked_for_until_it_is_gone() {
        let mut looks = Looks::default();
        looks.looked(BEGUN, true, true);
        let later = BEGUN.plus_us(1_000_000);
        assert!(looks.must_be_thorough(later));
        looks.looked(later, true, false);
        assert!(!looks.must_be_thorough(later.plus_us(1_000_000)));
    }

    #[test]
    fn an_end_counts_however_long_ago_the_last_look_was() {
        let mut looks = Looks::default();
        assert_eq!(looks.ended_since(), Timestamp(i64::MIN));
        looks.looked(BEGUN, true, false);
        assert_eq!(looks.ended_since(), BEGUN.plus_us(-MARGIN_US));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_a_look_thorough() {
        let mut looks = Looks::default();
        looks.looked(BEGUN, true, false);
        assert!(looks.must_be_thorough(BEGUN.plus_us(-1)));
    }
}
