//! The run's one server, and schemas in it.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio_postgres::error::SqlState;

use crate::url::{client, with_parameter};

/// What is said of a schema in which somebody has something locked.
const KEPT: [SqlState; 2] = [
    SqlState::LOCK_NOT_AVAILABLE,
    SqlState::T_R_DEADLOCK_DETECTED,
];

/// Where the run's server is. `scripts/test` sets it.
const VARIABLE: &str = "ABIDE_TEST_POSTGRES_URL";

/// The address of the server that all tests of a run share.
///
/// # Panics
///
/// If there is none; the message says how to get one.
pub fn shared_url() -> String {
    std::env::var(VARIABLE).unwrap_or_else(|_| {
        panic!(
            "this test needs a PostgreSQL server: run `scripts/test` with the same arguments as `cargo test`, which \
             starts one, or set {VARIABLE} to the address of one (postgres://..) in which tests may make schemas"
        )
    })
}

/// A schema of a test's own in the run's server, which doesn't exist yet. It is dropped with this.
pub fn fresh_schema() -> Schema {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    // Unlike names that could do without quotes, it finds out who forgets them.
    let name = format!("Test \"{}\" {n};", std::process::id());
    let server = shared_url();
    Schema {
        url: with_parameter(&server, "schema", &name),
        server,
        name,
    }
}

/// A schema, gone when this is dropped.
pub struct Schema {
    server: String,
    /// Its name.
    pub name: String,
    /// The address of a store in it.
    pub url: String,
}

impl Schema {
    /// Its name as an identifier in a statement.
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.name.replace('"', "\"\""))
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // A connection of the test may be open still, and its runtime stands still until this is over.
        // Others look at all schemas, and are gone in a moment: they are waited for, and cut at last.
        let cut = "SELECT pg_terminate_backend(pid) FROM (SELECT DISTINCT l.pid FROM pg_locks l \
                   JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace s ON s.oid = c.relnamespace \
                   JOIN pg_stat_activity a ON a.pid = l.pid \
                   WHERE l.granted AND s.nspname = $1 AND (a.state LIKE 'idle in transaction%' OR $2) \
                   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS others";
        let drop = format!(
            "SET lock_timeout = '300ms'; DROP SCHEMA IF EXISTS {} CASCADE",
            self.quoted()
        );
        let (server, name) = (self.server.clone(), self.name.clone());
        // On a thread of its own: this one may be a runtime's.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let client = client(&server).await;
                for attempt in 0..100 {
                    match client.batch_execute(&drop).await {
                        Err(error) if error.code().is_some_and(|code| KEPT.contains(code)) => {}
                        done => return done,
                    }
                    client.execute(cut, &[&name, &(attempt > 10)]).await?;
                }
                client.batch_execute(&drop).await
            })?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
        if !matches!(dropping.join(), Ok(Ok(()))) && !std::thread::panicking() {
            panic!("the schema {} could not be dropped", self.quoted());
        }
    }
}
