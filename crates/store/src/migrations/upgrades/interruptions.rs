//! A migration is cut off, by a kill or by the server, or meets others: another migration, a user's open
//! transaction, writers.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use abide_core::ids::IdGenerator;
use abide_test_postgres::{Schema, client};
use rusqlite::Connection;
use tokio_postgres::Client;

use super::live::{Live, begin_in_process};
use super::place::{self, Place, first, second, second_with};
use super::{live, too_new, verify};
use crate::derived::Dialect;
use crate::error::{ApplyError, StoreError};
use crate::store::Store;

// ---- a process of its own ----

/// The address of the store that a process is to open.
const URL: &str = "ABIDE_TEST_UPGRADE_URL";
/// What the migration is to meet, and before which of its statements.
const STATEMENT: &str = "ABIDE_TEST_UPGRADE_STATEMENT";
const PLACE: &str = "ABIDE_TEST_UPGRADE_PLACE";
/// Which of several processes it is.
const NUMBER: &str = "ABIDE_TEST_UPGRADE_NUMBER";

/// Does nothing, but in a process that another test started.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_the_newer_version() {
    let Ok(url) = std::env::var(URL) else { return };
    let number = |name| std::env::var(name).map(|text| text.parse::<u64>().expect("a number"));
    let dialect = match Store::is_postgres(&url) {
        true => Dialect::Postgres,
        false => Dialect::Sqlite,
    };
    let migrations = match (std::env::var(STATEMENT), number(PLACE)) {
        (Ok(sql), Ok(place)) => second_with(dialect, usize::try_from(place).expect("small"), &sql),
        _ => second(dialect),
    };
    let clock = Arc::new(AtomicI64::new(super::live::BEGIN));
    let store = place::open(&url, &clock, migrations).await.expect("opens");
    let number = number(NUMBER).expect("given");
    begin_in_process(&store, IdGenerator::new(number), number).await;
    store.close().await;
}

struct Process(Child);

impl Process {
    fn start(place: &Place, number: u64, set: &[(&str, &str)]) -> Process {
        let (_, module) = module_path!().split_once("::").expect("in a module");
        let test = format!("{module}::a_process_of_the_newer_version");
        let child = Command::new(std::env::current_exe().expect("this binary has a path"))
            .args(["--exact", &test, "--nocapture"])
            .env(URL, place.url())
            .env(NUMBER, number.to_string())
            .envs(set.iter().copied())
            .stdout(Stdio::null())
            .spawn();
        Process(child.expect("it can be started"))
    }

    fn kill(mut self) {
        self.0.kill().expect("it was alive");
        self.0.wait().expect("it has ended");
    }

    fn succeeds(mut self) {
        assert!(self.0.wait().expect("it ends").success());
    }

    /// Whether it has the log of a SQLite file open, which it opens when it first looks into the file.
    fn has_looked_into(&self, place: &Place) -> bool {
        let log = place.path().with_file_name("store.db-wal");
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.0.id()));
        let mut files = files.into_iter().flatten().flatten();
        files.any(|file| std::fs::read_link(file.path()).is_ok_and(|path| path == log))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended long ago.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Looks until something is found.
async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "never seen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

// ---- stopping a migration between two of its statements ----

/// On PostgreSQL: a lock that a statement of a migration waits for.
struct Stop {
    key: u32,
    holder: Client,
}

impl Stop {
    async fn new(schema: &Schema) -> Stop {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Advisory locks are the whole database's, and every test may be a process of its own.
        let key = std::process::id() << 8 | COUNT.fetch_add(1, Ordering::Relaxed);
        let holder = client(&schema.url).await;
        let sql = format!("SELECT pg_advisory_lock({key})");
        holder.batch_execute(&sql).await.expect("locked");
        Stop { key, holder }
    }

    fn statement(&self) -> String {
        format!("SELECT pg_advisory_xact_lock({})", self.key)
    }

    /// The server process that waits here, once it does.
    async fn reached(&self) -> i32 {
        let sql = format!(
            "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = {} AND NOT granted",
            self.key
        );
        until(async || {
            let row = self.holder.query_opt(&sql, &[]).await.expect("reads");
            row.map(|row| row.get(0))
        })
        .await
    }

