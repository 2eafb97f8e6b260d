//! Verification: whether a store keeps its promises, found out by reading it.
//!
//! Every history is replayed by code that shares no rule with the code that wrote it, and compared
//! with the stored rows; rows that say what happens next are compared with what is open. One
//! ordered pass over one snapshot, one execution in memory at a time. Nothing is ever written.

mod compare;
mod contexts;
mod cursor;
mod decisions;
mod executions;
mod fold_execution;
mod fold_task;
mod graphs;
mod history;
mod options;
mod payloads;
mod queue;
mod report;
mod rows;
mod schema;
mod spent;
mod steps;
mod tasks;
mod walk;
mod whole;
mod words;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::StoreError;
use crate::location::Location;
use crate::sqlite::connection::Database;
use crate::sqlite::rows::is_content;
use crate::sqlite::schema as numbered;

pub use options::{Integrity, VerifyOptions};
use report::Findings;
pub use report::{Checked, Finding, Invariant, Subject, VerifyReport};

/// Verifies a database file, whether or not it is in use, without writing to it. For a file that is
/// damaged, too, where opening a [`crate::Store`] fails.
///
/// # Errors
///
/// [`StoreError`] if the file cannot be read at all, is not Abide's, or was written by a newer
/// version. Damage inside it is a finding, not an error.
pub fn verify_file(url: &str, options: &VerifyOptions) -> Result<VerifyReport, StoreError> {
    let path = match Location::parse(url)? {
        Location::File(path) => path,
        Location::Server(_) => {
            let what = "a PostgreSQL store is no file: open it and verify it with `Store::verify`";
            return Err(StoreError::Invalid(what.to_owned()));
        }
    };
    let database = Database::new(path, options.busy_timeout);
    let connection = open(&database)?;
    run(&database, &connection, options)
}

/// Verifies a file that holds a copy of the store called `name`. What was found damaged when it was
/// copied is told first.
#[cfg(feature = "postgres")]
pub(crate) fn run_copy(
    path: &std::path::Path,
    name: &str,
    options: &VerifyOptions,
    damage: Vec<String>,
) -> Result<VerifyReport, StoreError> {
    let database = Database::new(path.to_owned(), options.busy_timeout).called(name);
    let connection = open(&database)?;
    let mut findings = Findings::new(options.max_findings);
    for what in damage {
        findings.add(Invariant::I12, Subject::Database, what);
    }
    run_on(&database, &connection, options, findings)
}

/// What is told of a database that is so damaged that it cannot be read, after what else was found.
pub(crate) fn unreadable(
    detail: &str,
    options: &VerifyOptions,
    damage: Vec<String>,
) -> VerifyReport {
    let mut findings = Findings::new(options.max_findings);
    for what in damage {
        findings.add(Invariant::I12, Subject::Database, what);
    }
    let what = format!("it is damaged: {detail}");
    findings.add(Invariant::I12, Subject::Database, what);
    VerifyReport {
        findings: findings.kept,
        more: findings.more,
        checked: Checked::default(),
    }
}

fn open(database: &Database) -> Result<Connection, StoreError> {
    let refuse = |detail: String| StoreError::CannotOpen {
        path: database.name(),
        detail,
    };
    match database.path.metadata() {
        Err(error) => return Err(refuse(error.to_string())),
        Ok(metadata) if metadata.is_dir() => return Err(refuse("it is a directory".into())),
        Ok(_) => {}
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&*database.path, flags)
        .map_err(|error| refuse(error.to_string()))?;
    let fail = |error| database.error(error, false);
    connection
        .busy_timeout(database.busy_timeout)
        .map_err(fail)?;
    match connection.query_row("PRAGMA schema_version", [], |_| Ok(())) {
        Err(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
            ) && !has_log(database) =>
        {
            // On a medium that cannot be written there is no place for the log's index; without a
            // log none is needed.
            let uri = format!("file:{}?immutable=1", percent_encoded(&database.name()));
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI).map_err(fail)
        }
        // Whatever else is wrong shows when it is read.
        _ => Ok(connection),
    }
}

