//! Reads rows that SQLite answered. A row that does not parse names itself and what is wrong with it.

use std::borrow::Cow;

use abide_core::payload::Payload;
use rusqlite::types::{ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, OptionalExtension, Params, Row, Rows, params_from_iter};

use crate::error::StoreError;
use crate::queries::{Operand, Query};
use crate::rows::{Columns, FromColumns};

use super::connection::Database;

/// Reads a row from left to right; long payloads are kept apart.
pub(crate) struct Cells<'a, 'r> {
    connection: &'a Connection,
    row: &'a Row<'r>,
    next: usize,
}

impl<'a, 'r> Cells<'a, 'r> {
    pub(crate) fn new(connection: &'a Connection, row: &'a Row<'r>) -> Self {
        Cells {
            connection,
            row,
            next: 0,
        }
    }

    fn next(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }
}

impl Columns for Cells<'_, '_> {
    type Error = rusqlite::Error;

    fn number(&mut self) -> rusqlite::Result<Option<i64>> {
        let at = self.next();
        self.row.get(at)
    }

    fn truth(&mut self) -> rusqlite::Result<bool> {
        let at = self.next();
        self.row.get(at)
    }

    fn read<R>(&mut self, read: impl FnOnce(&str) -> R) -> rusqlite::Result<Option<R>> {
        let at = self.next();
        match self.row.get_ref(at)? {
            ValueRef::Null => Ok(None),
            value => Ok(Some(read(value.as_str()?))),
        }
    }

    fn payload(&mut self) -> rusqlite::Result<Option<Payload>> {
        let at = self.next();
        payload(self.connection, self.row.get(at)?)
    }

    fn content(error: rusqlite::Error) -> rusqlite::Result<String> {
        match is_content(&error) {
            true => Ok(content_error(&error)),
            false => Err(error),
        }
    }

    fn mismatch(&self, detail: String) -> rusqlite::Error {
        mismatch(self.next.saturating_sub(1), detail)
    }
}

/// Every row of a statement, which is kept prepared.
pub(crate) fn rows<R: FromColumns>(
    connection: &Connection,
    sql: &str,
    values: impl Params,
) -> rusqlite::Result<Vec<R>> {
    let mut statement = connection.prepare_cached(sql)?;
    all_of(connection, statement.query(values)?)
}

/// Every row of an answer. Most have one, and space for four of the longer rows is more than the allocator hands out
/// quickly.
pub(crate) fn all_of<R: FromColumns>(
    connection: &Connection,
    mut rows: Rows<'_>,
) -> rusqlite::Result<Vec<R>> {
    let mut found = Vec::with_capacity(1);
    while let Some(row) = rows.next()? {
        found.push(R::from_columns(&mut Cells::new(connection, row))?);
    }
    Ok(found)
}

/// A value that cannot be what its column says.
pub(crate) fn mismatch(column: usize, detail: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, detail.into())
}

/// Whether an error is about a row's content rather than about the database.
pub(crate) fn is_content(error: &rusqlite::Error) -> bool {
    use rusqlite::Error as E;
    matches!(
        error,
        E::FromSqlConversionFailure(..)
            | E::IntegralValueOutOfRange(..)
            | E::InvalidColumnType(..)
            | E::Utf8Error(..)
    )
}

/// What is wrong with a row, without the words that SQLite's driver puts before it.
fn content_error(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::FromSqlConversionFailure(_, _, detail) => detail.to_string(),
        error => error.to_string(),
    }
}

impl Database {
    /// The store's error for one met while reading `what`.
    pub(crate) fn read_error(
        &self,
        error: rusqlite::Error,
        what: impl std::fmt::Display,
    ) -> StoreError {
        match is_content(&error) {
            true => StoreError::Undecodable {
                what: what.to_string(),
                detail: content_error(&error),
            },
            false => self.error(error, false),
        }
    }
}

/// The payload that a column holds or refers to.
pub(crate) fn payload(
    connection: &Connection,
    stored: Option<String>,
) -> rusqlite::Result<Option<Payload>> {
    let Some(text) = stored else { return Ok(None) };
    let Some(id) = text.strip_prefix('@') else {
        return Ok(Some(Payload::from_json(text)));
    };
    let id: i64 = id
        .parse()
        .map_err(|_| mismatch(0, format!("`{text}` refers to no payload")))?;
    let body: Option<String> = connection
        .prepare_cached("SELECT body FROM payloads WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    body.map(|body| Some(Payload::from_json(body)))
        .ok_or_else(|| mismatch(0, format!("payload {id} is gone")))
}

/// Every row of a query.
pub(super) fn all<R: FromColumns>(
    connection: &Connection,
    query: &Query<'_, R>,
) -> rusqlite::Result<Vec<R>> {
    let value = |operand| match operand {
        Operand::Number(number) => ToSqlOutput::from(number),
        Operand::Text(text) => ToSqlOutput::from(text),
    };
    let values = params_from_iter(query.operands.iter().copied().map(value));
    match query.sqlite() {
        Cow::Borrowed(sql) => rows(connection, sql, values),
        Cow::Owned(sql) => {
            let read = |row: &Row<'_>| R::from_columns(&mut Cells::new(connection, row));
            connection.prepare(&sql)?.query_map(values, read)?.collect()
        }
    }
}
