//! What may stand in names and payloads, and which known name a wrong one was meant to be.
//!
//! Both databases must hold the same strings: PostgreSQL refuses NUL in text and lone surrogates in
//! JSON, so they are refused here, before either sees them. Nothing here changes a string.

use thiserror::Error;

/// Longest name (task, node, instance, signal, step ...) in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 255;

/// Character comparisons spent on a suggestion, so that a wrong name among 100,000 long ones is still
/// answered in well under a second. Candidates past the budget are not looked at.
const NEAREST_BUDGET: usize = 100_000_000;

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
        /// How it starts.
        start: String,
        /// Its length.
        bytes: usize,
    },
    /// The name holds a control character; NUL is one.
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
    /// A string holds the NUL character, which PostgreSQL cannot store.
    #[error("the payload holds a NUL character (\\u0000) at byte {at}")]
    Nul {
        /// Where.
        at: usize,
    },
    /// A string holds half of a surrogate pair, which is no character.
    #[error("the payload holds a lone surrogate escape at byte {at}")]
    LoneSurrogate {
        /// Where.
        at: usize,
    },
    /// A backslash starts no escape that JSON knows.
    #[error("the payload holds a malformed escape at byte {at}")]
    Escape {
        /// Where.
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

/// Checks that JSON text can be stored in every backend: no NUL, no lone surrogate escapes.
///
/// The text should be well-formed JSON already; only its escapes are looked at.
///
/// ```
/// use abide_core::text::check_payload;
/// assert!(check_payload(r#"{"path": "C:\\u0000"}"#).is_ok()); // an escaped backslash, then `u0000`
/// assert!(check_payload(r#""\u0000""#).is_err());
/// ```
pub fn check_payload(json: &str) -> Result<(), PayloadError> {
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

/// Reads the `\uXXXX` at `at`, with the second half of a pair, and returns where it ends.
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

/// The UTF-16 code unit that the escape at `at` stands for; none if there is no such escape.
fn code_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0_u16, |unit, digit| {
        let value = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(value).ok()?)
    })
}

/// The candidate that `name` was probably meant to be: equal but for case, or a few edits away (one for
/// every three characters). The first of equally near ones; none if nothing is near.
///
/// ```
/// use abide_core::text::nearest;
/// assert_eq!(nearest("reprot", ["hash", "report"].into_iter()), Some("report"));
/// assert_eq!(nearest("x", ["hash", "report"].into_iter()), None);
/// ```
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let length = wanted.chars().count();
    let mut budget = NEAREST_BUDGET;
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
