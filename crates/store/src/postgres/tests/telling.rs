//! News that can't be told before an answer.

use abide_core::ids::{ExecutionId, IdGenerator};
use abide_core::kernel::Start;
use abide_test_postgres::{Durability, Server, client};

use super::home::graph;
use crate::views::WorkflowKind;
use crate::{Store, StoreOptions};

#[tokio::test]
async fn who_keeps_the_server_from_telling_news_holds_up_one_answer_and_no_other() {
    let server = Server::start(Durability::None);
    let owner = client(&server.url()).await;
    // Only the commit of whoever asks for it waits for a standby.
    for sql in [
        "ALTER ROLE CURRENT_USER SET synchronous_commit = 'local'",
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
        "SELECT pg_reload_conf()",
    ] {
        owner.batch_execute(sql).await.expect("sound");
    }
    let store = Store::open(&server.url(), StoreOptions::default()).await;
    let store = store.expect("opens");
    let graph = graph(&["a"], &[]);
    let version = store.ensure_version("flow", "1", WorkflowKind::Graph, graph.clone());
    let version = version.await.expect("recorded");
    let mut ids = IdGenerator::new(1);
    let mut start = async |instance: &str| {
        let before = store.stats().round_trips;
        let id = ExecutionId(ids.next(store.now()));
        let start = Start::of(id, instance, version, &graph);
        store.start(start).await.expect("it is committed");
        store.stats().round_trips - before
    };
    let told = start("told").await;
    let other = client(&server.url()).await;
    let holding = tokio::spawn(async move {
        // The server's settings are read again some time after they were changed.
        loop {
            let sql = "SET synchronous_commit = 'on'; NOTIFY somebody";
            other.batch_execute(sql).await.expect("sound");
        }
    });
    let waiting = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    while owner
        .query_opt(waiting, &[])
        .await
        .expect("sound")
        .is_none()
    {
        assert!(!holding.is_finished());
    }
    assert_eq!(start("not told").await, told, "it was tried");
    let mut others = 0;
    while start(&format!("other {others}")).await == told {
        others += 1;
        assert!(others < 5, "each waits for the lock");
    }
    assert!(!holding.is_finished(), "it is held all the while");
    holding.abort();
}