    async fn open(&self) {
        let sql = format!("SELECT pg_advisory_unlock({})", self.key);
        self.holder.batch_execute(&sql).await.expect("unlocked");
    }

    /// Cuts off a server process and waits until it is gone.
    async fn end(&self, process: i32) {
        let sql = format!("SELECT pg_terminate_backend({process})");
        self.holder.batch_execute(&sql).await.expect("told");
        self.until_gone(process).await;
    }

    async fn until_gone(&self, process: i32) {
        let sql = "SELECT FROM pg_stat_activity WHERE pid = $1";
        until(async || {
            let row = self.holder.query_opt(sql, &[&process]).await;
            row.expect("reads").is_none().then_some(())
        })
        .await;
    }
}

/// On SQLite: a statement that takes longer than the test, and writes into the log meanwhile.
const ENDLESS: &str = "CREATE TABLE endless AS WITH RECURSIVE numbers (n) AS \
     (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT 1000000000) SELECT n, hex(randomblob(500)) FROM numbers";

fn log_bytes(place: &Place) -> u64 {
    let log = std::fs::metadata(place.path().with_file_name("store.db-wal"));
    log.expect("the store is in use").len()
}

/// Starts a process whose migration comes to a stop before the statement of that place, and kills it there.
async fn kill_at(live: &Live, at: usize) {
    let at = at.to_string();
    match &live.place {
        Place::File(_) => {
            let before = log_bytes(&live.place);
            let set = [(STATEMENT, ENDLESS), (PLACE, &at)];
            let process = Process::start(&live.place, 2, &set);
            // More than the statements before it write.
            let far = before + 4 * 1024 * 1024;
            until(async || (log_bytes(&live.place) > far).then_some(())).await;
            process.kill();
        }
        Place::Schema(schema) => {
            let stop = Stop::new(schema).await;
            let sql = stop.statement();
            let process = Process::start(&live.place, 2, &[(STATEMENT, &sql), (PLACE, &at)]);
            let server = stop.reached().await;
            process.kill();
            // The server finds that nobody is there once it has done what it was sent.
            stop.open().await;
            stop.until_gone(server).await;
        }
    }
}

