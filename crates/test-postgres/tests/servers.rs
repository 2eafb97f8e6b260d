//! What the tests of the store rely on: servers that can be killed, started again, and that leave
//! nothing behind.

use abide_test_postgres::{Durability, Server, check_structures, client, fresh_schema};

#[tokio::test]
async fn a_killed_server_is_gone_and_comes_back_with_what_it_acknowledged() {
    let mut server = Server::start(Durability::Full);
    let directory = server.socket_directory().to_owned();
    let url = server.url();
    let first = client(&url).await;
    first
        .batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (7)")
        .await
        .expect("written");
    server.kill();
    let error = first.batch_execute("SELECT 1").await.expect_err("gone");
    assert!(error.as_db_error().is_none(), "{error}");
    assert!(std::net::TcpStream::connect(("127.0.0.1", server.port())).is_err());
    server.restart();
    assert_eq!(server.url(), url);
    let row = client(&url).await.query_one("SELECT n FROM t", &[]).await;
    assert_eq!(row.expect("it is there").get::<_, i32>(0), 7);
    server.stop();
    server.restart();
    client(&url).await;
    drop(server);
    assert!(!directory.exists());
}

#[test]
fn settings_reach_the_server_and_wrong_ones_fail_with_its_log() {
    let failure = std::panic::catch_unwind(|| {
        Server::start_with(Durability::None, &[("max_connections", "many")])
    });
    let message = failure.err().expect("no such number");
    let message = message.downcast_ref::<String>().expect("a text");
    assert!(message.contains("invalid value for parameter"), "{message}");
}

#[tokio::test]
async fn a_schema_is_dropped_with_its_test() {
    let schema = fresh_schema();
    let name = schema.name.clone();
    let client = client(&schema.url).await;
    let sql = format!("CREATE SCHEMA {}", schema.quoted());
    client.batch_execute(&sql).await.expect("created");
    let count = async || {
        let sql = "SELECT count(*) FROM pg_namespace WHERE nspname = $1";
        let row = client.query_one(sql, &[&name]).await;
        row.expect("counted").get::<_, i64>(0)
    };
    assert_eq!(count().await, 1);
    drop(schema);
    assert_eq!(count().await, 0);
}

/// An index goes by a function. Once that puts numbers in another order, the index is in disorder.
const DISORDER: &str = "CREATE SCHEMA s; CREATE TABLE s.t (n int); CREATE INDEX orderly ON s.t (n); \
     CREATE FUNCTION s.compare(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp(a, b)'; \
     CREATE OPERATOR CLASS s.ordered FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, \
     OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 s.compare(int, int); \
     INSERT INTO s.t SELECT generate_series(1, 1000); CREATE INDEX disorderly ON s.t (n s.ordered); \
     CREATE OR REPLACE FUNCTION s.compare(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp(b, a)'";

#[tokio::test]
async fn an_index_in_disorder_is_found() {
    let server = Server::start(Durability::None);
    let client = client(&server.url()).await;
    client.batch_execute(DISORDER).await.expect("made");
    // Some packages come without the extension.
    if let Some(structures) = check_structures(&client, "s").await {
        assert_eq!((structures.indexes, structures.tables), (2, 1));
        let [damage] = &structures.damages[..] else {
            panic!("{structures}");
        };
        assert!(damage.contains("disorderly"), "{damage}");
    }
}
