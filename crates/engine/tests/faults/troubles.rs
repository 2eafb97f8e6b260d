//! Troubles of a server that pass, one after another: each is told in words, nothing is lost, and everything goes
//! on by itself.

use std::time::Duration;

use abide::{Engine, EngineError};
use abide_core::event::EventType;
use abide_test_postgres::{Durability, Server, client, with_parameter};
use tokio_postgres::Client;

use crate::answers::Answers;
use crate::child::Home;
use crate::load::see_through;
use crate::scene::{Order, chore, visit};
use crate::sight::{Sight, verify};

/// Longer than every trouble.
const LEASE: Duration = Duration::from_secs(60);
/// How long a call waits before it says what is wrong.
const SHORT: Duration = Duration::from_millis(300);

/// A role without special rights, for whom there may be too little room or another password.
async fn address_of_role(server: &Server) -> String {
    let owner = client(&server.url()).await;
    let role = "CREATE ROLE app LOGIN PASSWORD 'secret'; GRANT CREATE ON DATABASE postgres TO app";
    owner.batch_execute(role).await.expect("sound");
    let port = server.port();
    let url = format!("postgres://app:secret@127.0.0.1:{port}/postgres?sslmode=disable");
    with_parameter(&url, "unsafe_durability", "allow")
}

/// Asks until the trouble shows, then until it has passed.
struct Asking<'a> {
    engine: &'a Engine,
    next: u32,
}

