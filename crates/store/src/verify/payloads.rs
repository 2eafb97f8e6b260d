//! Payload columns: that what they refer to is there, is JSON, and has the digest that history
//! recorded for it.

use std::borrow::Cow;

use abide_core::payload::digest_hex;
use rusqlite::{Connection, OptionalExtension};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::report::{Invariant, Problems};

/// Length and digest of a payload, as history records it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Recorded {
    pub(super) len: u64,
    pub(super) sha256: String,
}

pub(super) struct Payloads<'c> {
    connection: &'c Connection,
    /// How many were read that are kept apart.
    pub(super) read: u64,
}

impl<'c> Payloads<'c> {
    pub(super) fn new(connection: &'c Connection) -> Payloads<'c> {
        Payloads {
            connection,
            read: 0,
        }
    }

    /// The text that a column holds or refers to; reports what is wrong with it.
    pub(super) fn text<'t>(
        &mut self,
        what: &str,
        stored: Option<&'t str>,
        problems: &mut Problems,
    ) -> rusqlite::Result<Option<Cow<'t, str>>> {
        let Some(stored) = stored else {
            return Ok(None);
        };
        let text = match stored.strip_prefix('@') {
            None => Cow::Borrowed(stored),
            Some(id) => match self.kept_apart(id)? {
                Some(body) => Cow::Owned(body),
                None => {
                    let stored = stored.escape_debug();
                    let what = format!("{what} is kept as payload {stored}, which is missing");
                    problems.add(Invariant::I1, what);
                    return Ok(None);
                }
            },
        };
        if let Err(error) = serde_json::from_str::<IgnoredAny>(&text) {
            problems.add(Invariant::I1, format!("{what} is no JSON: {error}"));
            return Ok(None);
        }
        Ok(Some(text))
    }

    fn kept_apart(&mut self, id: &str) -> rusqlite::Result<Option<String>> {
        let Ok(id) = id.parse::<i64>() else {
            return Ok(None);
        };
        self.read += 1;
        self.connection
            .prepare_cached("SELECT body FROM payloads WHERE id = ?1 AND typeof(body) = 'text'")?
            .query_row([id], |row| row.get(0))
            .optional()
    }

    /// Checks a payload column against the digest that history has of it, if its history is known.
    pub(super) fn recorded(
        &mut self,
        what: &str,
        stored: Option<&str>,
        history: Option<Option<&Recorded>>,
        problems: &mut Problems,
    ) -> rusqlite::Result<()> {
        let text = self.text(what, stored, problems)?;
        compare(what, stored, text.as_deref(), history, problems);
        Ok(())
    }
}

/// Compares the text that a column holds or refers to with the digest that history has of it.
pub(super) fn compare(
    what: &str,
    stored: Option<&str>,
    text: Option<&str>,
    history: Option<Option<&Recorded>>,
    problems: &mut Problems,
) {
    let wrong = match (text, history) {
        (Some(text), Some(Some(recorded))) => {
            let (len, sha256) = (text.len() as u64, digest_hex(text.as_bytes()));
            (len != recorded.len || sha256 != recorded.sha256).then(|| {
                    format!(
                        "{what} has {len} bytes and digest {sha256}, history recorded {} bytes and digest {}",
                        recorded.len, recorded.sha256
                    )
                })
        }
        (Some(_), Some(None)) => Some(format!("{what} is stored, but history knows of none")),
        (None, Some(Some(recorded))) if stored.is_none() => Some(format!(
            "{what} is missing, history recorded {} bytes with digest {}",
            recorded.len, recorded.sha256
        )),
        _ => None,
    };
    if let Some(wrong) = wrong {
        problems.add(Invariant::I1, wrong);
    }
}
