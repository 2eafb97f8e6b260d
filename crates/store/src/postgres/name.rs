//! The name of a schema: checked once, quoted wherever it is written.

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
}
