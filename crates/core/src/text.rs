//! The characters that names and payloads may contain, and the known name that a wrong name
//! probably meant.
//!
//! Both databases must be able to store the same strings. PostgreSQL refuses NUL in text and lone
//! surrogates in JSON, so both are refused here, before either database gets them. Nothing here
//! changes a string.

use thiserror::Error;

/// Longest name (task, node, instance, signal, step ...) in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 255;

/// How deep arrays and objects of a payload may be nested: `[[1]]` is two deep.
///
/// Programs that read JSON either stop at a certain depth (`serde_json` at 127, including what the
/// engine stores around a value), or use memory that grows with the square of the depth. So a value
/// that could be written but never read again is refused when it is written.
pub const MAX_PAYLOAD_DEPTH: usize = 100;

/// The number of character comparisons for one suggestion. It is enough for 100,000 names of 14
/// characters, and small enough that as many long names do not delay an error. Candidates beyond
/// this budget are not compared.
const NEAREST_BUDGET: usize = 20_000_000;

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// The name has no characters.
    #[error("{what} is empty")]
    Empty {
        /// What the name was for, such as `task id`.
        what: String,
    },
    /// The name is longer than [`MAX_NAME_BYTES`].
    #[error("{what} `{start}...` is {bytes} bytes long; the limit is {MAX_NAME_BYTES}")]
    TooLong {
        /// What the name was for.
        what: String,
        /// The beginning of the name.
        start: String,
        /// Its length.
        bytes: usize,
    },
    /// The name contains a control character, such as NUL.
    #[error("{what} `{escaped}` holds the control character U+{code:04X}")]
    Control {
        /// What the name was for.
        what: String,
        /// The name with its control characters escaped.
        escaped: String,
        /// The first such character's code point.
        code: u32,
    },
}

/// Why a payload's JSON text was refused. Offsets count bytes from the start of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PayloadError {
    /// A string contains the NUL character, which PostgreSQL cannot store.
    #[error("the payload holds a NUL character (\\u0000) at byte {at}")]
    Nul {
        /// Where.
        at: usize,
    },
    /// A string contains half of a surrogate pair, which is no character.
    #[error("the payload holds a lone surrogate escape at byte {at}")]
    LoneSurrogate {
        /// Where.
        at: usize,
    },
    /// A backslash begins no valid JSON escape.
    #[error("the payload holds a malformed escape at byte {at}")]
    Escape {
        /// Where.
        at: usize,
    },
    /// Arrays and objects are nested deeper than [`MAX_PAYLOAD_DEPTH`].
    #[error(
        "the payload is nested deeper than {MAX_PAYLOAD_DEPTH} arrays and objects, at byte {at}"
    )]
    TooDeep {
        /// The start of the first array or object that is too deep.
        at: usize,
    },
}

/// Checks a name: 1 to [`MAX_NAME_BYTES`] bytes and no control characters (so no NUL, tab or newline).
///
/// ```
/// use abide_core::text::check_name;
/// assert!(check_name("task id", "hash").is_ok());
/// assert_eq!(check_name("task id", "").unwrap_err().to_string(), "task id is empty");
/// ```
pub fn check_name(what: &str, name: &str) -> Result<(), NameError> {
    let what = || what.to_owned();
    if name.is_empty() {
        return Err(NameError::Empty { what: what() });
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong {
            what: what(),
            start: name.chars().take(32).flat_map(char::escape_debug).collect(),
            bytes: name.len(),
        });
    }
    match name.chars().find(|c| c.is_control()) {
        None => Ok(()),
        Some(control) => Err(NameError::Control {
            what: what(),
            escaped: name.escape_debug().to_string(),
            code: u32::from(control),
        }),
    }
}

/// Checks that JSON text can be stored in every backend and read again: no NUL, no lone surrogate
/// escapes, nested at most [`MAX_PAYLOAD_DEPTH`] deep.
///
/// The text must be well-formed JSON already: only its escapes and brackets are checked.
///
/// ```
/// use abide_core::text::check_payload;
/// assert!(check_payload(r#"{"path": "C:\\u0000"}"#).is_ok()); // an escaped backslash, then `u0000`
/// assert!(check_payload(r#""\u0000""#).is_err());
/// assert!(check_payload(&("[".repeat(101) + &"]".repeat(101))).is_err());
/// ```
pub fn check_payload(json: &str) -> Result<(), PayloadError> {
    check_payloads_within(json, 0)
}

/// Like [`check_payload`], for a text of the engine in which payloads are nested `levels` deep.
pub fn check_payloads_within(json: &str, levels: usize) -> Result<(), PayloadError> {
    check_characters(json)?;
    check_depth(json, MAX_PAYLOAD_DEPTH + levels)
}

