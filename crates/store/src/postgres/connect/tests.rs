use std::sync::Arc;

use abide_test_postgres::{
    Durability, Pooler, Pooling, Server, client, fresh_schema, shared_url, with_parameter,
};

use super::*;
use crate::postgres::pool::Readers;
use crate::postgres::statement::Value;

async fn session(url: &str) -> Session {
    let address = Address::parse(url).expect("an address");
    let (session, link) = Session::connect(&address).await.expect("connects");
    tokio::spawn(link.run());
    session
}

async fn refused(url: &str) -> StoreError {
    let address = Address::parse(url).expect("an address");
    match Session::connect(&address).await {
        Err(error) => error,
        Ok(_) => panic!("connected to {address}"),
    }
}

fn owned(sql: &str) -> Statement<'static> {
    Statement {
        sql: sql.to_owned().into(),
        params: Vec::new(),
    }
}

fn plain(sql: &'static str) -> Statement<'static> {
    Statement::new(sql, Vec::new())
}

async fn only(session: &Session, statement: Statement<'_>) -> Value {
    let rows = session.run(vec![statement]).await.expect("runs");
    rows[0][0][0].clone()
}

#[tokio::test]
async fn statements_run_in_order_and_numbers_fit_columns_of_every_size() {
    let session = session(&shared_url()).await;
    let params = || {
        vec![
            Param::Ints(vec![Some(1), None]),
            Param::Ints(vec![Some(3), Some(4)]),
            Param::Texts(vec![None, Some("x".into())]),
        ]
    };
    const INSERT: &str =
        "INSERT INTO t SELECT a, b, c, true FROM unnest($1, $2, $3) AS r (a, b, c)";
    const READ: &str = "SELECT a, b, c, d, 5::bigint, pg_notify('x', '') FROM t WHERE b >= $1";
    for round in 0..2 {
        // Once with texts that are prepared for good, once without.
        let text = |sql: &'static str| match round {
            0 => Cow::Owned(sql.to_owned()),
            _ => Cow::Borrowed(sql),
        };
        let answers = session
            .run(vec![
                plain(BEGIN),
                owned("CREATE TEMPORARY TABLE t (a integer, b smallint, c text, d boolean)"),
                Statement {
                    sql: Cow::Owned(INSERT.to_owned()),
                    params: params(),
                },
                Statement {
                    sql: Cow::Owned(READ.to_owned()),
                    params: vec![Param::Int(Some(2))],
                },
                Statement {
                    sql: text("SELECT true, $1, $2"),
                    params: vec![Param::Text(Some("ü".into())), Param::Int(None)],
                },
                plain(ROLLBACK),
            ])
            .await
            .expect("runs");
        let void = Value::Null;
        assert_eq!(
            answers[3],
            [
                vec![
                    Value::Int(1),
                    Value::Int(3),
                    Value::Null,
                    Value::Bool(true),
                    Value::Int(5),
                    void.clone()
                ],
                vec![
                    Value::Null,
                    Value::Int(4),
                    Value::Text("x".to_owned()),
                    Value::Bool(true),
                    Value::Int(5),
                    void
                ],
            ]
        );
        assert_eq!(
            answers[4],
            [vec![
                Value::Bool(true),
                Value::Text("ü".to_owned()),
                Value::Null
            ]]
        );
        assert!(session.is_clean());
    }
}

#[tokio::test]
async fn a_template_stands_for_every_schema() {
    let schema = fresh_schema();
    let session = session(&schema.url).await;
    let statements = vec![
        owned(&format!("CREATE SCHEMA {}", schema.quoted())),
        owned("CREATE TABLE ~t AS SELECT 4::bigint AS a"),
    ];
    session.run(statements).await.expect("created");
    let row = only(&session, plain("SELECT a FROM ~t")).await;
    assert_eq!(row, Value::Int(4));
}

