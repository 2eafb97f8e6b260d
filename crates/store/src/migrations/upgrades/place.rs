//! Where the tests' stores are, and the second versions that the tests make up.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use abide_core::ids::Timestamp;
use abide_test_postgres::{Schema, client, fresh_schema};
use rusqlite::Connection;
use rusqlite::types::Value;

use crate::derived::Dialect;
use crate::error::StoreError;
use crate::migrations::Migrations;
use crate::store::Store;
use crate::{StoreOptions, postgres, sqlite};

/// A place for a store, which goes away with the test.
pub(super) enum Place {
    File(tempfile::TempDir),
    Schema(Schema),
}

impl Place {
    pub(super) fn new(dialect: Dialect) -> Place {
        match dialect {
            Dialect::Sqlite => Place::File(tempfile::tempdir().expect("a temporary directory")),
            Dialect::Postgres => Place::Schema(fresh_schema()),
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Place::File(_) => Dialect::Sqlite,
            Place::Schema(_) => Dialect::Postgres,
        }
    }

    pub(super) fn url(&self) -> String {
        match self {
            Place::File(_) => self.path().to_str().expect("utf-8").to_owned(),
            Place::Schema(schema) => schema.url.clone(),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        match self {
            Place::File(directory) => directory.path().join("store.db"),
            Place::Schema(_) => panic!("not a file"),
        }
    }

    /// Opens the store as a process that knows these versions does.
    pub(super) async fn open(
        &self,
        clock: &Arc<AtomicI64>,
        migrations: &'static Migrations,
    ) -> Result<Store, StoreError> {
        open(&self.url(), clock, migrations).await
    }

    /// Everything that is declared, and every row.
    pub(super) async fn everything(&self) -> Vec<String> {
        match self {
            Place::File(_) => all_of_file(&Connection::open(self.path()).expect("opens")),
            Place::Schema(schema) => all_of_schema(schema).await,
        }
    }
}

/// Opens a store whose clock is the test's.
pub(super) async fn open(
    url: &str,
    clock: &Arc<AtomicI64>,
    migrations: &'static Migrations,
) -> Result<Store, StoreError> {
    let clock = clock.clone();
    let options = StoreOptions {
        now: Some(Arc::new(move || Timestamp(clock.load(Ordering::SeqCst)))),
        ..StoreOptions::default()
    };
    Store::open_with(url, options, Some(migrations)).await
}

fn all_of_file(connection: &Connection) -> Vec<String> {
    let rows = |sql: &str| {
        let mut statement = connection.prepare(sql).expect("sound");
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            let values = (0..columns).map(|at| row.get::<_, Value>(at));
            values.collect::<rusqlite::Result<Vec<_>>>()
        });
        let rows = rows.expect("reads").map(|row| row.expect("reads"));
        rows.map(|row| format!("{row:?}")).collect::<Vec<String>>()
    };
    let mut all = rows(
        "SELECT user_version, type, tbl_name, sql FROM sqlite_schema, pragma_user_version ORDER BY name",
    );
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
    let mut names = connection.prepare(names).expect("sound");
    let names = names.query_map([], |row| row.get::<_, String>(0));
    for name in names.expect("reads") {
        let name = name.expect("a name");
        let of_table = rows(&format!("SELECT * FROM {name} ORDER BY 1, 2"));
        all.extend(of_table.into_iter().map(|row| format!("{name}: {row}")));
    }
    all
}

async fn all_of_schema(schema: &Schema) -> Vec<String> {
    let client = client(&schema.url).await;
    let texts = async |sql: &str| {
        let rows = client.query(sql, &[]).await.expect("reads");
        let texts = rows.iter().map(|row| row.get::<_, String>(0));
        texts.collect::<Vec<_>>()
    };
    let name = format!("'{}'", schema.name);
    let mut all = texts(&format!(
        "SELECT concat_ws(' ', c.relname, a.attname, a.attnum, a.atttypid) FROM pg_class c \
         JOIN pg_namespace s ON s.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid \
         WHERE s.nspname = {name} ORDER BY 1"
    ))
    .await;
    all.extend(
        texts(&format!(
            "SELECT indexdef FROM pg_indexes WHERE schemaname = {name} ORDER BY 1"
        ))
        .await,
    );
    let tables = texts(&format!(
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace \
         WHERE s.nspname = {name} AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1"
    ))
    .await;
    for table in tables {
        let quoted = format!("{}.\"{table}\"", schema.quoted());
        let rows = texts(&format!(
            "SELECT to_jsonb(t)::text FROM {quoted} t ORDER BY 1"
        ))
        .await;
        all.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
    }
    all
}

// ---- versions ----

/// The versions that this program knows.
pub(super) fn first(dialect: Dialect) -> &'static Migrations {
    match dialect {
        Dialect::Sqlite => &sqlite::schema::MIGRATIONS,
        Dialect::Postgres => &postgres::MIGRATIONS,
    }
}

/// What the made-up next version does.
pub(super) fn statements(dialect: Dialect) -> Vec<String> {
    let integer = match dialect {
        Dialect::Sqlite => "INTEGER",
        Dialect::Postgres => "bigint",
    };
    let table = |sql: &str| match dialect {
        Dialect::Sqlite => sql.replace('~', ""),
        Dialect::Postgres => sql.to_owned(),
    };
    vec![
        table("ALTER TABLE ~task_executions ADD COLUMN note TEXT NOT NULL DEFAULT 'none'"),
        table(&format!(
            "CREATE TABLE ~notes (id {integer} PRIMARY KEY, text TEXT NOT NULL)"
        )),
        table("INSERT INTO ~notes (id, text) VALUES (1, 'made')"),
        table("CREATE INDEX task_executions_note ON ~task_executions (note, execution)"),
    ]
}

/// The versions of a newer program.
pub(super) fn second(dialect: Dialect) -> &'static Migrations {
    with(dialect, &statements(dialect))
}

/// The same, whose last step has another statement before the one of that place.
pub(super) fn second_with(dialect: Dialect, place: usize, sql: &str) -> &'static Migrations {
    let mut statements = statements(dialect);
    statements.insert(place, sql.to_owned());
    with(dialect, &statements)
}

/// This program's versions, and one more that these statements make.
fn with(dialect: Dialect, statements: &[String]) -> &'static Migrations {
    let known = first(dialect);
    let step: &'static str = Box::leak(statements.join(";\n").into_boxed_str());
    let fingerprint: &'static str = Box::leak(known.fingerprint().into_boxed_str());
    let steps = [known.steps, &[step]].concat();
    let published = [known.published, &[fingerprint]].concat();
    Box::leak(Box::new(Migrations {
        steps: Box::leak(steps.into_boxed_slice()),
        published: Box::leak(published.into_boxed_slice()),
        dialect,
    }))
}
