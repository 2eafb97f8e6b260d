//! The schema of a file, and its migrations: all missing steps in one transaction. What is derived from core's
//! tables of names is made anew with them.

use rusqlite::{Connection, ErrorCode};

use crate::derived::{Dialect, REMOVE, derived};
use crate::error::StoreError;
use crate::migrations::{Migrations, failed};

use super::connection::Database;

/// Marks the file as Abide's: "abid".
const APPLICATION_ID: i64 = 0x6162_6964;

/// Where the file holds the fingerprint of its schema: in the text of a view, which is read together with
/// the file's other marks, and whose name no table of a user's is likely to have.
const MARK: &str = "abide_schema";

/// Every version that this program knows.
pub(crate) static MIGRATIONS: Migrations = Migrations {
    steps: &[include_str!("schema.sql")],
    published: &[],
    dialect: Dialect::Sqlite,
};

/// Brings an open database to the newest schema, or says why it is not one of ours.
pub(crate) fn migrate(database: &Database, connection: &Connection) -> Result<(), StoreError> {
    if check(database, connection)? == database.migrations.newest() {
        return Ok(());
    }
    // Others read meanwhile, and see the version from before. Those who write wait, as this did for them.
    database.begin(connection)?;
    let migrated = migrate_begun(database, connection);
    if migrated.is_err() && !connection.is_autocommit() {
        // What was not committed is gone with the connection at the latest.
        connection.execute_batch("ROLLBACK").ok();
    }
    migrated
}

fn migrate_begun(database: &Database, connection: &Connection) -> Result<(), StoreError> {
    // Another process may have migrated while this one waited for the lock.
    let found = check(database, connection)?;
    let fail = |error| database.error(error, false);
    let newest = database.migrations.newest();
    if found < newest {
        make(connection, database.migrations, found)
            .map_err(|(version, error)| failed(&database.name(), version, fail(error)))?;
        connection
            .pragma_update(None, "application_id", APPLICATION_ID)
            .map_err(fail)?;
        connection
            .pragma_update(None, "user_version", newest)
            .map_err(fail)?;
    }
    connection.execute_batch("COMMIT").map_err(fail)
}

/// Makes everything that the newest schema has and the one of that number hasn't. An error comes with the number of
/// the version that could not be made.
pub(crate) fn make(
    connection: &Connection,
    migrations: &Migrations,
    found: i64,
) -> Result<(), (i64, rusqlite::Error)> {
    let run = |version: i64, sql: &str| {
        let done = connection.execute_batch(sql);
        done.map_err(|error| (version, error))
    };
    if found > 0 {
        run(found + 1, &REMOVE.replace('~', ""))?;
        run(found + 1, &format!("DROP VIEW {MARK}"))?;
    }
    for (version, step) in migrations.after(found) {
        run(version, step)?;
    }
    let (newest, fingerprint) = (migrations.newest(), migrations.fingerprint());
    run(newest, &derived(Dialect::Sqlite).replace('~', ""))?;
    let mark = format!("CREATE VIEW {MARK} AS SELECT '{fingerprint}' AS fingerprint");
    run(newest, &mark)
}

/// The schema number of the open database: 0 if it is empty. Refuses other programs' databases,
/// newer ones, and those of builds that were never published.
pub(crate) fn check(database: &Database, connection: &Connection) -> Result<i64, StoreError> {
    // One statement, so that they are of one moment: another process may make the schema just now.
    let read = || {
        let sql = format!(
            "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema), \
             (SELECT sql FROM sqlite_schema WHERE type = 'view' AND name = '{MARK}') \
             FROM pragma_application_id, pragma_user_version"
        );
        connection.query_row(&sql, [], |row| {
            let (application, found): (i64, i64) = (row.get(0)?, row.get(1)?);
            let mark: Option<String> = row.get(3)?;
            Ok((application, found, row.get::<_, i64>(2)?, mark))
        })
    };
    let (application, found, objects, mark) =
        read().map_err(|error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => StoreError::NotADatabase(database.name()),
            _ => database.error(error, false),
        })?;
    let known = database.migrations.newest();
    match (application, found) {
        (0, 0) if objects == 0 => Ok(0),
        (APPLICATION_ID, found) if found > known => Err(StoreError::TooNew {
            path: database.name(),
            found,
            known,
        }),
        (APPLICATION_ID, found) if found >= 1 => {
            let fingerprint = mark.as_deref().and_then(|view| view.split('\'').nth(1));
            match database.migrations.made(found, fingerprint) {
                true => Ok(found),
                false => Err(StoreError::Unpublished {
                    path: database.name(),
                    found,
                }),
            }
        }
        _ => Err(StoreError::NotADatabase(database.name())),
    }
}
