//! The name of a schema: checked once, quoted wherever it is written, and known to those who wait
//! for notifications.

use std::fmt;

use crate::error::StoreError;

/// PostgreSQL cuts longer names off without a word.
const MAX_BYTES: usize = 63;

/// A name that PostgreSQL can hold. Any text of 1 to 63 bytes without NUL is one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SchemaName {
    name: String,
    /// `"name".`
    prefix: String,
}

impl SchemaName {
    pub(crate) fn new(name: &str) -> Result<SchemaName, StoreError> {
        let problem = match name {
            "" => Some("is empty".to_owned()),
            name if name.len() > MAX_BYTES => Some(format!(
                "is {} bytes long; the limit is {MAX_BYTES}",
                name.len()
            )),
            name if name.contains('\0') => Some("contains a NUL character".to_owned()),
            name if name.starts_with("pg_") => {
                Some("begins with `pg_`, which PostgreSQL keeps for itself".to_owned())
            }
            _ => None,
        };
        match problem {
            Some(problem) => Err(StoreError::Invalid(format!(
                "the schema's name `{}` {problem}",
                name.escape_debug()
            ))),
            None => Ok(SchemaName {
                name: name.to_owned(),
                prefix: format!("{}.", quoted(name)),
            }),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.name
    }

    /// As an identifier of a statement.
    pub(crate) fn quoted(&self) -> &str {
        &self.prefix[..self.prefix.len() - 1]
    }

    /// A statement's text for this schema: each tilde becomes the schema and its dot.
    pub(crate) fn qualify(&self, template: &str) -> String {
        template.replace('~', &self.prefix)
    }

    /// The channel on which this store's processes notify each other. A channel's name has the same
    /// limit as the schema's: where both don't fit, the rest of the name is a digest.
    pub(crate) fn channel(&self) -> String {
        const PREFIX: &str = "abide:";
        const DIGEST_BYTES: usize = 17;
        if PREFIX.len() + self.name.len() <= MAX_BYTES {
            return format!("{PREFIX}{}", self.name);
        }
        let mut end = MAX_BYTES - PREFIX.len() - DIGEST_BYTES;
        while !self.name.is_char_boundary(end) {
            end -= 1;
        }
        format!("{PREFIX}{}#{:016x}", &self.name[..end], fnv(&self.name))
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.escape_debug().fmt(f)
    }
}

/// A name as an identifier of a statement.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// FNV-1a: the same in every build and version, which the standard library's hashes are not.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        let name = SchemaName::new("a\"b; DROP TABLE x; --").expect("any text is a name");
        assert_eq!(name.quoted(), "\"a\"\"b; DROP TABLE x; --\"");
        assert_eq!(
            SchemaName::new("abide")
                .expect("a name")
                .qualify("SELECT 1 FROM ~steps, ~timers"),
            "SELECT 1 FROM \"abide\".steps, \"abide\".timers"
        );
    }

    #[test]
    fn names_that_postgres_cannot_hold_are_refused_in_words() {
        for (name, word) in [
            ("", "empty"),
            ("a\0b", "NUL"),
            ("pg_abide", "pg_"),
            (&*"x".repeat(64), "64 bytes"),
            (&*"ä".repeat(32), "64 bytes"),
        ] {
            let error = SchemaName::new(name).expect_err(name).to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(SchemaName::new(&"x".repeat(63)).is_ok());
    }

    #[test]
    fn every_schema_has_a_channel_of_its_own() {
        let channel = |name: &str| SchemaName::new(name).expect("a name").channel();
        assert_eq!(channel("abide"), "abide:abide");
        let long = [
            "x".repeat(57),
            "x".repeat(58),
            "x".repeat(62),
            "x".repeat(63),
            "x".repeat(62) + "y",
            "ä".repeat(31),
            "ä".repeat(30) + "b",
        ];
        let mut channels: Vec<String> = long.iter().map(|name| channel(name)).collect();
        for channel in &channels {
            assert!(channel.len() <= MAX_BYTES, "{channel}");
        }
        channels.sort();
        channels.dedup();
        assert_eq!(channels.len(), long.len());
    }
}