fn has_log(database: &Database) -> bool {
    database
        .beside("-wal")
        .metadata()
        .is_ok_and(|metadata| metadata.len() > 0)
}

fn percent_encoded(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let encode = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    path.bytes().map(encode).collect()
}

/// Verifies what a connection sees, in one snapshot.
pub(crate) fn run(
    database: &Database,
    connection: &Connection,
    options: &VerifyOptions,
) -> Result<VerifyReport, StoreError> {
    let findings = Findings::new(options.max_findings);
    run_on(database, connection, options, findings)
}

fn run_on(
    database: &Database,
    connection: &Connection,
    options: &VerifyOptions,
    findings: Findings,
) -> Result<VerifyReport, StoreError> {
    let begin = connection.execute_batch("PRAGMA cache_size = -65536; BEGIN");
    let begin = begin.map_err(|error| database.error(error, false));
    let report = begin.and_then(|()| check_all(database, connection, options, findings));
    // Nothing was written, so there is nothing to lose.
    connection.execute_batch("ROLLBACK").ok();
    match report {
        // So damaged that not even the schema can be read.
        Err(StoreError::Corrupt { detail, .. }) => Ok(unreadable(&detail, options, Vec::new())),
        report => report,
    }
}

fn check_all(
    database: &Database,
    connection: &Connection,
    options: &VerifyOptions,
    mut findings: Findings,
) -> Result<VerifyReport, StoreError> {
    let mut checked = Checked::default();
    match numbered::check(database, connection) {
        Ok(newest) if newest == database.migrations.newest() => {}
        Ok(0) => return Err(StoreError::NotADatabase(database.name())),
        Ok(older) => {
            return Err(StoreError::Invalid(format!(
                "the database {} has the older schema {older}: open it once with this version, which brings it up to date",
                database.name()
            )));
        }
        Err(StoreError::Corrupt { detail, .. }) => {
            findings.add(
                Invariant::I12,
                Subject::Database,
                format!("it is damaged: {detail}"),
            );
        }
        Err(error) => return Err(error),
    }
    let section = |what: &str, findings: &mut Findings, result: rusqlite::Result<()>| match result {
        Ok(()) => Ok(()),
        Err(error) if is_content(&error) => {
            let what = format!("{what} cannot be read: {error}");
            findings.add(Invariant::I1, Subject::Database, what);
            Ok(())
        }
        Err(error) => match database.error(error, false) {
            StoreError::Corrupt { detail, .. }
            | StoreError::Unexpected { detail, .. }
            | StoreError::Internal(detail) => {
                let what = format!("{what} could not be read to their end: {detail}");
                findings.add(Invariant::I12, Subject::Database, what);
                Ok(())
            }
            error => Err(error),
        },
    };
    let result = whole::integrity(connection, options.integrity, &mut findings);
    section("its pages", &mut findings, result)?;
    let result = schema::check(connection, database.migrations, &mut findings);
    section("its schema", &mut findings, result)?;
    let result = whole::versions(connection, &mut findings, &mut checked);
    section("workflow versions", &mut findings, result)?;
    let mut workers = queue::Workers::new();
    let result =
        whole::workers(connection, &mut findings, &mut checked).map(|found| workers = found);
    section("workers", &mut findings, result)?;
    let result = walk::walk(connection, &workers, &mut findings, &mut checked);
    section("executions", &mut findings, result)?;
    let result = whole::instances(connection, &mut findings, &mut checked);
    section("instances", &mut findings, result)?;
    let result = whole::signals(connection, &mut findings, &mut checked);
    section("signals", &mut findings, result)?;
    Ok(VerifyReport {
        findings: findings.kept,
        more: findings.more,
        checked,
    })
}
