//! The versions of the schema: the steps that lead from each to the next, and the fingerprint by which a store
//! tells which text its tables were made by. One numbering for both databases, forward only. The drivers run the
//! steps (`sqlite/schema`, `postgres/schema`) and refuse writes to a store of another version than it was opened with
//! (`sqlite/connection`, `postgres/version`); nothing here touches a database.

use std::cmp::Ordering;

use crate::derived::{Dialect, derived};
use crate::error::StoreError;

/// The steps of one database.
#[derive(Debug)]
pub(crate) struct Migrations {
    /// The n-th leads to version n. A tilde before a name stands for its schema and the dot. What is derived
    /// from core's tables is removed before the first step and made anew after the last.
    pub(crate) steps: &'static [&'static str],
    /// The fingerprint of each version before the newest, as it was published. A published step never changes.
    pub(crate) published: &'static [&'static str],
    pub(crate) dialect: Dialect,
}

impl Migrations {
    /// The number of the newest version.
    pub(crate) fn newest(&self) -> i64 {
        number(self.steps.len())
    }

    /// The fingerprint of the newest version: it differs wherever the text that makes the tables, indexes and
    /// views differs in more than comments and layout.
    pub(crate) fn fingerprint(&self) -> String {
        let mut text = String::new();
        for step in self.steps {
            text.push_str(&plain(step));
            text.push('\n');
        }
        text.push_str(&plain(&derived(self.dialect)));
        format!("{:016x}", fnv1a(text.as_bytes()))
    }

    /// Whether a store of that version and fingerprint was made by this text. If not, an earlier build made it,
    /// since a version is changed in place until it is published.
    pub(crate) fn made(&self, version: i64, fingerprint: Option<&str>) -> bool {
        if version == self.newest() {
            return fingerprint == Some(&self.fingerprint());
        }
        let published = usize::try_from(version - 1);
        let published = published
            .ok()
            .and_then(|at| self.published.get(at).copied());
        published.is_some() && fingerprint == published
    }

    /// The steps that a store of that version lacks, each with the number of the version that it leads to.
    pub(crate) fn after(&self, version: i64) -> impl Iterator<Item = (i64, &'static str)> {
        let done = usize::try_from(version).unwrap_or(0);
        let numbered = (1..).zip(self.steps.iter().copied());
        numbered.skip(done)
    }

    /// Refuses a write to the store of that name if its version is no longer the newest known here, as it was
    /// when it was opened.
    pub(crate) fn require(
        &self,
        store: impl FnOnce() -> String,
        found: i64,
    ) -> Result<(), StoreError> {
        let known = self.newest();
        match found.cmp(&known) {
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(StoreError::TooNew {
                path: store(),
                found,
                known,
            }),
            Ordering::Less => Err(StoreError::CannotOpen {
                path: store(),
                detail: format!(
                    "it had schema {known} and has schema {found} now, as after a restored backup: nothing was \
                     written; start this program again"
                ),
            }),
        }
    }
}

/// The error of a step that failed: nothing of the migration was written. What may pass by itself stays what it is.
pub(crate) fn failed(store: &str, version: i64, error: StoreError) -> StoreError {
    match error {
        StoreError::Unexpected { detail, .. }
        | StoreError::Internal(detail)
        | StoreError::Corrupt { detail, .. } => StoreError::CannotOpen {
            path: store.to_owned(),
            detail: format!(
                "the migration to schema {version} failed ({detail}), and the store is as it was before"
            ),
        },
        error => error,
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The 64-bit FNV-1a hash. It only has to tell texts of Abide's own apart, and to stay the same for ever.
fn fnv1a(bytes: &[u8]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    bytes.iter().fold(BASIS, step)
}

/// A text without comments, and with one space where there is any.
pub(crate) fn plain(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(character) = rest.chars().next() {
        let end = match character {
            '-' if rest.starts_with("--") => rest.find('\n'),
            '/' if rest.starts_with("/*") => rest.find("*/").map(|at| at + 2),
            '\'' | '"' | '`' => {
                let end = rest[1..].find(character).map_or(rest.len(), |at| at + 2);
                out.push_str(&rest[..end]);
                rest = &rest[end..];
                continue;
            }
            _ if character.is_whitespace() => Some(character.len_utf8()),
            _ => {
                out.push(character);
                rest = &rest[character.len_utf8()..];
                continue;
            }
        };
        if !out.ends_with(' ') {
            out.push(' ');
        }
        rest = &rest[end.unwrap_or(rest.len())..];
    }
    out.trim_end().to_owned()
}

#[cfg(all(test, feature = "sqlite", feature = "postgres"))]
mod upgrades;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(steps: &'static [&'static str], published: &'static [&'static str]) -> Migrations {
        Migrations {
            steps,
            published,
            dialect: Dialect::Sqlite,
        }
    }

    #[test]
    fn comments_and_layout_make_no_difference() {
        let sql =
            "CREATE TABLE t (\n    a TEXT DEFAULT '--  x', -- why\n\n    /* b */ c INTEGER\n)";
        assert_eq!(
            plain(sql),
            "CREATE TABLE t ( a TEXT DEFAULT '--  x', c INTEGER )"
        );
        let commented = of(&["CREATE TABLE t (a  TEXT); -- first"], &[]);
        let other = of(&["CREATE TABLE t (a INTEGER);"], &[]);
        let first = of(&["CREATE TABLE t (a TEXT);"], &[]);
        assert_eq!(first.fingerprint(), commented.fingerprint());
        assert_ne!(first.fingerprint(), other.fingerprint());
    }

    #[test]
    fn a_store_is_known_by_the_text_that_made_it() {
        let all = of(&["a", "b", "c"], &["first", "second"]);
        assert_eq!(all.newest(), 3);
        let newest = all.fingerprint();
        for (version, fingerprint, made) in [
            (1, Some("first"), true),
            (1, Some("second"), false),
            (1, None, false),
            (2, Some("second"), true),
            (3, Some(newest.as_str()), true),
            (3, Some("second"), false),
            (3, None, false),
        ] {
            assert_eq!(
                all.made(version, fingerprint),
                made,
                "{version} {fingerprint:?}"
            );
        }
        // A version without a published fingerprint is of no build that anybody has.
        assert!(!of(&["a", "b"], &[]).made(1, None));
    }

    #[test]
    fn a_store_takes_writes_of_the_version_that_it_was_opened_with() {
        let all = of(&["a", "b"], &["first"]);
        let required = |found| all.require(|| "app.db".to_owned(), found);
        required(2).expect("as it was opened");
        let newer = required(3).expect_err("migrated since");
        assert!(newer.is_for_good() && newer.is_definite(), "{newer:?}");
        let older = required(1).expect_err("restored since");
        assert!(
            older.to_string().contains("start this program again"),
            "{older}"
        );
        assert!(older.is_definite() && !older.is_transient(), "{older:?}");
    }

    #[test]
    fn what_a_store_lacks_are_the_later_steps() {
        let all = of(&["a", "b", "c"], &[]);
        let after = |version| all.after(version).collect::<Vec<_>>();
        assert_eq!(after(0), [(1, "a"), (2, "b"), (3, "c")]);
        assert_eq!(after(2), [(3, "c")]);
        assert_eq!(after(3), []);
    }
}
