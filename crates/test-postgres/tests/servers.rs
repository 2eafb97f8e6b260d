//! What the tests of the store rely on: servers that can be killed, started again, and that leave
//! nothing behind.

use abide_test_postgres::{Durability, Server, client, fresh_schema};

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
