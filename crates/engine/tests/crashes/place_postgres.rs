//! Where the killed processes' stores are: each in a PostgreSQL schema of its own.

use std::path::PathBuf;
use std::time::Duration;

use abide_store::{Store, StoreOptions, VerifyOptions, VerifyReport};
use abide_test_postgres::{Schema, client, fresh_schema, shared_url};
use percent_encoding::percent_decode_str;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_postgres::Client;

use crate::child::Home;
use crate::record::Stage;

/// What the calls that a process is killed at write to: its connections.
pub(crate) fn written(_home: &Home) -> PathBuf {
    PathBuf::from("socket:")
}

/// The first role is killed at every call up to here.
pub(crate) const EVERY_UP_TO: u64 = 0;
/// How many kill points there are beyond, unless `ABIDE_KILL_POINTS=all`.
pub(crate) const BEYOND: u64 = 20;
/// And every one of the last, when all has ended and the store is closed.
pub(crate) const LAST: u64 = 3;
/// What so few points may miss, since it is over soon.
pub(crate) const BRIEF: &[Stage] = &[
    Stage::BeforeTheFirstCommit,
    Stage::Starting,
    Stage::Finishing,
    Stage::AfterTheEnd,
];
/// Processes at a time: they wait more than they work.
pub(crate) const AT_ONCE: usize = 4;
/// Kills of a storm, unless `ABIDE_STORM_KILLS` says otherwise, and after how many the store is looked at.
pub(crate) const KILLS: u32 = 50;
pub(crate) const BETWEEN_LOOKS: u32 = 10;
/// How long the processes of a storm wait for a server that is out of reach, which it isn't.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(60);

/// A place for a store, gone with the test.
pub(crate) struct Place {
    directory: TempDir,
    schema: Schema,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place {
            directory: tempfile::tempdir().expect("a temporary directory"),
            schema: fresh_schema(),
        }
    }

    pub(crate) fn home(&self) -> Home {
        Home::new(self.directory.path(), self.schema.url.clone())
    }

    /// Lets those who died be noticed: as if their leases were over.
    pub(crate) fn bury(&self) {
        if let Some(look) = Look::at(&self.home()) {
            let over = "UPDATE workers SET lease_until = 0 WHERE ended_at IS NULL";
            let done = look.runtime.block_on(look.client.batch_execute(over));
            done.expect("sound");
        }
    }
}

/// The roles that only processes on a server play: none.
#[expect(clippy::unused_async, reason = "it waits on other backends")]
pub(crate) async fn run(role: &str, _home: &Home) {
    panic!("no role is called {role}")
}

/// The schema that an address ends with.
fn quoted_schema(url: &str) -> String {
    let (_, name) = url.rsplit_once("schema=").expect("it names one");
    let name = percent_decode_str(name).decode_utf8().expect("utf-8");
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A look at a store.
pub(crate) struct Look {
    url: String,
    runtime: Runtime,
    client: Client,
}

impl Look {
    /// None before the first commit.
    pub(crate) fn at(home: &Home) -> Option<Look> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let client = runtime.block_on(async {
            let client = client(&shared_url()).await;
            let path = format!("SET search_path TO {}", quoted_schema(home.url()));
            client.batch_execute(&path).await.expect("sound");
            client
        });
        let url = home.url().to_owned();
        let look = Look {
            url,
            runtime,
            client,
        };
        let tables = look.count(
            "SELECT count(*) FROM pg_class WHERE relname = 'executions' AND pg_table_is_visible(oid)",
        );
        (tables > 0).then_some(look)
    }

    pub(crate) fn verify(&self) -> VerifyReport {
        self.runtime.block_on(async {
            let store = Store::open(&self.url, StoreOptions::default()).await;
            let store = store.expect("opens");
            let report = store.verify(VerifyOptions::default()).await;
            store.close().await;
            report.expect("reads")
        })
    }

    pub(crate) fn count(&self, sql: &str) -> usize {
        let row = self.runtime.block_on(self.client.query_one(sql, &[]));
        let number: i64 = row.expect("a number").get(0);
        usize::try_from(number).expect("a count")
    }

    /// Texts with a number each.
    pub(crate) fn counts(&self, sql: &str) -> Vec<(String, i64)> {
        let rows = self.runtime.block_on(self.client.query(sql, &[]));
        let rows = rows.expect("reads");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}