#[tokio::test]
async fn the_first_error_counts_and_nothing_is_committed() {
    let schema = fresh_schema();
    let session = session(&schema.url).await;
    let create = owned(&format!("CREATE SCHEMA {}", schema.quoted()));
    let error = session
        .run(vec![
            plain(BEGIN),
            create,
            plain("SELECT 1 / 0"),
            plain("SELECT 1 FROM ~missing"),
            plain(COMMIT),
        ])
        .await;
    // The missing table is found when its statement is prepared, before anything is sent.
    assert!(
        matches!(error, Err(StoreError::Corrupt { .. })),
        "{error:?}"
    );
    assert!(!session.is_clean());
    let error = session
        .run(vec![plain(BEGIN), plain("SELECT 1 / 0"), plain(COMMIT)])
        .await
        .expect_err("fails");
    assert!(error.to_string().contains("division by zero"), "{error}");
    assert!(error.is_definite());
    session.run(vec![plain(ROLLBACK)]).await.expect("over");
    assert!(session.is_clean());
    let found = Statement {
        sql: Cow::Borrowed("SELECT count(*) FROM pg_namespace WHERE nspname = $1"),
        params: vec![Param::Text(Some(Cow::Borrowed(&schema.name)))],
    };
    assert_eq!(only(&session, found).await, Value::Int(0));
}

#[tokio::test]
async fn settings_of_the_address_reach_the_server() {
    let url = with_parameter(&shared_url(), "lock_timeout", "77");
    let url = with_parameter(&url, "statement_timeout", "0");
    let session = session(&with_parameter(&url, "application_name", "me")).await;
    for (name, value) in [
        ("application_name", "me"),
        ("lock_timeout", "77ms"),
        ("statement_timeout", "0"),
        ("search_path", "pg_catalog"),
    ] {
        let shown = only(&session, owned(&format!("SHOW {name}"))).await;
        assert_eq!(shown, Value::Text(value.to_owned()), "{name}");
    }
}

#[tokio::test]
async fn a_lock_that_others_hold_is_waited_for_until_the_timeout() {
    let schema = fresh_schema();
    let other = client(&schema.url).await;
    let name = schema.quoted();
    for sql in [
        format!("CREATE SCHEMA {name}; CREATE TABLE {name}.t ()"),
        format!("BEGIN; LOCK {name}.t"),
    ] {
        other.batch_execute(&sql).await.expect("runs");
    }
    let session = session(&with_parameter(&schema.url, "lock_timeout", "50")).await;
    let error = session.run(vec![plain("SELECT FROM ~t")]).await;
    assert!(matches!(error, Err(StoreError::Busy(_))), "{error:?}");
}

#[tokio::test]
async fn a_connection_cut_before_the_commit_was_sent_has_written_nothing() {
    let session = session(&shared_url()).await;
    let cut = |sql: &'static str| {
        vec![
            plain(BEGIN),
            plain("SELECT pg_current_xact_id()::text"),
            plain(sql),
        ]
    };
    const TERMINATE: &str = "SELECT pg_terminate_backend(pg_backend_pid())";
    let error = session.run(cut(TERMINATE)).await.expect_err("cut");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    let error = session.run(cut(COMMIT)).await.expect_err("gone");
    assert!(session.is_closed() && !session.is_clean());
    // Its statements could not even be prepared.
    assert!(error.is_definite(), "{error:?}");
}

/// Stands between a client and the server. Once told to, it passes on what the client says and cuts
/// the connection when the server answers.
async fn proxy(port: u16, cuts: Arc<AtomicBool>) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    let own = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.expect("a client");
        let server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.expect("the server").into_split();
        let asked = tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
        let mut answer = [0; 4096];
        loop {
            let length = from_server.read(&mut answer).await.expect("reads");
            if length == 0 || cuts.load(Ordering::SeqCst) {
                break;
            }
            to_client
                .write_all(&answer[..length])
                .await
                .expect("writes");
        }
        asked.abort();
    });
    own
}

