//! The schema itself: what a file holds besides rows is compared with what the schema's own text makes
//! in memory. A lost index or key lets in what must not be there, a trigger takes away what must.
//!
//! Only what touches Abide's tables is looked at. Tables and views of others may stand in the same file,
//! and indexes of others on Abide's tables, unless they are unique and so refuse rows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use crate::migrations::{Migrations, plain};
use crate::sqlite::schema;

use super::report::{Findings, Invariant, Problem, Subject};

/// What a file declares: by kind and name.
type Declared = BTreeMap<(String, String), Declaration>;

/// A table, an index, a view or a trigger.
#[derive(Clone, PartialEq, Eq)]
struct Declaration {
    /// The table, or the view, that it is of.
    of: String,
    /// Its text.
    sql: String,
}

impl Declaration {
    fn says_the_same(&self, other: &Declaration) -> bool {
        self.of == other.of && (self.sql == other.sql || plain(&self.sql) == plain(&other.sql))
    }
}

/// A column: everything about it that a table's text says of it alone.
#[derive(PartialEq, Eq)]
struct Column {
    name: String,
    words: String,
}

/// Compares the schema with what this version makes.
pub(super) fn check(
    connection: &Connection,
    migrations: &Migrations,
    findings: &mut Findings,
) -> rusqlite::Result<()> {
    let expected = expected(migrations)?;
    let found = declared(connection)?;
    if found == *expected {
        return Ok(());
    }
    for ((kind, name), right) in &*expected {
        match found.get(&(kind.clone(), name.clone())) {
            Some(stored) if stored.says_the_same(right) => {}
            Some(_) if kind == "table" => {
                table_differs(connection, migrations, name, findings)?;
            }
            stored => {
                let what = match stored {
                    Some(stored) => {
                        let stored = plain(&stored.sql);
                        format!("the {kind} {name} is declared as `{stored}`")
                    }
                    None if kind == "index" => {
                        format!("the index {name} of table {} is missing", right.of)
                    }
                    None => format!("the {kind} {name} is missing"),
                };
                let mend = format!("declare it as `{}`", plain(&right.sql));
                add(findings, what, Some(mend).filter(|_| kind != "table"));
            }
        }
    }
    for ((kind, name), stored) in &found {
        let of_ours = ["table", "view"]
            .iter()
            .any(|kind| expected.contains_key(&((*kind).to_owned(), stored.of.clone())));
        if !of_ours || expected.contains_key(&(kind.clone(), name.clone())) {
            continue;
        }
        let what = match kind.as_str() {
            "trigger" => format!(
                "a trigger {name} runs at writes to {}, which has none",
                stored.of
            ),
            "index" if is_unique(&plain(&stored.sql)) => {
                format!("a unique index {name} refuses rows of table {}", stored.of)
            }
            _ => continue,
        };
        add(findings, what, Some(format!("drop the {kind} {name}")));
    }
    Ok(())
}

/// What this version's text makes. Kept with the text's fingerprint.
fn expected(migrations: &Migrations) -> rusqlite::Result<Arc<Declared>> {
    static LAST: Mutex<Option<(String, Arc<Declared>)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let fingerprint = migrations.fingerprint();
    if let Some((of, declared)) = &*last
        && *of == fingerprint
    {
        return Ok(declared.clone());
    }
    let declared = Arc::new(declared(&made(migrations)?)?);
    *last = Some((fingerprint, declared.clone()));
    Ok(declared)
}

fn made(migrations: &Migrations) -> rusqlite::Result<Connection> {
    let memory = Connection::open_in_memory()?;
    schema::make(&memory, migrations, 0).map_err(|(_, error)| error)?;
    Ok(memory)
}

fn declared(connection: &Connection) -> rusqlite::Result<Declared> {
    // What SQLite makes for itself has no text, or a name of SQLite's.
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema \
               WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let declaration = Declaration {
            of: row.get(2)?,
            sql: row.get(3)?,
        };
        Ok(((row.get(0)?, row.get(1)?), declaration))
    })?;
    rows.collect()
}

/// A table of that name is there, with another text.
fn table_differs(
    connection: &Connection,
    migrations: &Migrations,
    table: &str,
    findings: &mut Findings,
) -> rusqlite::Result<()> {
    let memory = made(migrations)?;
    let (found, right) = (columns(connection, table)?, columns(&memory, table)?);
    let (key, right_key) = (key(connection, table)?, key(&memory, table)?);
    if key != right_key {
        let what =
            format!("the table {table} has the primary key ({key}), it should be ({right_key})");
        add(findings, what, None);
    } else if found == right {
        let what = format!("the table {table} has other constraints than this version's");
        add(findings, what, None);
    }
    for column in &right {
        let name = &column.name;
        match found.iter().find(|found| found.name == *name) {
            Some(stored) if stored.words == column.words => {}
            Some(stored) => {
                let (stored, right) = (&stored.words, &column.words);
                let what =
                    format!("the column {table}.{name} is `{stored}`, it should be `{right}`");
                add(findings, what, None);
            }
            None => add(
                findings,
                format!("the table {table} has no column {name}"),
                None,
            ),
        }
    }
    for Column { name, .. } in &found {
        if right.iter().all(|column| column.name != *name) {
            add(
                findings,
                format!("the table {table} has a column {name} that is not Abide's"),
                None,
            );
        }
    }
    Ok(())
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Column>> {
    let mut statement = connection.prepare(
        "SELECT name, type, \"notnull\", dflt_value, hidden FROM pragma_table_xinfo(?1)",
    )?;
    let rows = statement.query_map([table], |row| {
        let mut words: String = row.get(1)?;
        if row.get(2)? {
            words.push_str(" NOT NULL");
        }
        if let Some(default) = row.get::<_, Option<String>>(3)? {
            words = format!("{words} DEFAULT {default}");
        }
        if row.get::<_, i64>(4)? != 0 {
            words.push_str(", generated");
        }
        Ok(Column {
            name: row.get(0)?,
            words,
        })
    })?;
    rows.collect()
}

/// The columns of the primary key, in order.
fn key(connection: &Connection, table: &str) -> rusqlite::Result<String> {
    let mut statement =
        connection.prepare("SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk")?;
    let names = statement.query_map([table], |row| row.get::<_, String>(0))?;
    Ok(names.collect::<rusqlite::Result<Vec<_>>>()?.join(", "))
}

fn is_unique(sql: &str) -> bool {
    let mut words = sql.split(' ');
    words
        .nth(1)
        .is_some_and(|word| word.eq_ignore_ascii_case("unique"))
}

fn add(findings: &mut Findings, what: String, mend: Option<String>) {
    let problem = Problem {
        invariant: Invariant::I12,
        what: format!("its schema is not this version's: {what}"),
        mend,
    };
    findings.push(Subject::Database, problem);
}