/// A loop instead of recursion, because the depth is not yet checked.
fn check_depth(json: &str, limit: usize) -> Result<(), PayloadError> {
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    for (at, byte) in json.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > limit {
                    return Err(PayloadError::TooDeep { at });
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

fn check_characters(json: &str) -> Result<(), PayloadError> {
    if let Some(at) = json.find('\0') {
        return Err(PayloadError::Nul { at });
    }
    let bytes = json.as_bytes();
    let mut from = 0;
    while let Some(found) = json[from..].find('\\') {
        let at = from + found;
        from = match bytes.get(at + 1) {
            Some(b'u') => unicode_escape(bytes, at)?,
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => at + 2,
            _ => return Err(PayloadError::Escape { at }),
        };
    }
    Ok(())
}

/// Reads the `\uXXXX` at `at`, with the second half of a pair, and returns the position after it.
fn unicode_escape(bytes: &[u8], at: usize) -> Result<usize, PayloadError> {
    match code_unit(bytes, at).ok_or(PayloadError::Escape { at })? {
        0 => Err(PayloadError::Nul { at }),
        0xD800..=0xDBFF => match code_unit(bytes, at + 6) {
            Some(0xDC00..=0xDFFF) => Ok(at + 12),
            _ => Err(PayloadError::LoneSurrogate { at }),
        },
        0xDC00..=0xDFFF => Err(PayloadError::LoneSurrogate { at }),
        _ => Ok(at + 6),
    }
}

/// The UTF-16 code unit of the escape at `at`; none if there is no such escape.
fn code_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0_u16, |unit, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(value).ok()?)
    })
}

/// The candidate that `name` was probably meant to be: equal except for case, or a few edits away
/// (one for every three characters). Of several equally near candidates, the first; none if no
/// candidate is near.
///
/// ```
/// use abide_core::text::nearest;
/// assert_eq!(nearest("reprot", ["hash", "report"].into_iter()), Some("report"));
/// assert_eq!(nearest("x", ["hash", "report"].into_iter()), None);
/// ```
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    nearest_within(NEAREST_BUDGET, name, candidates)
}

