//! Times in records.

use abide_core::ids::Timestamp;
use serde::{Serialize, Serializer};

/// A time in a record. As JSON it is RFC 3339 in UTC, to the microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match jiff::Timestamp::from_microsecond(self.0.0) {
            Ok(time) => serializer.collect_str(&format_args!("{time:.6}")),
            // The time is beyond the range of calendars.
            Err(_) => serializer.collect_str(&format_args!("{}us", self.0.0)),
        }
    }
}

/// An optional time in a record. A time beyond the range of calendars never comes: a task that
/// waits for other code, or sleeps for ever, has no time at which it continues.
pub(super) fn time(at: Option<Timestamp>) -> Option<Time> {
    at.filter(|at| comes(*at)).map(Time)
}

/// Whether the time is within the range of calendars.
pub(super) fn comes(at: Timestamp) -> bool {
    jiff::Timestamp::from_microsecond(at.0).is_ok()
}

/// A duration in whole seconds, in its two largest units: `42s`, `3m2s`, `4d3h`.
pub(super) fn age(us: i64) -> String {
    const UNITS: [(i64, &str); 5] = [
        (365 * 86_400, "y"),
        (86_400, "d"),
        (3_600, "h"),
        (60, "m"),
        (1, "s"),
    ];
    let seconds = us.max(0) / 1_000_000;
    let largest = UNITS.iter().position(|(unit, _)| seconds >= *unit);
    let largest = largest.unwrap_or(UNITS.len() - 1);
    let (unit, name) = UNITS[largest];
    let mut words = format!("{}{name}", seconds / unit);
    if let Some((next, next_name)) = UNITS.get(largest + 1)
        && let rest @ 1.. = seconds % unit / next
    {
        words += &format!("{rest}{next_name}");
    }
    words
}

/// A stored JSON text inside a record.
pub(super) fn raw(json: &str) -> Box<serde_json::value::RawValue> {
    let stored = serde_json::value::RawValue::from_string(json.to_owned());
    // A text that is not JSON is shown as a string rather than refused.
    stored.unwrap_or_else(|_| serde_json::value::to_raw_value(json).expect("a string serialises"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let json = |us| serde_json::to_string(&Time(Timestamp(us))).expect("a string");
        assert_eq!(
            json(1_790_000_000_120_000),
            r#""2026-09-21T14:13:20.120000Z""#
        );
        assert_eq!(json(i64::MAX), format!("\"{}us\"", i64::MAX));
    }

    #[test]
    fn ages_have_at_most_two_units() {
        let check = |seconds: i64, expected: &str| assert_eq!(age(seconds * 1_000_000), expected);
        check(-5, "0s");
        check(42, "42s");
        check(182, "3m2s");
        check(7200, "2h");
        check(4 * 86_400 + 3 * 3600 + 300, "4d3h");
        check(770 * 86_400, "2y40d");
    }
}