pub(super) async fn killed_at_any_statement_the_store_is_as_it_was(dialect: Dialect) {
    let live = live(dialect).await;
    for at in 0..=place::statements(dialect).len() {
        let before = live.place.everything().await;
        kill_at(&live, at).await;
        assert_eq!(live.place.everything().await, before, "at {at}");
        live.old_goes_on().await;
        let other = live.place.open(&live.clock, first(dialect)).await;
        other.expect("this version opens it").close().await;
    }
    let new = live.place.open(&live.clock, second(dialect)).await;
    let new = new.expect("migrates");
    verify(&new, dialect).await;
    live.carry_on(&new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_by_the_server_at_any_statement_the_store_is_as_it_was() {
    let dialect = Dialect::Postgres;
    let live = live(dialect).await;
    let Place::Schema(schema) = &live.place else {
        unreachable!("a schema")
    };
    for at in 0..=place::statements(dialect).len() {
        let before = live.place.everything().await;
        let stop = Stop::new(schema).await;
        let stopped = second_with(dialect, at, &stop.statement());
        let (opened, ()) = tokio::join!(live.place.open(&live.clock, stopped), async {
            stop.end(stop.reached().await).await;
        });
        let error = opened.expect_err("cut off");
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert_eq!(live.place.everything().await, before, "at {at}");
        live.old_goes_on().await;
    }
    let new = live.place.open(&live.clock, second(dialect)).await;
    new.expect("migrates");
}

// ---- several at once ----

pub(super) async fn of_two_processes_that_migrate_one_does_and_both_go_on(dialect: Dialect) {
    let live = live(dialect).await;
    let start = || [2, 3].map(|number| Process::start(&live.place, number, &[]));
    // Both find the older version, and neither can begin before the other is there.
    let processes = match &live.place {
        Place::File(_) => {
            let holder = Connection::open(live.place.path()).expect("opens");
            holder.execute_batch("BEGIN IMMEDIATE").expect("locked");
            let processes = start();
            if cfg!(target_os = "linux") {
                let all = || processes.iter().all(|it| it.has_looked_into(&live.place));
                until(async || all().then_some(())).await;
            }
            holder.execute_batch("ROLLBACK").expect("unlocked");
            processes
        }
        Place::Schema(schema) => {
            let holder = client(&schema.url).await;
            let lock = format!(
                "BEGIN; LOCK TABLE {}.store IN SHARE UPDATE EXCLUSIVE MODE",
                schema.quoted()
            );
            holder.batch_execute(&lock).await.expect("locked");
            let processes = start();
            waiting(&holder, schema, "ShareUpdateExclusiveLock", 2).await;
            holder.batch_execute("ROLLBACK").await.expect("unlocked");
            processes
        }
    };
    for process in processes {
        process.succeeds();
    }
    let new = live.place.open(&live.clock, second(dialect)).await;
    let new = new.expect("opens");
    verify(&new, dialect).await;
    for number in [2, 3] {
        let instance = format!("of process {number}");
        let started = new.latest(&instance).await.expect("reads");
        assert!(started.is_some(), "{instance}");
    }
    live.carry_on(&new).await;
}

/// Waits until so many wait for that lock on the store's row.
async fn waiting(watch: &Client, schema: &Schema, mode: &str, count: i64) {
    let sql = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation \
               JOIN pg_namespace s ON s.oid = c.relnamespace \
               WHERE s.nspname = $1 AND l.mode = $2 AND NOT l.granted";
    until(async || {
        let row = watch.query_one(sql, &[&schema.name, &mode]).await;
        let found: i64 = row.expect("reads").get(0);
        (found >= count).then_some(())
    })
    .await;
}

/// The lock that keeps everybody out.
const ALONE: &str = "AccessExclusiveLock";

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_waits_for_a_transaction_that_has_read_the_version() {
    let dialect = Dialect::Postgres;
    let live = live(dialect).await;
    let Place::Schema(schema) = &live.place else {
        unreachable!("a schema")
    };
    let (mut users, watch) = (client(&schema.url).await, client(&schema.url).await);
    let mut transaction = users.transaction().await.expect("begun");
    let started = live.old.start_in(&mut transaction, live.start_within());
    let started = started.await.expect("nobody has migrated yet");
    let (opened, ()) = tokio::join!(live.place.open(&live.clock, second(dialect)), async {
        waiting(&watch, schema, ALONE, 1).await;
        transaction.commit().await.expect("committed");
    });
    let new = opened.expect("migrates");
    let found = new.execution(started.id).await.expect("reads");
    assert!(found.is_some(), "it was written before the migration");
    verify(&new, dialect).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_waits_for_a_migration_is_refused_when_that_is_done() {
    let dialect = Dialect::Postgres;
    let live = live(dialect).await;
    let Place::Schema(schema) = &live.place else {
        unreachable!("a schema")
    };
    let stop = Stop::new(schema).await;
    let stopped = second_with(dialect, 2, &stop.statement());
    let start = live.start_within();
    let (opened, started) = tokio::join!(live.place.open(&live.clock, stopped), async {
        stop.reached().await;
        let (started, ()) = tokio::join!(live.old.start(start.clone()), async {
            waiting(&stop.holder, schema, "AccessShareLock", 1).await;
            stop.open().await;
        });
        started
    });
    match started {
        Err(ApplyError::Store(error)) => too_new(&error),
        other => panic!("not refused: {other:?}"),
    }
    let new = opened.expect("migrates");
    let found = new.execution(start.id).await.expect("reads");
    assert!(found.is_none(), "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_has_picked_and_a_migration_do_not_wait_for_each_other() {
    let dialect = Dialect::Postgres;
    for table in ["task_outbox", "timers", "workers"] {
        let live = live(dialect).await;
        let Place::Schema(schema) = &live.place else {
            unreachable!("a schema")
        };
        let (writer, watch) = (client(&schema.url).await, client(&schema.url).await);
        let home = schema.quoted();
        // As a claim does that picks from the queue before it reads the version. The read gives up before the server would
        // look for a circle of waits, which it would end by ending one of the two.
        let pick = format!("BEGIN; SELECT FROM {home}.{table} FOR UPDATE SKIP LOCKED");
        writer.batch_execute(&pick).await.expect("picked");
        let (opened, ()) = tokio::join!(live.place.open(&live.clock, second(dialect)), async {
            waiting(&watch, schema, ALONE, 1).await;
            let read = format!("SET LOCAL lock_timeout = '500ms'; SELECT schema FROM {home}.store");
            let read = writer.batch_execute(&read).await;
            read.expect("the migration does not hold it yet");
            writer.batch_execute("COMMIT").await.expect("committed");
        });
        opened.expect("migrates");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_has_read_the_version_and_a_migration_do_not_wait_for_each_other() {
    let dialect = Dialect::Postgres;
    let live = live(dialect).await;
    let Place::Schema(schema) = &live.place else {
        unreachable!("a schema")
    };
    let (writer, watch) = (client(&schema.url).await, client(&schema.url).await);
    let home = schema.quoted();
    let read = format!("BEGIN; SELECT schema FROM {home}.store");
    writer.batch_execute(&read).await.expect("read");
    let (opened, ()) = tokio::join!(live.place.open(&live.clock, second(dialect)), async {
        waiting(&watch, schema, ALONE, 1).await;
        // Gives up before the server looks for a circle of waits.
        let write = format!(
            "SET LOCAL lock_timeout = '900ms'; LOCK TABLE {home}.task_outbox IN ROW EXCLUSIVE MODE"
        );
        let write = writer.batch_execute(&write).await;
        write.expect("the migration gives way");
        writer.batch_execute("COMMIT").await.expect("committed");
    });
    opened.expect("migrates");
}

// ---- a transaction that sees an earlier moment ----

pub(super) async fn a_transaction_from_before_a_migration_starts_nothing(dialect: Dialect) {
    let live = live(dialect).await;
    let start = live.start_within();
    let migrate = async || {
        let new = live.place.open(&live.clock, second(dialect)).await;
        new.expect("migrates")
    };
    let conflict = |started: Result<_, ApplyError>| match started {
        Err(ApplyError::Store(error @ StoreError::Conflict(_))) => assert!(error.is_definite()),
        other => panic!("no conflict: {other:?}"),
    };
    match &live.place {
        Place::File(_) => {
            let mut users = Connection::open(live.place.path()).expect("opens");
            let look = "BEGIN; SELECT count(*) FROM executions";
            users.execute_batch(look).expect("reads");
            migrate().await;
            let before = live.place.everything().await;
            conflict(live.old.start_in(&mut users, start.clone()).await);
            users.execute_batch("COMMIT").expect("committed");
            assert_eq!(live.place.everything().await, before);
            users.execute_batch("BEGIN").expect("again");
            match live.old.start_in(&mut users, start).await {
                Err(ApplyError::Store(error)) => too_new(&error),
                other => panic!("not refused: {other:?}"),
            }
        }
        Place::Schema(schema) => {
            let mut users = client(&schema.url).await;
            let level = "SET default_transaction_isolation = 'repeatable read'";
            users.batch_execute(level).await.expect("set");
            let mut transaction = users.transaction().await.expect("begun");
            let look = "SELECT count(*) FROM pg_class";
            transaction.query_one(look, &[]).await.expect("reads");
            migrate().await;
            let before = live.place.everything().await;
            conflict(live.old.start_in(&mut transaction, start.clone()).await);
            transaction.commit().await.expect("committed");
            assert_eq!(live.place.everything().await, before);
            let mut transaction = users.transaction().await.expect("begun");
            match live.old.start_in(&mut transaction, start).await {
                Err(ApplyError::Store(error)) => too_new(&error),
                other => panic!("not refused: {other:?}"),
            }
        }
    }
}