fn nearest_within<'a>(
    mut budget: usize,
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let length = wanted.chars().count();
    let mut best: Option<(usize, &'a str)> = None;
    for candidate in candidates {
        let allowed = length.max(candidate.len()) / 3;
        // Cheap and exact for ASCII: this many edits are needed for the length alone.
        if wanted.len().abs_diff(candidate.len()) > allowed.saturating_mul(4) {
            continue;
        }
        let lower = candidate.to_lowercase();
        let Some(left) = budget.checked_sub(wanted.len() * lower.len()) else {
            break;
        };
        budget = left;
        let distance = strsim::osa_distance(&wanted, &lower);
        let allowed = length.max(lower.chars().count()) / 3;
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// For `skip_serializing_if`: stored JSON leaves defaults out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn names_up_to_the_limit_pass() {
        for name in [
            "a",
            "file:/usr/share/ä b",
            "日本",
            &"x".repeat(MAX_NAME_BYTES),
        ] {
            assert_eq!(check_name("node id", name), Ok(()));
        }
    }

    #[test]
    fn refused_names_say_what_is_wrong_without_control_characters() {
        let check = |name: &str, message: &str| {
            assert_eq!(
                check_name("node id", name).unwrap_err().to_string(),
                message
            );
        };
        check("", "node id is empty");
        check(
            &"\u{e4}".repeat(128),
            &format!(
                "node id `{}...` is 256 bytes long; the limit is 255",
                "ä".repeat(32)
            ),
        );
        check(
            &format!("\n{}", "x".repeat(255)),
            &format!(
                r"node id `\n{}...` is 256 bytes long; the limit is 255",
                "x".repeat(31)
            ),
        );
        check("a\0b", r"node id `a\0b` holds the control character U+0000");
        check("a\tb", r"node id `a\tb` holds the control character U+0009");
        check(
            "\u{85}",
            r"node id `\u{85}` holds the control character U+0085",
        );
    }

    #[test]
    fn nearest_finds_slips_and_nothing_far() {
        let known = ["hash", "report", "Marker", "file:a", "file:b"];
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(nearest(name, known.into_iter()), expected, "for {name}");
        };
        check("reprot", Some("report"));
        check("reports", Some("report"));
        check("marker", Some("Marker"));
        check("MARKR", Some("Marker"));
        check("has", Some("hash"));
        // Equally near: the first one.
        check("file:c", Some("file:a"));
        check("hash", Some("hash"));
        check("zzzz", None);
        check("", None);
        check("a much longer name than any of these", None);
    }

    #[test]
    fn nearest_compares_characters_not_bytes() {
        assert_eq!(nearest("grösse", ["größe"].into_iter()), Some("größe"));
        assert_eq!(nearest("日本語語", ["日本語"].into_iter()), Some("日本語"));
    }

    #[test]
    fn nearest_stops_at_its_budget() {
        // Each candidate costs 10 * 10 comparisons.
        let candidates = || ["yyyyyyyyyy", "yyyyyyyyyy", "xxxxxxxxxx"].into_iter();
        let found = |budget| nearest_within(budget, "xxxxxxxxxx", candidates());
        assert_eq!(found(300), Some("xxxxxxxxxx"));
        assert_eq!(found(299), None);
    }

    #[test]
    fn payload_errors_point_at_the_escape() {
        let check = |json: &str, expected: Result<(), PayloadError>| {
            assert_eq!(check_payload(json), expected, "for {json:?}");
        };
        check(
            r#"{"a":"\\u0000 \" \/ \b\f\n\r\t \u00e4 \ud83d\ude00"}"#,
            Ok(()),
        );
        check(r#""\\\\u0000""#, Ok(()));
        check("", Ok(()));
        check(r#""ab\u0000""#, Err(PayloadError::Nul { at: 3 }));
        check(r#""\\\u0000""#, Err(PayloadError::Nul { at: 3 }));
        check(r#"{"\u0000":1}"#, Err(PayloadError::Nul { at: 2 }));
        check("\"a\0\"", Err(PayloadError::Nul { at: 2 }));
        check(r#""\ud800""#, Err(PayloadError::LoneSurrogate { at: 1 }));
        check(r#""\uD83D\n""#, Err(PayloadError::LoneSurrogate { at: 1 }));
        check(
            r#""\ud83d\ud83d\ude00""#,
            Err(PayloadError::LoneSurrogate { at: 1 }),
        );
        check(r#""a\uDE00""#, Err(PayloadError::LoneSurrogate { at: 2 }));
        for malformed in [
            r#""\x""#,
            r#""\u00g0""#,
            r#""\u+123""#,
            r#""\u12"#,
            "\"\\",
            r#""\ü""#,
        ] {
            check(malformed, Err(PayloadError::Escape { at: 1 }));
        }
    }

    #[test]
    fn payloads_are_nested_up_to_the_limit() {
        let nested = |open: &str, close: &str, depth: usize| {
            format!("{}1{}", open.repeat(depth), close.repeat(depth))
        };
        for (open, close) in [("[", "]"), ("{\"a[\\\"[\":", "}")] {
            let fits = nested(open, close, MAX_PAYLOAD_DEPTH);
            assert_eq!(check_payload(&fits), Ok(()), "{open}");
            let deep = nested(open, close, MAX_PAYLOAD_DEPTH + 1);
            let at = open.len() * MAX_PAYLOAD_DEPTH;
            assert_eq!(check_payload(&deep), Err(PayloadError::TooDeep { at }));
            assert_eq!(check_payloads_within(&deep, 1), Ok(()));
        }
        let side_by_side = format!("[{}1]", "[{}],".repeat(1000));
        assert_eq!(check_payload(&side_by_side), Ok(()));
        assert!(check_payload(&"[".repeat(1_000_000)).is_err());
    }

    #[test]
    fn payload_errors_read_well() {
        let message = |json: &str| check_payload(json).unwrap_err().to_string();
        assert_eq!(
            message(r#""\u0000""#),
            r"the payload holds a NUL character (\u0000) at byte 1"
        );
        assert_eq!(
            message(r#""\udfff""#),
            "the payload holds a lone surrogate escape at byte 1"
        );
        assert_eq!(
            message(r#""\q""#),
            "the payload holds a malformed escape at byte 1"
        );
        assert_eq!(
            message(&"[".repeat(101)),
            "the payload is nested deeper than 100 arrays and objects, at byte 100"
        );
    }

    proptest! {
        #[test]
        fn serialized_strings_pass_unless_they_hold_nul(
            text in r#"([\\"u0dDcC/]|\PC|\x00|\x01|\n){0,12}"#,
        ) {
            let json = Value::from(text.as_str()).to_string();
            prop_assert_eq!(check_payload(&json).is_ok(), !text.contains('\0'));
        }

        #[test]
        fn escaped_code_units_pass_if_they_are_text(
            units in prop::collection::vec(
                prop_oneof![0_u16..3, 0xD7FE_u16..=0xE001, any::<u16>()],
                0..6,
            ),
        ) {
            let escapes: String = units.iter().map(|unit| format!("\\u{unit:04X}")).collect();
            let is_text = String::from_utf16(&units).is_ok() && !units.contains(&0);
            prop_assert_eq!(check_payload(&format!("\"{escapes}\"")).is_ok(), is_text);
        }

        #[test]
        fn no_text_makes_the_checks_panic(text in any::<String>()) {
            let _ = check_payload(&text);
            let _ = check_name("name", &text);
            let _ = nearest(&text, ["abc", "äöü"].into_iter());
        }
    }
}
