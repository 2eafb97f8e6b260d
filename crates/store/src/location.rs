//! The text that names a store: which database it means, or why it means none. A text may hold a
//! password, above all one that was written the wrong way, so no message here repeats the text.

use std::path::PathBuf;

use crate::error::StoreError;

/// Where a store is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Location<'a> {
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL server, by its address.
    Server(&'a str),
}

/// Marks that surround a text where it was quoted twice.
const QUOTES: &[char] = &[
    '"', '\'', '`', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}',
];

/// What libpq and drivers like it call the parts of a connection string.
const KEYWORDS: &[&str] = &[
    "host",
    "hostaddr",
    "server",
    "data source",
    "port",
    "user",
    "username",
    "user id",
    "uid",
    "password",
    "passwd",
    "passfile",
    "pwd",
    "db",
    "dbname",
    "database",
    "service",
    "sslmode",
    "sslrootcert",
    "options",
    "application_name",
    "connect_timeout",
    "target_session_attrs",
];

const HOW_TO: &str = "name a SQLite file, such as `sqlite:app.db`, or a PostgreSQL database, such as `postgres://user@host/database`";

impl Location<'_> {
    /// Reads the text.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] in words that show nothing of the text but the names of its parts.
    pub(crate) fn parse(text: &str) -> Result<Location<'_>, StoreError> {
        if text.contains(char::is_control) {
            return Err(invalid(
                "it holds a line break or another control character, and so names no file and no database",
            ));
        }
        if is_wrapped(text) {
            return Err(invalid(
                "it begins or ends with a space or a quotation mark",
            ));
        }
        if has_password(text) || starts_with_keyword(text) {
            return Err(invalid(
                "it is made of keywords (`host=.. user=..`): write `postgres://user@host/database`",
            ));
        }
        let Some((scheme, rest)) = text.split_once(':') else {
            return file(text);
        };
        let is_drive = scheme.len() == 1 && rest.starts_with(['/', '\\']);
        match scheme {
            "postgres" | "postgresql" if rest.starts_with("//") => Ok(Location::Server(text)),
            "sqlite" => file(rest.strip_prefix("//").unwrap_or(rest)),
            _ if is_other_postgres(scheme) => Err(invalid(
                "the address of a PostgreSQL database begins with `postgres://` or `postgresql://`, in lower case",
            )),
            _ if !is_drive && rest.contains('@') => Err(invalid(&format!(
                "it has a user or a password, but does not begin with `postgres://`: {HOW_TO}"
            ))),
            _ if is_scheme(scheme) => Err(StoreError::Invalid(format!(
                "`{scheme}:` is no kind of store: {HOW_TO}"
            ))),
            _ => file(text),
        }
    }
}

