//! What the server's errors mean to the store, by SQLSTATE: whether asking again may help, and
//! whether the write may have happened. To run the same at once: `Raced` (another process inserted the
//! same instance, or changed what was read), `Deadlock`, `IdTaken` (with another id). To run less, or
//! the same later: `Busy` (a lock or statement timeout). With another connection, when there is one:
//! `Unavailable`. To ask about: `Io` that is unknown, from a COMMIT alone. What is not listed here is
//! `Unexpected`: the store's trouble, not the request's. Only values that the server does not take are
//! the request's (`Internal`). Nothing else helps by itself, but space for `Full`.

use std::error::Error as _;

use tokio_postgres::error::{DbError, SqlState};

use crate::error::StoreError;

/// The error of a statement that isn't a COMMIT, of `database` (a name for messages). Whatever it
/// is: its transaction has come to nothing.
pub(crate) fn definite(database: &str, error: &tokio_postgres::Error) -> StoreError {
    match error.as_db_error() {
        Some(error) => from_server(database, error),
        None if error.is_closed() || is_io(error) => StoreError::Unavailable {
            database: database.to_owned(),
            detail: words(error),
        },
        // A value that can't be sent, or a server that does not keep to the protocol.
        None => StoreError::Unexpected {
            database: database.to_owned(),
            detail: words(error),
        },
    }
}

/// The error of a statement that makes a schema, a table or a role. It is `Raced` where another process
/// made the same, or changed who owns it or may use it, since this one looked.
pub(crate) fn of_making(database: &str, error: &tokio_postgres::Error) -> StoreError {
    let made_meanwhile = error.as_db_error().filter(|error| match *error.code() {
        SqlState::DUPLICATE_SCHEMA | SqlState::DUPLICATE_TABLE | SqlState::DUPLICATE_OBJECT => true,
        SqlState::INTERNAL_ERROR => error.message().starts_with("tuple concurrently"),
        _ => false,
    });
    match made_meanwhile {
        Some(error) => StoreError::Raced {
            what: describe(error),
        },
        None => definite(database, error),
    }
}

/// The error of a COMMIT. Unless the server said why it did not commit, nobody knows whether it did.
pub(crate) fn of_commit(database: &str, error: &tokio_postgres::Error) -> StoreError {
    let class = error.as_db_error().map(|error| &error.code().code()[..2]);
    match class {
        // Serialisation, constraints checked at the end, no space: the server rolled back. A session
        // that was ended since it had been idle in its transaction had not read the COMMIT yet.
        Some("23" | "25" | "40" | "53") => definite(database, error),
        _ => StoreError::Io {
            path: database.to_owned(),
            detail: words(error),
            unknown: true,
        },
    }
}

/// The error of an attempt to connect.
pub(crate) fn of_connect(database: &str, error: &tokio_postgres::Error) -> StoreError {
    match error.as_db_error() {
        Some(error) => from_server(database, error),
        // A certificate becomes no better by asking again.
        None if is_certificate(error) => StoreError::CannotOpen {
            path: database.to_owned(),
            detail: words(error),
        },
        None => StoreError::Unavailable {
            database: database.to_owned(),
            detail: words(error),
        },
    }
}

fn from_server(database: &str, error: &DbError) -> StoreError {
    by_code(database, error.code(), error.constraint(), describe(error))
}