#[tokio::test]
async fn a_connection_cut_after_the_commit_was_sent_leaves_the_outcome_unknown() {
    let schema = fresh_schema();
    let port = Address::parse(&schema.url)
        .expect("an address")
        .config
        .get_ports()[0];
    let cuts = Arc::new(AtomicBool::new(false));
    let own = proxy(port, cuts.clone()).await;
    let session = session(
        &schema
            .url
            .replace(&format!(":{port}/"), &format!(":{own}/")),
    )
    .await;
    let create = format!(
        "CREATE SCHEMA {0}; CREATE TABLE {0}.t (n int)",
        schema.quoted()
    );
    let other = client(&schema.url).await;
    other.batch_execute(&create).await.expect("made");
    let write = || {
        vec![
            plain(BEGIN),
            plain("INSERT INTO ~t VALUES (7)"),
            plain(COMMIT),
        ]
    };
    // So that all of them are prepared.
    session.run(write()).await.expect("written");
    cuts.store(true, Ordering::SeqCst);
    let error = session.run(write()).await.expect_err("cut");
    assert!(
        matches!(error, StoreError::Io { unknown: true, .. }),
        "{error:?}"
    );
    assert!(!error.is_definite() && error.is_transient());
}

#[tokio::test]
async fn a_server_that_may_lose_what_it_acknowledged_is_refused_unless_asked_for_by_name() {
    let server = Server::start(Durability::None);
    let safe = server.url().replace("&unsafe_durability=allow", "");
    let error = refused(&safe).await.to_string();
    for words in ["fsync", "full_page_writes", "synchronous_commit", "=allow"] {
        assert!(error.contains(words), "{error}");
    }
    session(&server.url()).await;
}

#[tokio::test]
async fn a_pooler_that_keeps_no_sessions_is_refused_before_anything_is_set_or_written() {
    let schema = fresh_schema();
    let port = Address::parse(&schema.url)
        .expect("an address")
        .config
        .get_ports()[0];
    let pooler = Pooler::start(port, Pooling::Transaction).await;
    // Of another program, which shares the connection to the server.
    let other = client(&pooler.url(&schema.url)).await;
    let settings = format!(
        "SELECT name || ' ' || setting FROM pg_settings WHERE source = 'session' \
         UNION ALL SELECT name FROM pg_prepared_statements \
         UNION ALL SELECT nspname FROM pg_namespace WHERE nspname = '{}'",
        schema.name
    );
    let inherited = async || {
        let found = other.simple_query(&settings).await.expect("sound");
        found
            .iter()
            .filter(|it| matches!(it, tokio_postgres::SimpleQueryMessage::Row(_)))
            .count()
    };
    let before = inherited().await;
    for _ in 0..3 {
        let error =
            crate::Store::open(&pooler.url(&schema.url), crate::StoreOptions::default()).await;
        let error = error.expect_err("refused");
        assert!(matches!(error, StoreError::CannotOpen { .. }), "{error:?}");
        assert!(error.to_string().contains("pool_mode = session"), "{error}");
        assert_eq!(inherited().await, before);
    }
}

#[tokio::test]
async fn a_pooler_that_keeps_sessions_is_taken() {
    let schema = fresh_schema();
    let port = Address::parse(&schema.url)
        .expect("an address")
        .config
        .get_ports()[0];
    let pooler = Pooler::start(port, Pooling::Session).await;
    let store = crate::Store::open(&pooler.url(&schema.url), crate::StoreOptions::default()).await;
    let store = store.expect("opens");
    assert!(store.workers().await.expect("reads").is_empty());
    store.close().await;
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_out_of_reach() {
    let read_only = with_parameter(
        &shared_url(),
        "options",
        "-c default_transaction_read_only=on",
    );
    let error = refused(&read_only).await;
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains("read-only"), "{error}");
}

