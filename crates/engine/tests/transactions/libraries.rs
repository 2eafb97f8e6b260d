//! The libraries whose transactions are the user's own, as the tests use them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use abide::Transaction;
use abide_test_postgres::Schema;
use tempfile::TempDir;

/// Where a store is.
pub(crate) struct Place {
    pub(crate) url: String,
    /// What comes before the name of a table.
    pub(crate) prefix: String,
    pub(crate) home: Kept,
}

/// What goes away with the test.
pub(crate) enum Kept {
    Directory(TempDir),
    Schema(Schema),
}

impl Place {
    pub(crate) fn directory() -> Place {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Place {
            url: format!("sqlite:{}", directory.path().join("app.db").display()),
            prefix: String::new(),
            home: Kept::Directory(directory),
        }
    }

    pub(crate) fn schema() -> Place {
        let schema = abide_test_postgres::fresh_schema();
        Place {
            url: schema.url.clone(),
            prefix: format!("{}.", schema.quoted()),
            home: Kept::Schema(schema),
        }
    }

    pub(crate) fn file(&self) -> PathBuf {
        match &self.home {
            Kept::Directory(directory) => directory.path().join("app.db"),
            Kept::Schema(_) => panic!("not a file"),
        }
    }

    fn schema_name(&self) -> &str {
        match &self.home {
            Kept::Schema(schema) => &schema.name,
            Kept::Directory(_) => panic!("not a schema"),
        }
    }
}

/// A connection of the user's own.
pub(crate) trait Library: Sized {
    type Transaction<'a>: Transaction
    where
        Self: 'a;

    /// How tests call it.
    const NAME: &str;

    fn place() -> Place;
    /// Connects to where a store of that address is.
    async fn connect(url: &str) -> Self;
    async fn begin(&mut self) -> Self::Transaction<'_>;
    async fn execute(transaction: &mut Self::Transaction<'_>, sql: &str);
    async fn commit(transaction: Self::Transaction<'_>);
    async fn roll_back(transaction: Self::Transaction<'_>);
    /// How many rows each table has.
    async fn rows(&mut self, place: &Place) -> BTreeMap<String, i64>;
    /// The number that a query answers.
    async fn count(&mut self, sql: &str) -> i64;
}

pub(crate) struct Rusqlite(pub(crate) rusqlite::Connection);

impl Library for Rusqlite {
    type Transaction<'a> = rusqlite::Transaction<'a>;

    const NAME: &str = "rusqlite";

    fn place() -> Place {
        Place::directory()
    }

    async fn connect(url: &str) -> Self {
        let file = url.strip_prefix("sqlite:").expect("a file");
        Rusqlite(rusqlite::Connection::open(file).expect("opens"))
    }

    async fn count(&mut self, sql: &str) -> i64 {
        let count = self.0.query_row(sql, [], |row| row.get(0));
        count.expect("counts")
    }

    async fn begin(&mut self) -> Self::Transaction<'_> {
        let behavior = rusqlite::TransactionBehavior::Immediate;
        let begun = self.0.transaction_with_behavior(behavior);
        begun.expect("begins")
    }

    async fn execute(transaction: &mut Self::Transaction<'_>, sql: &str) {
        transaction.execute_batch(sql).expect("runs");
    }

    async fn commit(transaction: Self::Transaction<'_>) {
        transaction.commit().expect("commits");
    }

    async fn roll_back(transaction: Self::Transaction<'_>) {
        transaction.rollback().expect("rolls back");
    }

    async fn rows(&mut self, _: &Place) -> BTreeMap<String, i64> {
        let tables =
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
        let mut statement = self.0.prepare(tables).expect("prepares");
        let names = statement.query_map([], |row| row.get(0)).expect("runs");
        let count = |name: rusqlite::Result<String>| {
            let name = name.expect("a name");
            let sql = format!("SELECT count(*) FROM {name}");
            let count = self.0.query_row(&sql, [], |row| row.get(0));
            (name, count.expect("counts"))
        };
        names.map(count).collect()
    }
}

pub(crate) struct TokioPostgres(pub(crate) tokio_postgres::Client);

impl Library for TokioPostgres {
    type Transaction<'a> = tokio_postgres::Transaction<'a>;

    const NAME: &str = "tokio_postgres";

    fn place() -> Place {
        Place::schema()
    }

    async fn connect(url: &str) -> Self {
        TokioPostgres(abide_test_postgres::client(url).await)
    }

    async fn count(&mut self, sql: &str) -> i64 {
        let row = self.0.query_one(sql, &[]).await;
        row.expect("counts").get(0)
    }

    async fn begin(&mut self) -> Self::Transaction<'_> {
        self.0.transaction().await.expect("begins")
    }

    async fn execute(transaction: &mut Self::Transaction<'_>, sql: &str) {
        transaction.batch_execute(sql).await.expect("runs");
    }

    async fn commit(transaction: Self::Transaction<'_>) {
        transaction.commit().await.expect("commits");
    }

    async fn roll_back(transaction: Self::Transaction<'_>) {
        transaction.rollback().await.expect("rolls back");
    }

    async fn rows(&mut self, place: &Place) -> BTreeMap<String, i64> {
        let tables = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace \
                      WHERE s.nspname = $1 AND c.relkind IN ('r', 'p') AND NOT c.relispartition";
        let tables = self.0.query(tables, &[&place.schema_name()]).await;
        let mut rows = BTreeMap::new();
        for table in tables.expect("runs") {
            let name: String = table.get(0);
            let sql = format!("SELECT count(*) FROM {}\"{name}\"", place.prefix);
            let count = self.0.query_one(&sql, &[]).await.expect("counts");
            rows.insert(name, count.get(0));
        }
        rows
    }
}

pub(crate) struct Sqlx(pub(crate) sqlx::PgConnection);

impl Library for Sqlx {
    type Transaction<'a> = sqlx::Transaction<'a, sqlx::Postgres>;

    const NAME: &str = "sqlx";

    fn place() -> Place {
        Place::schema()
    }

    async fn connect(url: &str) -> Self {
        let url = abide_test_postgres::plain_url(url);
        let connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await;
        Sqlx(connection.expect("the test's server takes connections"))
    }

    async fn count(&mut self, sql: &str) -> i64 {
        let sql = sqlx::AssertSqlSafe(sql);
        let count = sqlx::query_scalar(sql).fetch_one(&mut self.0).await;
        count.expect("counts")
    }

    async fn begin(&mut self) -> Self::Transaction<'_> {
        let begun = sqlx::Connection::begin(&mut self.0).await;
        begun.expect("begins")
    }

    async fn execute(transaction: &mut Self::Transaction<'_>, sql: &str) {
        let sql = sqlx::AssertSqlSafe(sql);
        let run = sqlx::raw_sql(sql).execute(&mut **transaction).await;
        run.expect("runs");
    }

    async fn commit(transaction: Self::Transaction<'_>) {
        transaction.commit().await.expect("commits");
    }

    async fn roll_back(transaction: Self::Transaction<'_>) {
        transaction.rollback().await.expect("rolls back");
    }

    async fn rows(&mut self, place: &Place) -> BTreeMap<String, i64> {
        TokioPostgres::connect(&place.url).await.rows(place).await
    }
}
