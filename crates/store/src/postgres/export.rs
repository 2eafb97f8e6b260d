//! A copy of the store, as of one moment, in a temporary SQLite file: the verifier reads that. Its
//! checks are the same for both backends because they run over the same tables, and a long check
//! keeps no transaction open on the server.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, params_from_iter};

use crate::error::StoreError;
use crate::sqlite::connection::Database;
use crate::sqlite::schema;

use super::connect::Session;
use super::statement::{Execute, Row, Statement, Value};

/// Rows fetched at once.
const AT_ONCE: usize = 10_000;

/// Copies every table. Answers in which of them rows break rules that the table should hold them to: an
/// index there is damaged.
pub(crate) async fn export(session: &Session, path: &Path) -> Result<Vec<String>, StoreError> {
    let database = Database::new(path.to_owned(), std::time::Duration::ZERO);
    let fail = |error: rusqlite::Error| database.error(error, false);
    let mut file = Connection::open(path).map_err(fail)?;
    // Nobody needs it after a crash.
    file.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
        .map_err(fail)?;
    schema::migrate(&database, &mut file)?;
    file.execute_batch("BEGIN").map_err(fail)?;
    let begin = Statement::new(
        "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
        Vec::new(),
    );
    session.run(vec![begin]).await?;
    let mut damage = Vec::new();
    for table in tables(&file).map_err(fail)? {
        let refused = copy(session, &file, &table)
            .await
            .map_err(|error| match error {
                Failed::File(error) => database.error(error, false),
                Failed::Server(error) => error,
            })?;
        damage.extend(refused.in_words(&table));
    }
    session
        .run(vec![Statement::new("COMMIT", Vec::new())])
        .await?;
    file.execute_batch("COMMIT").map_err(fail)?;
    Ok(damage)
}

/// A table and its columns. Payloads are part of their rows here, so there are none apart.
struct Table {
    name: String,
    columns: Vec<String>,
}

enum Failed {
    File(rusqlite::Error),
    Server(StoreError),
}

/// The rows of a table that the copy has no place for.
#[derive(Default)]
struct Refused {
    rows: u64,
    /// Why it has none for the first of them.
    first: String,
}

impl Refused {
    fn in_words(self, table: &Table) -> Option<String> {
        let Refused { rows, first } = self;
        let name = &table.name;
        (rows > 0).then(|| {
            format!("{rows} rows of {name} break its constraints, as a damaged index lets them ({first})")
        })
    }
}

fn tables(file: &Connection) -> rusqlite::Result<Vec<Table>> {
    let mut names = file.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'payloads'",
    )?;
    let names = names.query_map([], |row| row.get::<_, String>(0))?;
    names
        .map(|name| {
            let name = name?;
            let mut columns = file.prepare("SELECT name FROM pragma_table_info(?1)")?;
            let columns = columns.query_map([&name], |row| row.get(0))?;
            let columns = columns.collect::<rusqlite::Result<_>>()?;
            Ok(Table { name, columns })
        })
        .collect()
}

async fn copy(session: &Session, file: &Connection, table: &Table) -> Result<Refused, Failed> {
    let mut refused = Refused::default();
    let Table { name, columns } = table;
    let theirs: Vec<&str> = columns.iter().map(|column| theirs(name, column)).collect();
    let declare = format!(
        "DECLARE export NO SCROLL CURSOR FOR SELECT {} FROM ~{name}",
        theirs.join(", ")
    );
    let insert = format!(
        "INSERT INTO {name} ({}) VALUES ({})",
        columns.join(", "),
        vec!["?"; columns.len()].join(", ")
    );
    let run = async |sql: String| {
        let statement = Statement {
            sql: sql.into(),
            params: Vec::new(),
        };
        let answers = session.run(vec![statement]).await;
        answers
            .map(|answers| answers.into_iter().flatten().collect::<Vec<Row>>())
            .map_err(Failed::Server)
    };
    run(declare).await?;
    loop {
        let rows = run(format!("FETCH {AT_ONCE} FROM export")).await?;
        let is_last = rows.len() < AT_ONCE;
        let mut insert = file.prepare_cached(&insert).map_err(Failed::File)?;
        for row in rows {
            match insert.execute(params_from_iter(row.into_iter().map(value))) {
                Ok(_) => {}
                Err(error) if is_refusal(&error) => {
                    refused.rows += 1;
                    if refused.rows == 1 {
                        refused.first = error.to_string();
                    }
                }
                Err(error) => return Err(Failed::File(error)),
            }
        }
        if is_last {
            break;
        }
    }
    run("CLOSE export".to_owned()).await?;
    Ok(refused)
}

/// Whether a row breaks a constraint.
fn is_refusal(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}

/// The column as it is called there: the outbox's whole key ascends.
fn theirs<'a>(table: &str, column: &'a str) -> &'a str {
    match (table, column) {
        ("task_outbox", "priority") => "-rank",
        (_, column) => column,
    }
}

fn value(value: Value) -> rusqlite::types::Value {
    match value {
        Value::Null => rusqlite::types::Value::Null,
        Value::Int(value) => value.into(),
        Value::Bool(value) => i64::from(value).into(),
        Value::Text(value) => value.into(),
    }
}
