//! Texts for people: escaped data, times, durations.

use std::borrow::Cow;
use std::fmt::Write;

use abide_core::ids::Timestamp;
use jiff::tz::TimeZone;
use serde::{Serialize, Serializer};

/// Whether a character is better not sent to a terminal: controls, and those that reorder or
/// break the line they stand in.
pub(crate) fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Data with its unsafe characters escaped, as Rust writes them.
pub(crate) fn escape(data: &str) -> Cow<'_, str> {
    if !data.contains(is_unsafe) {
        return Cow::Borrowed(data);
    }
    let mut escaped = String::with_capacity(data.len() + 8);
    for character in data.chars() {
        match character {
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            '\r' => escaped.push_str("\\r"),
            other if is_unsafe(other) => {
                write!(escaped, "\\u{{{:x}}}", u32::from(other)).expect("strings take everything");
            }
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

const MS: i64 = 1_000;
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// A duration in its two largest units: `850us`, `12ms`, `1.5s`, `3m2s`, `2h5m`, `4d3h`.
pub(crate) fn duration(us: i64) -> String {
    match us {
        ..MS => format!("{}us", us.max(0)),
        MS..SECOND => format!("{}ms", us / MS),
        SECOND..10_000_000 => format!("{}.{}s", us / SECOND, us % SECOND / (100 * MS)),
        _ => age(us),
    }
}

/// Like [`duration`], in whole seconds.
pub(crate) fn age(us: i64) -> String {
    let two = |(large, large_name), (small, small_name)| match us % large / small {
        0 => format!("{}{large_name}", us / large),
        rest => format!("{}{large_name}{rest}{small_name}", us / large),
    };
    match us {
        ..MINUTE => format!("{}s", us.max(0) / SECOND),
        MINUTE..HOUR => two((MINUTE, "m"), (SECOND, "s")),
        HOUR..DAY => two((HOUR, "h"), (MINUTE, "m")),
        DAY..YEAR => two((DAY, "d"), (HOUR, "h")),
        _ => two((YEAR, "y"), (DAY, "d")),
    }
}

/// RFC 3339 in UTC, with so many digits of a second.
fn rfc3339(at: Timestamp, digits: usize) -> String {
    match jiff::Timestamp::from_microsecond(at.0) {
        Ok(time) => format!("{time:.digits$}"),
        // Beyond the years that calendars have.
        Err(_) => format!("{}us", at.0),
    }
}

/// RFC 3339 in UTC to the millisecond, for tables.
pub(crate) fn utc(at: Timestamp) -> String {
    rfc3339(at, 3)
}

/// The local time and how far away it is: `2026-05-01 10:30:00 CEST (3m2s ago)`.
pub(crate) fn local(at: Timestamp, now: Timestamp) -> String {
    let distance = match now.0 - at.0 {
        ahead if ahead <= -SECOND => format!("in {}", age(-ahead)),
        past => format!("{} ago", age(past)),
    };
    match jiff::Timestamp::from_microsecond(at.0) {
        Ok(time) => {
            let local = time.to_zoned(TimeZone::system());
            format!("{} ({distance})", local.strftime("%Y-%m-%d %H:%M:%S %Z"))
        }
        Err(_) => rfc3339(at, 0),
    }
}

/// A percentage without noise.
pub(crate) fn percent(percent: f64) -> String {
    format!("{}%", percent.floor())
}

/// About how much time is left, to be said after something else.
pub(crate) fn left(us: Option<i64>) -> String {
    us.map_or_else(String::new, |us| format!(", about {} left", age(us)))
}

/// A count with its noun.
pub(crate) fn count(number: u32, singular: &str, plural: &str) -> String {
    match number {
        1 => format!("1 {singular}"),
        _ => format!("{number} {plural}"),
    }
}

/// A time in a record: RFC 3339 in UTC, to the microsecond.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time(pub(crate) Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(self.0, 6))
    }
}

/// An optional time in a record.
pub(crate) fn time(at: Option<Timestamp>) -> Option<Time> {
    at.map(Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        let check = |us, expected: &str| assert_eq!(duration(us), expected);
        check(-5, "0us");
        check(850, "850us");
        check(12_345, "12ms");
        check(1_590_000, "1.5s");
        check(42 * SECOND, "42s");
        check(3 * MINUTE + 2 * SECOND, "3m2s");
        check(2 * HOUR, "2h");
        check(4 * DAY + 3 * HOUR + 5 * MINUTE, "4d3h");
        check(2 * YEAR + 40 * DAY, "2y40d");
    }

    #[test]
    fn control_and_direction_characters_are_escaped() {
        assert_eq!(escape("plain é漢"), "plain é漢");
        assert_eq!(
            escape("a\nb\t\u{1b}[31m\u{9b}\u{202e}\0"),
            "a\\nb\\t\\u{1b}[31m\\u{9b}\\u{202e}\\u{0}"
        );
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let time = Timestamp(1_790_000_000_120_000);
        assert_eq!(utc(time), "2026-09-21T14:13:20.120Z");
        let json = serde_json::to_string(&Time(time)).expect("a string");
        assert_eq!(json, r#""2026-09-21T14:13:20.120000Z""#);
        assert_eq!(utc(Timestamp(i64::MAX)), format!("{}us", i64::MAX));
    }
}