#[tokio::test]
async fn what_is_missing_or_forbidden_is_said_in_words() {
    let url = shared_url();
    let missing = refused(&url.replace("/postgres?", "/nowhere?")).await;
    assert!(
        missing.to_string().contains("\"nowhere\" does not exist"),
        "{missing}"
    );
    let wrong = refused(&url.replace("abide%20test", "guess")).await;
    assert!(matches!(wrong, StoreError::Denied { .. }), "{wrong:?}");
    assert!(!wrong.to_string().contains("guess"));
    let plain = refused(&url.replace("sslmode=disable", "sslmode=require")).await;
    assert!(plain.to_string().contains("TLS"), "{plain}");
    let roots = url.replace("sslmode=disable", "sslrootcert=/nowhere.pem");
    let error = refused(&roots).await.to_string();
    assert!(error.contains("/nowhere.pem"), "{error}");
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let server = Server::start(Durability::None);
    client(&server.url())
        .await
        .batch_execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        .await
        .expect("created");
    let error = refused(&server.url().replace("/postgres?", "/latin?")).await;
    assert!(
        error.to_string().contains("LATIN1; it must be UTF8"),
        "{error}"
    );
}

#[tokio::test]
async fn notifications_come_out_of_the_link() {
    let address = Address::parse(&shared_url()).expect("an address");
    let (session, mut link) = Session::connect(&address).await.expect("connects");
    let (tell, mut heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = link.next().await {
            if let AsyncMessage::Notification(heard) = message {
                tell.send(heard).expect("somebody waits");
            }
        }
    });
    let statements = vec![
        owned("LISTEN \"some channel\""),
        owned("NOTIFY \"some channel\", 'hello'"),
    ];
    session.run(statements).await.expect("listens");
    let heard = heard.recv().await.expect("heard");
    assert_eq!(
        (heard.channel(), heard.payload()),
        ("some channel", "hello")
    );
}

#[tokio::test]
async fn a_reader_left_in_the_middle_is_not_given_out_again() {
    let address = std::sync::Arc::new(Address::parse(&shared_url()).expect("an address"));
    let backend =
        async |reader: &Session| only(reader, plain("SELECT pg_backend_pid()::bigint")).await;
    let readers = Readers::new(
        address,
        tokio::runtime::Handle::current(),
        1,
        by_index,
        Default::default(),
    );
    let reader = readers.get().await.expect("connects");
    let first = backend(&reader).await;
    drop(reader);
    let reader = readers.get().await.expect("is there");
    assert_eq!(backend(&reader).await, first);
    reader.run(vec![plain(BEGIN_READ)]).await.expect("begins");
    drop(reader);
    let reader = readers.get().await.expect("connects");
    assert_ne!(backend(&reader).await, first);
}

#[tokio::test]
async fn tls_is_checked_as_far_as_the_address_asks() {
    let (server, authority) = Server::start_with_tls("db.test");
    let (_other, stranger) = Server::start_with_tls("db.test");
    let address = |mode: &str, authority: Option<&std::path::Path>, name: &str| {
        let url = server.url().replace("sslmode=disable", "");
        let url = url.replace("127.0.0.1", name);
        let url = with_parameter(&url, "hostaddr", "127.0.0.1");
        let url = with_parameter(&url, "sslmode", mode);
        match authority {
            Some(file) => with_parameter(&url, "sslrootcert", file.to_str().expect("UTF-8")),
            None => url,
        }
    };
    let own = Some(authority.as_path());
    let strangers = Some(stranger.as_path());
    for (url, encrypted) in [
        (address("disable", None, "db.test"), false),
        (address("prefer", None, "db.test"), true),
        (address("require", None, "127.0.0.1"), true),
        (address("verify-ca", own, "127.0.0.1"), true),
        (address("verify-full", own, "db.test"), true),
    ] {
        let session = session(&url).await;
        let ssl = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        assert_eq!(
            only(&session, plain(ssl)).await,
            Value::Bool(encrypted),
            "{url}"
        );
    }
    for (url, words) in [
        (address("require", strangers, "db.test"), ""),
        (address("verify-ca", strangers, "db.test"), ""),
        (address("verify-full", strangers, "db.test"), ""),
        (
            address("verify-full", own, "other.test"),
            "not valid for name",
        ),
    ] {
        let error = refused(&url).await;
        assert!(!error.is_transient(), "{url}: {error:?}");
        let said = error.to_string();
        assert!(said.contains("invalid peer certificate"), "{url}: {said}");
        assert!(said.contains(words), "{url}: {said}");
    }
}