impl Asking<'_> {
    async fn start(&mut self) -> Result<(), EngineError> {
        self.next += 1;
        let order = Order { number: self.next };
        let instance = format!("asked {}", self.next);
        self.engine
            .start::<chore>(&instance, &order)
            .await
            .map(drop)
    }

    /// Until these words are said. At first it may be that a connection is gone.
    async fn trouble(&mut self, words: &str) {
        loop {
            match self.start().await {
                Ok(()) => {}
                Err(EngineError::Store(error)) => {
                    assert!(error.is_definite(), "{error}");
                    if error.to_string().contains(words) {
                        return;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn health(&mut self) {
        while let Err(error) = self.start().await {
            assert!(matches!(error, EngineError::Store(_)), "{error}");
        }
    }
}

/// Makes the server refuse some of what tasks do, with an SQLSTATE that nobody knows.
async fn refuse_completions(owner: &Client, condition: &str) {
    let sql = format!(
        "CREATE SEQUENCE abide.refusals; \
         CREATE FUNCTION abide.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF new.status = 'Completed' AND {condition} THEN \
             PERFORM nextval('abide.refusals'); RAISE EXCEPTION 'out of sorts' USING ERRCODE = 'ZZ001'; \
           END IF; RETURN new; END $$; \
         CREATE TRIGGER refuse BEFORE UPDATE ON abide.task_executions \
           FOR EACH ROW EXECUTE FUNCTION abide.refuse()"
    );
    owner.batch_execute(&sql).await.expect("sound");
}

async fn run_of(engine: &Engine, order: &Order) -> abide::Run<u32> {
    let run = engine.start::<chore>(&order.instance(), order).await;
    run.expect("durable")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_nobody_knows_fails_no_task_while_the_server_takes_nothing() {
    let server = Server::start(Durability::None);
    let home = Home::of(&server.url());
    let engine = home.engine().lease(LEASE).start().await.expect("starts");
    let owner = client(&server.url()).await;
    // Often enough for the request to have failed alone, on a new connection, and again.
    refuse_completions(
        &owner,
        "(SELECT NOT is_called OR last_value < 9 FROM abide.refusals)",
    )
    .await;
    let order = Order { number: 1 };
    let run = run_of(&engine, &order).await;
    assert_eq!(run.result().await.expect("completes"), 8);
    let sight = Sight::of(&server.url()).await;
    let refused = sight.number("SELECT last_value FROM abide.refusals").await;
    assert_eq!(refused, 9, "refused so many times");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_alone_fails_with_an_error_that_nobody_knows_fails_its_task() {
    let server = Server::start(Durability::None);
    let home = Home::of(&server.url());
    let engine = home.engine().lease(LEASE).start().await.expect("starts");
    let owner = client(&server.url()).await;
    refuse_completions(
        &owner,
        "new.execution = (SELECT id FROM abide.executions WHERE instance = 'order 0')",
    )
    .await;
    let refused = run_of(&engine, &Order { number: 0 }).await;
    let mut others = 1..;
    let failed = tokio::spawn(async move { refused.result().await });
    while !failed.is_finished() {
        let order = Order {
            number: others.next().expect("no end"),
        };
        let other = run_of(&engine, &order).await;
        assert_eq!(other.result().await.expect("completes"), order.number + 7);
    }
    let error = failed
        .await
        .expect("runs")
        .expect_err("it can't be written");
    assert!(error.to_string().contains("out of sorts"), "{error}");
    engine.shutdown().await;
}

/// What a role or a database may bring along, at its worst.
const HOSTILE: &[(&str, &str)] = &[
    ("standard_conforming_strings", "off"),
    ("escape_string_warning", "on"),
    ("backslash_quote", "off"),
    ("DateStyle", "'SQL, DMY'"),
    ("IntervalStyle", "sql_standard"),
    ("TimeZone", "'Pacific/Chatham'"),
    ("search_path", "nowhere"),
    ("statement_timeout", "5000"),
    ("lock_timeout", "1"),
    ("idle_in_transaction_session_timeout", "1"),
    ("idle_session_timeout", "5000"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("bytea_output", "escape"),
    ("client_encoding", "LATIN1"),
    ("row_security", "off"),
    ("client_min_messages", "error"),
    ("exit_on_error", "on"),
    ("array_nulls", "off"),
    ("transform_null_equals", "on"),
    ("quote_all_identifiers", "on"),
    ("extra_float_digits", "-15"),
    ("plan_cache_mode", "force_custom_plan"),
    ("enable_seqscan", "off"),
    ("enable_indexscan", "off"),
    ("enable_indexonlyscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_nestloop", "off"),
    ("enable_hashjoin", "off"),
    ("enable_sort", "off"),
    ("enable_partition_pruning", "off"),
    ("join_collapse_limit", "1"),
    ("from_collapse_limit", "1"),
    ("geqo_threshold", "2"),
    ("work_mem", "'64kB'"),
    ("cursor_tuple_fraction", "0"),
    ("lo_compat_privileges", "on"),
    ("check_function_bodies", "off"),
    ("default_tablespace", "nowhere"),
    ("default_statistics_target", "1"),
    ("gin_fuzzy_search_limit", "1"),
    ("session_replication_role", "replica"),
    ("xmloption", "document"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_works_whatever_its_role_and_database_have_set() {
    let server = Server::start(Durability::None);
    let url = address_of_role(&server).await;
    let owner = client(&server.url()).await;
    let home = Home::of(&url);
    let mut orders = (0..).map(|number| Order { number });
    for of in ["ROLE app", "DATABASE postgres"] {
        for (name, value) in HOSTILE {
            let set = format!("ALTER {of} SET {name} = {value}");
            owner.batch_execute(&set).await.expect(&set);
        }
        // The second time opens what the first made.
        for _ in 0..2 {
            let engine = home.engine().lease(LEASE).start().await.expect("starts");
            for order in orders.by_ref().take(4) {
                see_through(&engine, &Answers::default(), order).await;
            }
            engine.shutdown().await;
            engine.store().close().await;
        }
        verify(&url).await;
        let reset = format!("ALTER {of} RESET ALL");
        owner.batch_execute(&reset).await.expect("sound");
    }
}

async fn cut_off_role(owner: &Client) {
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'";
    owner.execute(cut, &[]).await.expect("sound");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_is_told_in_words_and_everything_goes_on_by_itself() {
    let mut server = Server::start(Durability::None);
    let home = Home::of(&address_of_role(&server).await);
    let engine = home.engine().busy_timeout(SHORT).lease(LEASE).start().await;
    let engine = engine.expect("starts");
    let mut asking = Asking {
        engine: &engine,
        next: 0,
    };
    // One that waits through all of it.
    let patient = Order { number: 1 };
    let run = engine.start::<visit>(&patient.instance(), &patient).await;
    let run = run.expect("durable");
    asking.health().await;

    server.stop();
    asking.trouble("is out of reach").await;
    server.restart();
    asking.health().await;

    let owner = client(&server.url()).await;
    let change = async |sql: &str| owner.batch_execute(sql).await.expect("sound");
    change("ALTER ROLE app SET default_transaction_read_only = on").await;
    cut_off_role(&owner).await;
    asking.trouble("read-only").await;
    change("ALTER ROLE app RESET default_transaction_read_only").await;
    asking.health().await;

    change("ALTER ROLE app CONNECTION LIMIT 0").await;
    cut_off_role(&owner).await;
    asking.trouble("too many connections").await;
    change("ALTER ROLE app CONNECTION LIMIT -1").await;
    asking.health().await;

    change("ALTER ROLE app PASSWORD 'another'").await;
    cut_off_role(&owner).await;
    asking.trouble("password authentication failed").await;
    change("ALTER ROLE app PASSWORD 'secret'").await;
    asking.health().await;

    for word in [5, 6] {
        while let Err(error) = engine.signal(&patient.instance(), "extra", &word).await {
            // It waited for longer than a call may here: nothing was sent.
            assert!(
                matches!(&error, EngineError::Store(error) if error.is_definite()),
                "{error}"
            );
        }
    }
    assert_eq!(run.result().await.expect("completes"), patient.result());
    let sight = Sight::of(&server.url()).await;
    while sight.open().await > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for kind in [EventType::TaskRecovered, EventType::TaskAbandoned] {
        assert_eq!(sight.events(kind).await, 0, "{kind}");
    }
    engine.shutdown().await;
    engine.store().close().await;
    verify(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_execution_that_a_foreign_transaction_locks_keeps_nobody_else_waiting() {
    let server = Server::start(Durability::None);
    let home = Home::of(&server.url());
    let engine = home.engine().lease(LEASE).start().await.expect("starts");
    let answers = Answers::default();
    let stuck = Order { number: 1 };
    let run = engine.start::<visit>(&stuck.instance(), &stuck).await;
    let run = run.expect("durable");
    let foreign = client(&server.url()).await;
    let lock = format!(
        "BEGIN; SELECT FROM abide.executions WHERE id = {} FOR UPDATE",
        run.id().0
    );
    foreign.batch_execute(&lock).await.expect("sound");
    let (sender, instance) = (engine.clone(), stuck.instance());
    let signals = tokio::spawn(async move {
        for word in [5, 6] {
            let sent = sender.signal(&instance, "extra", &word).await;
            sent.expect("durable");
        }
    });
    for number in 2..30 {
        see_through(&engine, &answers, Order { number }).await;
    }
    assert!(!signals.is_finished(), "its own requests wait");
    foreign.batch_execute("ROLLBACK").await.expect("sound");
    signals.await.expect("sent");
    assert_eq!(run.result().await.expect("completes"), stuck.result());
    engine.shutdown().await;
    let deadlocks = engine.store().stats().deadlocks;
    assert_eq!(deadlocks, 0);
    engine.store().close().await;
    verify(&server.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_locked_instances_have_nobody_refused_but_those_who_ask_for_them() {
    const LOCKED: u32 = 48;
    let server = Server::start(Durability::None);
    let home = Home::of(&server.url());
    // Far more than those who are not locked need, and far less than all who are would wait one by one.
    let engine = home.engine().busy_timeout(Duration::from_secs(5));
    let engine = engine.connect().await.expect("opens");
    let start = async |number| {
        let order = Order { number };
        engine.start::<visit>(&order.instance(), &order).await
    };
    for number in 0..LOCKED {
        start(number).await.expect("durable");
    }
    let mut foreign = client(&server.url()).await;
    let foreign = foreign.transaction().await.expect("begins");
    let lock = "SELECT FROM abide.executions FOR UPDATE";
    foreign.batch_execute(lock).await.expect("sound");
    let signals = (0..LOCKED).map(|number| {
        let (sender, order) = (engine.clone(), Order { number });
        tokio::spawn(async move { sender.signal(&order.instance(), "extra", &5).await })
    });
    let signals: Vec<_> = signals.collect();
    let (a, b, c) = tokio::join!(start(LOCKED), start(LOCKED + 1), start(LOCKED + 2));
    for other in [a, b, c] {
        other.expect("nothing locks it");
    }
    for signal in signals {
        let error = signal.await.expect("is answered").expect_err("locked");
        assert!(error.to_string().contains("locked"), "{error}");
    }
    foreign.rollback().await.expect("rolls back");
    engine.store().close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_waits_for_a_server_that_is_coming_back() {
    let mut server = Server::start(Durability::Full);
    let home = Home::of(&server.url());
    let engine = home.engine().busy_timeout(LEASE).connect().await;
    let engine = engine.expect("opens");
    let (order, store) = (Order { number: 1 }, engine.store());
    let run = engine.start::<visit>(&order.instance(), &order).await;
    let id = run.expect("durable").id();
    server.kill();
    let back = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    });
    let (found, ended) = tokio::join!(store.execution(id), store.end(id));
    let found = found.expect("it is asked again").expect("it is there");
    assert_eq!(found.execution.id, id);
    assert!(ended.expect("it is asked again").is_some());
    drop(back.await.expect("it is back"));
}