/// What is written for PostgreSQL elsewhere, such as `Postgres` or `postgresql+asyncpg`.
fn is_other_postgres(scheme: &str) -> bool {
    let is_alike = |name: &str| {
        let start = scheme.get(..name.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    is_alike("postgres") && !["postgres", "postgresql"].contains(&scheme)
}

/// A scheme has at least two letters; a Windows drive has one.
fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn is_wrapped(text: &str) -> bool {
    let is_odd = |c: char| c.is_whitespace() || QUOTES.contains(&c);
    text.starts_with(is_odd) || text.ends_with(is_odd)
}

fn starts_with_keyword(text: &str) -> bool {
    text.split_once('=').is_some_and(|(name, _)| {
        let name = name.trim().to_lowercase();
        KEYWORDS.contains(&name.as_str())
    })
}

/// Whether a keyword says a password, outside of the address of a server, which may say one.
fn has_password(text: &str) -> bool {
    let is_server = text.starts_with("postgres://") || text.starts_with("postgresql://");
    let text = text.to_lowercase().replace(' ', "");
    !is_server
        && ["password=", "passwd=", "pwd="]
            .iter()
            .any(|name| text.contains(name))
}

/// The file of a path with parameters.
fn file(text: &str) -> Result<Location<'static>, StoreError> {
    let (path, parameters) = text.split_once('?').unwrap_or((text, ""));
    if path.contains("://") {
        return Err(invalid("it is a path that holds `://`"));
    }
    if path.starts_with("file:") {
        return Err(invalid(
            "its path begins with `file:`, which SQLite would read as an address of its own; write the path alone",
        ));
    }
    if is_wrapped(path) {
        return Err(invalid(
            "its path begins or ends with a space or a quotation mark",
        ));
    }
    if path.is_empty() || path == ":memory:" {
        let path = match path {
            "" => "an empty path",
            _ => "`:memory:`",
        };
        return Err(invalid(&format!("{path} names no file")));
    }
    for parameter in parameters
        .split('&')
        .filter(|parameter| !parameter.is_empty())
    {
        check_parameter(parameter)?;
    }
    Ok(Location::File(PathBuf::from(path)))
}

/// A SQLite address takes no parameters but the one that asks for what is done anyway: other
/// libraries want it in front of a file that may not exist yet.
fn check_parameter(parameter: &str) -> Result<(), StoreError> {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let is_name = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    match (name, value) {
        ("mode", "rwc") => Ok(()),
        ("mode", _) => Err(invalid(
            "the `mode` of a SQLite file can only be `rwc`: Abide reads, writes and creates it",
        )),
        _ if is_name => Err(invalid(&format!(
            "a SQLite file has no parameter `{name}`: Abide sets what it relies on by itself"
        ))),
        _ => Err(invalid(
            "what follows the `?` are not parameters; the name of a SQLite file can't hold a `?`",
        )),
    }
}

fn invalid(problem: &str) -> StoreError {
    StoreError::Invalid(format!("the store's address does not do: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_or_without_its_scheme_is_a_file() {
        for (text, path) in [
            ("app.db", "app.db"),
            ("sqlite:app.db", "app.db"),
            ("sqlite://app.db", "app.db"),
            ("sqlite:///var/lib/app.db", "/var/lib/app.db"),
            ("/srv/my data/a=b.db", "/srv/my data/a=b.db"),
            ("C:\\data\\a@b.db", "C:\\data\\a@b.db"),
            ("./host=1.db", "./host=1.db"),
            ("./file:app.db", "./file:app.db"),
            ("user@host.db", "user@host.db"),
            // As sqlx has it.
            ("sqlite:rt.db?mode=rwc", "rt.db"),
            ("sqlite://rt.db?mode=rwc", "rt.db"),
        ] {
            let found = Location::parse(text).expect(text);
            assert_eq!(found, Location::File(path.into()), "{text}");
        }
    }

    #[test]
    fn an_address_of_a_server_is_left_as_it_is() {
        for text in [
            "postgres://u:secret@h/db?password=x",
            "postgresql://h/db?schema=s",
        ] {
            assert_eq!(Location::parse(text).expect(text), Location::Server(text));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_shown() {
        for (text, words) in [
            ("", "names no file"),
            ("sqlite:", "names no file"),
            ("sqlite::memory:", "`:memory:` names no file"),
            ("host=db user=app password=secret", "keywords"),
            ("HOST = db password = secret", "keywords"),
            ("sqlite:dbname=x password=secret", "keywords"),
            ("Server=db;User Id=app;Pwd=secret;", "keywords"),
            (" postgres://u:secret@h/db", "space or a quotation mark"),
            ("postgres://u:secret@h/db\n", "line break"),
            ("\"postgres://u:secret@h/db\"", "quotation mark"),
            ("'postgres://u:secret@h/db'", "quotation mark"),
            ("\u{201c}postgres://u:secret@h/db\u{201d}", "quotation mark"),
            ("sqlite: app.db", "space or a quotation mark"),
            ("sqlite:'app.db'", "quotation mark"),
            ("Postgres://u:secret@h/db", "in lower case"),
            (
                "postgres:u:secret@h/db",
                "does not begin with `postgres://`",
            ),
            ("postgres:app", "`postgres:` is no kind of store"),
            (
                "postgresql+asyncpg://u:secret@h/db",
                "begins with `postgres://`",
            ),
            ("mysql://u:secret@h/db", "or a PostgreSQL database"),
            ("jdbc:postgresql://h/db?user=u&password=secret", "keywords"),
            ("u_1:secret@h/db", "does not begin with `postgres://`"),
            ("u:secret@h/db", "does not begin with `postgres://`"),
            ("sqlite:postgres://u:secret@h/db", "holds `://`"),
            ("ftp:file", "`ftp:` is no kind of store"),
            ("sqlite:file:app.db", "write the path alone"),
            ("sqlite://file:app.db?mode=rwc", "write the path alone"),
            ("app.db\0", "control character"),
            ("sqlite:rt.db?mode=memory", "`mode`"),
            ("sqlite:rt.db?cache=shared&mode=rwc", "no parameter `cache`"),
            ("rt.db?immutable=1", "no parameter `immutable`"),
            ("what?.db", "can't hold a `?`"),
        ] {
            let error = Location::parse(text).expect_err(text).to_string();
            assert!(error.contains(words), "{text:?}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
