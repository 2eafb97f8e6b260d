//! The schema and its migrations: one numbering, forward only. Views are derived from core's
//! tables of names, so they are made again whenever the schema is opened for writing and differs.

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use crate::derived::{Dialect, derived};
use crate::error::StoreError;

use super::connection::Database;

/// Marks the file as Abide's: "abid".
const APPLICATION_ID: i64 = 0x6162_6964;

/// Every migration, in order; the n-th leads to schema n.
const MIGRATIONS: &[&str] = &[include_str!("schema.sql")];

/// The newest schema this program knows.
pub(crate) const SCHEMA: i64 = MIGRATIONS.len() as i64;

/// Brings an open database to the newest schema, or says why it is not one of ours.
pub(crate) fn migrate(database: &Database, connection: &mut Connection) -> Result<(), StoreError> {
    let found = check(database, connection)?;
    if found == SCHEMA {
        return Ok(());
    }
    let fail = |error| database.error(error, false);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(fail)?;
    // Somebody else may have migrated while this process waited for the lock.
    let found: i64 = transaction
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(fail)?;
    for migration in MIGRATIONS
        .iter()
        .skip(usize::try_from(found).unwrap_or(usize::MAX))
    {
        transaction.execute_batch(migration).map_err(fail)?;
    }
    transaction
        .execute_batch(&derived(Dialect::Sqlite).replace('~', ""))
        .map_err(fail)?;
    transaction
        .pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(fail)?;
    transaction
        .pragma_update(None, "user_version", SCHEMA)
        .map_err(fail)?;
    transaction.commit().map_err(fail)
}

/// The schema number of the open database: 0 if it is empty. Refuses other programs' databases
/// and newer ones.
pub(crate) fn check(database: &Database, connection: &Connection) -> Result<i64, StoreError> {
    // One statement, so that they are of one moment: another process may make the schema just now.
    let read = || {
        let sql = "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) \
                   FROM pragma_application_id, pragma_user_version";
        connection.query_row(sql, [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get::<_, i64>(2)?))
        })
    };
    let (application, found, objects) =
        read().map_err(|error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => StoreError::NotADatabase(database.name()),
            _ => database.error(error, false),
        })?;
    match (application, found) {
        (0, 0) if objects == 0 => Ok(0),
        (APPLICATION_ID, found) if found > SCHEMA => Err(StoreError::TooNew {
            path: database.name(),
            found,
            known: SCHEMA,
        }),
        (APPLICATION_ID, found) if found >= 1 => Ok(found),
        _ => Err(StoreError::NotADatabase(database.name())),
    }
}
