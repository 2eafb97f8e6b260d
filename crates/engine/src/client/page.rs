//! Pages of a list, and the cursor that leads from one to the next.

use std::fmt;
use std::str::FromStr;

use abide_core::payload::canonical_digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Page<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// The cursor of the next page; none if this is the last page.
    pub next: Option<Cursor>,
}

/// The end of a list's page. Its text is opaque: save it and pass it back, but do not parse it,
/// because another version may write it differently.
///
/// A cursor belongs to the filter of its list. With another filter it is refused, because the pages
/// would not fit together. Time bounds may differ, because `since an hour ago` moves between two
/// pages.
/// belong together. Bounds of time are an exception: `since an hour ago` moves on between two pages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The last item of the previous page.
    after: i64,
    filter: String,
}

/// Why a cursor is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CursorError {
    /// The text is not a cursor.
    #[error("it is not a cursor that a list gave")]
    Malformed,
    /// The cursor comes from a list with another filter.
    #[error(
        "this cursor belongs to a list with another filter: give the same filter again, or begin without a cursor"
    )]
    OtherFilter,
}

/// How many digits of the filter's digest a cursor contains.
const DIGITS: usize = 8;

/// The version, with which a cursor's text begins.
const VERSION: char = 'c';

impl Cursor {
    /// The cursor after this item of a list whose filter has this JSON.
    pub(super) fn new(after: i64, filter: &impl Serialize) -> Cursor {
        let filter = digest(filter);
        Cursor { after, filter }
    }

    /// The last item of the previous page, if the list has the same filter.
    pub(super) fn after(&self, filter: &impl Serialize) -> Result<i64, CursorError> {
        match self.filter == digest(filter) {
            true => Ok(self.after),
            false => Err(CursorError::OtherFilter),
        }
    }
}

fn digest(filter: &impl Serialize) -> String {
    let json = serde_json::to_string(filter).expect("filters have string keys");
    let mut digest = canonical_digest(&json).expect("this is JSON");
    digest.truncate(DIGITS);
    digest
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}{}{:x}", self.filter, self.after)
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Cursor, CursorError> {
        let rest = text.strip_prefix(VERSION).ok_or(CursorError::Malformed)?;
        let (filter, after) = rest
            .split_at_checked(DIGITS)
            .ok_or(CursorError::Malformed)?;
        let is_digest = filter.bytes().all(|byte| byte.is_ascii_hexdigit());
        let after = i64::from_str_radix(after, 16)
            .ok()
            .filter(|after| *after >= 0);
        match (is_digest, after) {
            (true, Some(after)) => Ok(Cursor {
                after,
                filter: filter.to_owned(),
            }),
            _ => Err(CursorError::Malformed),
        }
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cursor, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_as_text_and_keeps_to_its_filter() {
        let cursor = Cursor::new(132_271_570_944_004_103, &("executions", "order"));
        let read: Cursor = cursor.to_string().parse().expect("a cursor");
        assert_eq!(read, cursor);
        assert_eq!(
            read.after(&("executions", "order")),
            Ok(132_271_570_944_004_103)
        );
        assert_eq!(
            read.after(&("executions", "orders")),
            Err(CursorError::OtherFilter)
        );
        let json = serde_json::to_string(&cursor).expect("a string");
        assert_eq!(
            serde_json::from_str::<Cursor>(&json).expect("a cursor"),
            cursor
        );
    }

    #[test]
    fn another_text_is_no_cursor() {
        for text in [
            "",
            "c",
            "page2",
            "03t3n0dr00m00",
            "c0123456",
            "cäöüß01",
            "c01234567-1",
            "c01234567x",
        ] {
            assert_eq!(
                text.parse::<Cursor>(),
                Err(CursorError::Malformed),
                "{text}"
            );
        }
    }
}
