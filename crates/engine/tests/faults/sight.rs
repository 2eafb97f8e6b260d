//! What a store holds, read beside the engine.

use std::collections::BTreeMap;

use abide_core::event::EventType;
use abide_store::{Store, StoreOptions, VerifyOptions};
use abide_test_postgres::{check_structures, client};
use tokio_postgres::Client;

/// A look into the store in the schema `abide`.
pub(crate) struct Sight(Client);

impl Sight {
    pub(crate) async fn of(url: &str) -> Sight {
        Sight(client(url).await)
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let row = self.0.query_one(sql, &[]).await.expect("sound");
        row.get(0)
    }

    pub(crate) async fn events(&self, kind: EventType) -> i64 {
        let sql = "SELECT count(*) FROM abide.execution_events WHERE type = ";
        self.number(&format!("{sql}{}", kind.code())).await
    }

    pub(crate) async fn open(&self) -> i64 {
        self.number("SELECT count(*) FROM abide.executions WHERE closed_at IS NULL")
            .await
    }

    pub(crate) async fn ended(&self) -> i64 {
        self.number("SELECT count(*) FROM abide.executions WHERE closed_at IS NOT NULL")
            .await
    }

    /// Deadlocks since the server's statistics begin.
    pub(crate) async fn deadlocks(&self) -> i64 {
        self.number("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
            .await
    }

    /// The execution of each instance; none may have two.
    pub(crate) async fn executions(&self) -> BTreeMap<String, i64> {
        let sql = "SELECT instance, id FROM abide.executions";
        let rows = self.0.query(sql, &[]).await.expect("sound");
        let mut found = BTreeMap::new();
        for row in rows {
            let instance: String = row.get(0);
            let before = found.insert(instance, row.get(1));
            assert_eq!(
                before,
                None,
                "{} has two executions",
                row.get::<_, String>(0)
            );
        }
        found
    }

    /// How many signals each instance was sent.
    pub(crate) async fn signals(&self) -> BTreeMap<String, i64> {
        let sql = "SELECT instance, count(*) FROM abide.signals GROUP BY 1";
        let rows = self.0.query(sql, &[]).await.expect("sound");
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}

/// That the server finds its own tables and indexes whole, where it has the means to look.
pub(crate) async fn check_disk(url: &str) {
    match check_structures(&client(url).await, "abide").await {
        Some(structures) => {
            assert!(structures.tables > 0, "the store is in that schema");
            assert!(structures.damages.is_empty(), "{structures}");
            println!("{structures}");
        }
        None => println!("the server came without amcheck: its structures were not checked"),
    }
}

/// That every invariant holds.
pub(crate) async fn verify(url: &str) {
    let store = Store::open(url, StoreOptions::default()).await;
    let store = store.expect("opens");
    let report = store.verify(VerifyOptions::default()).await.expect("reads");
    store.close().await;
    assert!(report.is_clean(), "{report}");
}