pub(super) fn by_code(
    database: &str,
    code: &SqlState,
    constraint: Option<&str>,
    detail: String,
) -> StoreError {
    let database = database.to_owned();
    match *code {
        SqlState::T_R_SERIALIZATION_FAILURE => StoreError::Raced { what: detail },
        SqlState::T_R_DEADLOCK_DETECTED => StoreError::Deadlock(database),
        SqlState::LOCK_NOT_AVAILABLE
        // A statement or lock timeout: nobody else cancels what this program does.
        | SqlState::QUERY_CANCELED => StoreError::Busy(database),
        SqlState::DISK_FULL => StoreError::Full(database),
        SqlState::UNIQUE_VIOLATION if constraint == Some("executions_pkey") => StoreError::IdTaken,
        SqlState::UNIQUE_VIOLATION => StoreError::Raced {
            what: constraint.unwrap_or("a unique constraint").to_owned(),
        },
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT => {
            StoreError::Unavailable { database, detail }
        }
        // After a migration by a newer program. A new connection prepares its statements anew.
        SqlState::FEATURE_NOT_SUPPORTED if detail.contains("cached plan") => {
            StoreError::Unavailable { database, detail }
        }
        // Behind a pooler that gives every transaction another server process.
        SqlState::INVALID_SQL_STATEMENT_NAME | SqlState::DUPLICATE_PSTATEMENT => {
            StoreError::CannotOpen {
                path: database,
                detail: format!(
                    "{detail}: a connection pooler between this program and the server must keep a session on one \
                     server connection (pool_mode = session)"
                ),
            }
        }
        // In a transaction of the user's own.
        SqlState::IN_FAILED_SQL_TRANSACTION | SqlState::NO_ACTIVE_SQL_TRANSACTION => {
            StoreError::Invalid(format!("{detail}; nothing was written"))
        }
        SqlState::INSUFFICIENT_PRIVILEGE => StoreError::Denied { database, detail },
        SqlState::READ_ONLY_SQL_TRANSACTION => StoreError::Unavailable { database, detail },
        SqlState::UNDEFINED_TABLE | SqlState::UNDEFINED_COLUMN | SqlState::INVALID_SCHEMA_NAME => {
            StoreError::Corrupt {
                path: database,
                detail,
            }
        }
        SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => StoreError::Corrupt {
            path: database,
            detail,
        },
        SqlState::INVALID_CATALOG_NAME => StoreError::CannotOpen {
            path: database,
            detail,
        },
        _ => match &code.code()[..2] {
            // Connection, resources (memory, connections), the operator, the system below.
            "08" | "53" | "57" | "58" => StoreError::Unavailable { database, detail },
            "28" => StoreError::Denied { database, detail },
            // A value, a constraint, a limit, a text that the server does not understand.
            "21" | "22" | "23" | "42" | "54" => {
                StoreError::Internal(format!("{detail} ({})", code.code()))
            }
            _ => StoreError::Unexpected {
                database,
                detail: format!("{detail} ({})", code.code()),
            },
        },
    }
}

/// What the server said. Its detail may hold values of users' rows and is left out.
fn describe(error: &DbError) -> String {
    match error.hint() {
        Some(hint) => format!("{}; {hint}", error.message()),
        None => error.message().to_owned(),
    }
}

/// An error of the client's side with its causes.
fn words(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return describe(error);
    }
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !words.contains(&next) {
            words = format!("{words}: {next}");
        }
        source = error.source();
    }
    words
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    error
        .source()
        .is_some_and(|source| source.is::<std::io::Error>())
}

fn is_certificate(error: &tokio_postgres::Error) -> bool {
    let io = error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>());
    let tls = io
        .and_then(std::io::Error::get_ref)
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: &str, constraint: Option<&str>) -> StoreError {
        let detail = "said the server".to_owned();
        by_code("db", &SqlState::from_code(code), constraint, detail)
    }

    #[test]
    fn what_may_pass_by_itself_is_transient_and_the_rest_is_not() {
        for code in [
            "40001", "40P01", "55P03", "57014", "53100", "53200", "53300", "57P01", "57P02",
            "57P03", "08006", "25006", "58030", "25P03", "25P04", "57P05", "0A000", "55000",
            "P0001", "XX000", "ZZ001",
        ] {
            let error = of(code, None);
            assert!(
                error.is_transient() && error.is_definite(),
                "{code}: {error}"
            );
        }
        for code in [
            "42501", "28P01", "28000", "42P01", "3F000", "3D000", "XX001", "22003", "42601",
            "26000",
        ] {
            let error = of(code, None);
            assert!(
                !error.is_transient() && error.is_definite(),
                "{code}: {error}"
            );
        }
    }

    #[test]
    fn a_taken_id_differs_from_a_race_for_an_instance() {
        let id = of("23505", Some("executions_pkey"));
        assert!(matches!(id, StoreError::IdTaken), "{id:?}");
        match of("23505", Some("executions_instance")) {
            StoreError::Raced { what } => assert_eq!(what, "executions_instance"),
            other => panic!("{other:?}"),
        }
        assert!(matches!(of("40P01", None), StoreError::Deadlock(_)));
        assert!(matches!(of("55P03", None), StoreError::Busy(_)));
    }

    #[test]
    fn errors_say_what_the_server_said() {
        for (code, words) in [
            ("42501", "the database db refuses it (said the server)"),
            ("57P03", "out of reach (said the server)"),
            ("42P01", "is damaged (said the server)"),
            ("22003", "said the server (22003)"),
            ("ZZ001", "db failed unexpectedly (said the server (ZZ001))"),
            ("26000", "pool_mode = session"),
        ] {
            let error = of(code, None).to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
