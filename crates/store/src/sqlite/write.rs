//! Writes what a flush came to, on the write connection inside its transaction: a statement for each
//! row, prepared once. Long payloads are kept apart, and go when what refers to them does.

use abide_core::ids::TaskKey;
use abide_core::kernel::Supersede;
use rusqlite::{CachedStatement, Connection, ToSql, params};

use crate::columns::{Cell, Column, Head, Kind, names};
use crate::net::Net;
use crate::writes::{self, Does, Sink, Write, Writer, on, set};

/// A payload longer than this is kept apart, so that its row stays small.
const INLINE_BYTES: usize = 1024;
/// Rows that one statement inserts: binding is most of the cost, starting a statement the rest.
const ROWS_AT_ONCE: usize = 16;

type Written<T = ()> = rusqlite::Result<T>;

/// Writes everything.
pub(crate) fn write(connection: &Connection, net: &Net<'_>) -> Written {
    forget_payloads(connection, net)?;
    writes::write(net, &mut Rows(connection))
}

/// The text for a payload column: the payload, or where it is kept.
pub(crate) fn store_text(connection: &Connection, text: &str) -> Written<String> {
    Ok(store_apart(connection, text)?.unwrap_or_else(|| text.to_owned()))
}

/// Keeps a long text apart, and says where.
fn store_apart(connection: &Connection, text: &str) -> Written<Option<String>> {
    if text.len() <= INLINE_BYTES {
        return Ok(None);
    }
    connection
        .prepare_cached("INSERT INTO payloads (body) VALUES (?1)")?
        .execute([text])?;
    Ok(Some(format!("@{}", connection.last_insert_rowid())))
}

struct Rows<'c>(&'c Connection);

impl<'r> Writer<'r> for Rows<'_> {
    type Error = rusqlite::Error;

    fn rows<W: Write>(&mut self, rows: &'r [W::Row<'_>]) -> Written {
        let (many, rest) = match W::DOES {
            Does::Insert => rows.as_chunks::<ROWS_AT_ONCE>(),
            _ => (&[][..], rows),
        };
        if !many.is_empty() {
            let sql = W::text().sqlite_many.get_or_init(insert::<W, ROWS_AT_ONCE>);
            self.each::<W, _>(sql, many)?;
        }
        if !rest.is_empty() {
            let sql = W::text().sqlite.get_or_init(text::<W>);
            self.each::<W, _>(sql, rest.as_chunks::<1>().0)?;
        }
        Ok(())
    }
}

impl Rows<'_> {
    /// Runs a statement that takes so many rows at once.
    fn each<W: Write, const N: usize>(&self, sql: &str, chunks: &[[W::Row<'_>; N]]) -> Written {
        let mut statement = self.0.prepare_cached(sql)?;
        for rows in chunks {
            let mut binder = Binder::new(self.0, &mut statement);
            for row in rows {
                W::put(row, &mut binder)?;
            }
            binder.statement.raw_execute()?;
        }
        Ok(())
    }
}

/// Binds values from left to right.
pub(super) struct Binder<'s, 'c> {
    connection: &'c Connection,
    statement: &'s mut CachedStatement<'c>,
    next: usize,
}

impl<'s, 'c> Binder<'s, 'c> {
    pub(super) fn new(connection: &'c Connection, statement: &'s mut CachedStatement<'c>) -> Self {
        Binder {
            connection,
            statement,
            next: 1,
        }
    }

    fn bind(&mut self, value: impl ToSql) -> Written {
        self.statement.raw_bind_parameter(self.next, value)?;
        self.next += 1;
        Ok(())
    }
}

impl<'r> Sink<'r> for Binder<'_, '_> {
    type Error = rusqlite::Error;

    fn add<T>(
        &mut self,
        takes: impl Fn(&Head) -> bool,
        columns: &[Column<T>],
        row: &'r T,
    ) -> Written {
        for column in columns.iter().filter(|column| takes(&column.head)) {
            match (column.cell)(row) {
                Cell::Int(number) => self.bind(number)?,
                Cell::Text(Some(text)) if column.head.kind == Kind::Payload => {
                    match store_apart(self.connection, &text)? {
                        Some(place) => self.bind(place)?,
                        None => self.bind(&*text)?,
                    }
                }
                Cell::Text(text) => self.bind(text.as_deref())?,
            }
        }
        Ok(())
    }
}

/// The text of a statement over one row.
fn text<W: Write>() -> String {
    let table = W::TABLE;
    let sql = match W::DOES {
        Does::Insert => return insert::<W, 1>(),
        Does::Add => return format!("{} ON CONFLICT DO NOTHING", insert::<W, 1>()),
        Does::Update(_) => format!("UPDATE {table} AS t SET {} WHERE {}", set::<W>(), on::<W>()),
        Does::Delete | Does::Unqueue => format!("DELETE FROM {table} AS t WHERE {}", on::<W>()),
    };
    numbered(&sql, &W::heads())
}

/// The values of the row that is given, `u.name`, as numbered parameters.
pub(super) fn numbered(sql: &str, heads: &[Head]) -> String {
    let mut pieces = sql.split("u.");
    let mut numbered = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
        let (name, rest) = piece.split_at(end.unwrap_or(piece.len()));
        let at = heads.iter().position(|head| head.name == name);
        let at = at.expect("a statement speaks of what it is given");
        numbered.push_str(&format!("?{}{rest}", at + 1));
    }
    numbered
}

fn insert<W: Write, const ROWS: usize>() -> String {
    let heads = W::heads();
    let row = format!("({})", vec!["?"; heads.len()].join(", "));
    let (table, names) = (W::TABLE, names(&heads));
    format!(
        "INSERT INTO {table} ({names}) VALUES {}",
        vec![row; ROWS].join(", ")
    )
}

/// Deletes what is kept apart of values that this flush replaces or removes.
fn forget_payloads(connection: &Connection, net: &Net<'_>) -> Written {
    let moved = net.moved_and_ended.iter().map(|(row, end)| (row.key, end));
    let ended = net.ended.iter().map(|(key, end)| (*key, end));
    // The error of the attempt before gives way to this one.
    for (TaskKey { execution, number }, _) in
        moved.chain(ended).filter(|(_, end)| end.error.is_some())
    {
        connection
            .prepare_cached(
                "DELETE FROM payloads WHERE id = (SELECT CAST(substr(error, 2) AS INTEGER) FROM task_executions \
                 WHERE execution = ?1 AND number = ?2 AND error LIKE '@%')",
            )?
            .execute(params![execution.0, number])?;
    }
    for (key, Supersede { failed, from }) in &net.steps.superseded {
        connection
            .prepare_cached(
                "DELETE FROM payloads WHERE id IN (SELECT CAST(substr(result, 2) AS INTEGER) FROM steps \
                 WHERE execution = ?1 AND task = ?2 AND (number = ?3 OR number >= ?4) AND result LIKE '@%')",
            )?
            .execute(params![key.execution.0, key.number, failed, from])?;
    }
    for (key, number, _) in &net.steps.rewritten {
        connection
            .prepare_cached(
                "DELETE FROM payloads WHERE id = (SELECT CAST(substr(result, 2) AS INTEGER) FROM steps \
                 WHERE execution = ?1 AND task = ?2 AND number = ?3 AND result LIKE '@%')",
            )?
            .execute(params![key.execution.0, key.number, number])?;
    }
    Ok(())
}
