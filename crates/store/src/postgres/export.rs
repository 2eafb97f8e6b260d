//! A copy of the store, as of one moment, in a temporary SQLite file: the verifier reads that. Its
//! checks are the same for both backends because they run over the same tables, and a long check
//! keeps no transaction open on the server.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, params_from_iter};

use crate::error::StoreError;
use crate::sqlite;
use crate::sqlite::connection::Database;
use crate::verify::{self, VerifyOptions, VerifyReport};

use super::catalog;
use super::connect::Session;
use super::name::SchemaName;
use super::statement::{Execute, Row, Statement, Value};
use super::{Postgres, connect};

/// Rows fetched at once.
const AT_ONCE: usize = 10_000;

impl Postgres {
    /// Verifies a copy of the store as of one moment. On a thread of its own: it may take long.
    pub(crate) async fn verify(&self, options: VerifyOptions) -> Result<VerifyReport, StoreError> {
        let address = self.shared.address.clone();
        let name = self.name();
        let work = move || {
            let directory = tempfile::tempdir().map_err(|error| no_copy(&error))?;
            let path = directory.path().join("copy.db");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| no_copy(&error))?;
            let mut damage = Vec::new();
            let copied = runtime.block_on(async {
                let session = connect(&address).await?;
                export(&session, &address.schema, &path, &mut damage).await
            });
            match copied {
                Ok(()) => verify::run_copy(&path, &name, &options, damage),
                // A page that the server cannot read, a table that is gone.
                Err(StoreError::Corrupt { detail, .. }) => {
                    Ok(verify::unreadable(&detail, &options, damage))
                }
                Err(error) => Err(error),
            }
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(StoreError::Internal(error.to_string())))
    }
}

fn no_copy(error: &std::io::Error) -> StoreError {
    StoreError::Internal(format!("no room for a copy of the store: {error}"))
}

/// Copies every table. Adds to the damage how the schema differs from this version's, and in which
/// tables rows break rules that the table should hold them to: an index there is damaged.
pub(crate) async fn export(
    session: &Session,
    schema: &SchemaName,
    path: &Path,
    damage: &mut Vec<String>,
) -> Result<(), StoreError> {
    let database = Database::new(path.to_owned(), std::time::Duration::ZERO);
    let fail = |error: rusqlite::Error| database.error(error, false);
    let file = Connection::open(path).map_err(fail)?;
    // Nobody needs it after a crash.
    file.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
        .map_err(fail)?;
    sqlite::schema::migrate(&database, &file)?;
    file.execute_batch("BEGIN").map_err(fail)?;
    let begin = Statement::new(
        "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
        Vec::new(),
    );
    session.run(vec![begin]).await?;
    damage.extend(catalog::differences(session, schema).await?);
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
    file.execute_batch("COMMIT").map_err(fail)
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
    let declare = format!(
        "DECLARE export NO SCROLL CURSOR FOR SELECT {} FROM ~{name}",
        columns.join(", ")
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

fn value(value: Value) -> rusqlite::types::Value {
    match value {
        Value::Null => rusqlite::types::Value::Null,
        Value::Int(value) => value.into(),
        Value::Bool(value) => i64::from(value).into(),
        Value::Text(value) => value.into(),
    }
}
