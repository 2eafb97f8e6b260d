//! Texts for people: escaped data, times, durations.

use std::borrow::Cow;
use std::fmt::Write;

use abide_core::ids::Timestamp;
use console::{measure_text_width, truncate_str};
use jiff::tz::TimeZone;

/// Whether a character should not be sent to a terminal: control characters; characters that
/// reorder or break the line; and invisible characters, with which two different names would look
/// the same. These are Unicode's format characters (category Cf), line and paragraph separators,
/// fillers, variation selectors and noncharacters.
pub(crate) fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
                | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
                | '\u{fdd0}'..='\u{fdef}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}' | '\u{fffe}'..='\u{ffff}' | '\u{110bd}' | '\u{110cd}'
                | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Data with its unsafe characters escaped, in Rust's notation.
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

/// The text without its middle, so that it takes at most `width` columns of a terminal. Names of
/// the same kind differ at both ends.
pub(crate) fn shorten(text: &str, width: usize) -> Cow<'_, str> {
    let whole = measure_text_width(text);
    if whole <= width {
        return Cow::Borrowed(text);
    }
    let kept = width.saturating_sub(1);
    let start = truncate_str(text, kept - kept / 2, "");
    let mut at = text.len();
    for (index, _) in text.char_indices().rev() {
        if measure_text_width(&text[index..]) > kept / 2 {
            break;
        }
        at = index;
    }
    Cow::Owned(format!("{start}…{}", &text[at..]))
}

/// A message without the passwords of addresses: `postgres://user:…@host`.
pub(crate) fn without_passwords(words: &str) -> Cow<'_, str> {
    let is_end = |c: char| c.is_whitespace() || "`'\"<>".contains(c);
    let mut shown = String::new();
    let mut rest = words;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let address = &after[..after.find(is_end).unwrap_or(after.len())];
        shown.push_str(before);
        rest = after;
        if let Some(end) = address.rfind('@') {
            let user = address[..end].split(':').next().unwrap_or_default();
            if user.len() < end {
                shown.push_str(user);
                shown.push_str(":…");
                rest = &after[end..];
            }
        }
    }
    shown.push_str(rest);
    let mut at = 0;
    while let Some(found) = shown[at..].find("password=") {
        let start = at + found + "password=".len();
        let length = shown[start..].find(|c| is_end(c) || c == '&' || c == ';');
        let end = length.map_or(shown.len(), |length| start + length);
        shown.replace_range(start..end, "…");
        at = start;
    }
    Cow::Owned(shown)
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

/// RFC 3339 in UTC, with this many digits of a second.
fn rfc3339(at: Timestamp, digits: usize) -> String {
    match jiff::Timestamp::from_microsecond(at.0) {
        Ok(time) => format!("{time:.digits$}"),
        // The time is beyond the range of calendars.
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

/// A percentage without needless digits.
pub(crate) fn percent(percent: f64) -> String {
    format!("{}%", percent.floor())
}

/// The estimated time left, as a suffix to another text.
pub(crate) fn left(us: Option<i64>) -> String {
    us.map_or_else(String::new, |us| format!(", about {} left", age(us)))
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
    fn invisible_characters_are_escaped() {
        let check = |data: &str, expected: &str| assert_eq!(escape(data), expected);
        check("order\u{200b}-1", "order\\u{200b}-1");
        check(
            "a\u{ad}\u{61c}\u{2060}\u{feff}b",
            "a\\u{ad}\\u{61c}\\u{2060}\\u{feff}b",
        );
        check(
            "\u{3164}\u{fe0f}\u{e0041}\u{e0101}",
            "\\u{3164}\\u{fe0f}\\u{e0041}\\u{e0101}",
        );
        check("e\u{301} नमस्ते 🎉", "e\u{301} नमस्ते 🎉");
    }

    #[test]
    fn long_names_keep_both_ends() {
        let check = |text: &str, width, expected: &str| assert_eq!(shorten(text, width), expected);
        check("short", 5, "short");
        check("0123456789", 6, "012…89");
        check("漢字漢字漢字", 8, "漢字…字");
        check("order-000000000001/17", 12, "order-…01/17");
    }

    #[test]
    fn passwords_in_addresses_are_not_shown() {
        let check = |words: &str, expected: &str| assert_eq!(without_passwords(words), expected);
        check("no address", "no address");
        check(
            "in `postgres://u:se@secret@h/db?password=secret&x=1` and postgres://u@h",
            "in `postgres://u:…@h/db?password=…&x=1` and postgres://u@h",
        );
        check("host=h password=secret user=u", "host=h password=… user=u");
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let time = Timestamp(1_790_000_000_120_000);
        assert_eq!(utc(time), "2026-09-21T14:13:20.120Z");
        assert_eq!(utc(Timestamp(i64::MAX)), format!("{}us", i64::MAX));
    }
}
