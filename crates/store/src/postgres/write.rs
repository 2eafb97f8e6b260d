//! Writes what a flush came to: for each statement of the declared ones its rows as arrays, one for
//! each column. Decides nothing and runs nothing: whoever holds the executions' locks does.

use std::convert::Infallible;

use crate::columns::names;
use crate::net::Net;
use crate::writes::{self, Does, Write, Writer, on, set};

use super::arrays::{Arrays, given, parameters};
use super::statement::Statement;

/// Rows that one statement writes at most: bounds the memory that a statement takes on both sides.
const ROWS_AT_ONCE: usize = 4096;

/// The statements that write everything, in order. Nothing to write makes no statement.
pub(crate) fn statements<'r>(net: &'r Net<'_>) -> Vec<Statement<'r>> {
    let mut statements = Statements(Vec::new());
    let Ok(()) = writes::write(net, &mut statements);
    statements.0
}

struct Statements<'r>(Vec<Statement<'r>>);

impl<'r> Writer<'r> for Statements<'r> {
    type Error = Infallible;

    fn rows<W: Write>(&mut self, rows: &'r [W::Row<'_>]) -> Result<(), Infallible> {
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let mut arrays = Arrays::of(&W::heads(), rows.len());
            for row in rows {
                W::put(row, arrays.next_row())?;
            }
            let sql = W::text().postgres.get_or_init(text::<W>);
            self.0.push(Statement::new(sql, arrays.params));
        }
        Ok(())
    }
}

fn text<W: Write>() -> String {
    let table = W::TABLE;
    match W::DOES {
        Does::Insert => insert::<W>(),
        Does::Add => format!("{} ON CONFLICT DO NOTHING", insert::<W>()),
        Does::Update(_) => {
            let (set, given, on) = (set::<W>(), given(&W::heads(), false), on::<W>());
            format!("UPDATE ~{table} t SET {set} FROM {given} WHERE {on}")
        }
        Does::Delete => {
            let (given, on) = (given(&W::heads(), false), on::<W>());
            format!("DELETE FROM ~{table} t USING {given} WHERE {on}")
        }
        Does::Unqueue => unqueue::<W>(),
    }
}

/// Inserts the rows in the order of the arrays. They are taken apart side by side: in `FROM` the server
/// would store what comes of each array before it reads the first row.
fn insert<W: Write>() -> String {
    let heads = W::heads();
    let (table, names) = (W::TABLE, names(&heads));
    let values = parameters(&heads);
    let values: Vec<String> = values
        .iter()
        .map(|array| format!("unnest({array})"))
        .collect();
    format!(
        "INSERT INTO ~{table} ({names}) SELECT {}",
        values.join(", ")
    )
}

/// Removes rows, all of whose columns are the key, but for those that somebody else has picked:
/// whoever claims or fires locks these rows first and the execution then, so waiting here for such a
/// row while holding the execution would be a deadlock. And it would be for nothing: they will look
/// at the execution as this transaction leaves it, and remove the row themselves. Rows that this
/// very transaction picked are not skipped.
///
/// Each row is looked for by itself. A join would be planned from the table's side as soon as the
/// server has seen these tables empty, which queues often are, and then read all that is dead in them.
fn unqueue<W: Write>() -> String {
    let (table, given, on) = (W::TABLE, given(&W::heads(), false), on::<W>());
    format!(
        "DELETE FROM ~{table} WHERE ctid = ANY (ARRAY(SELECT r.ctid FROM {given} CROSS JOIN LATERAL \
         (SELECT t.ctid FROM ~{table} t WHERE {on} LIMIT 1 FOR UPDATE SKIP LOCKED) r))"
    )
}
