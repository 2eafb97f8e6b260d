//! Histories that go: those of executions that ended long enough ago, whole, and no others; on both databases.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use abide_core::graph::{Graph, GraphBuilder, TaskSpec};
use abide_core::ids::{ExecutionId, IdGenerator, Timestamp, VersionId};
use abide_core::kernel::{Cancel, IfExists, Start};
use abide_core::table::By;
use abide_store::{EventFilter, Store, StoreOptions, VerifyOptions, WorkflowKind};

const DAY: Duration = Duration::from_secs(86_400);
/// The middle of January 2026.
const BEGIN: Timestamp = Timestamp(1_768_500_000_000_000);

struct Home {
    store: Store,
    clock: Arc<AtomicI64>,
    ids: IdGenerator,
    graph: Arc<Graph>,
    version: VersionId,
}

impl Home {
    async fn new(url: &str) -> Home {
        let clock = Arc::new(AtomicI64::new(BEGIN.0));
        let now = clock.clone();
        let options = StoreOptions {
            now: Some(Arc::new(move || Timestamp(now.load(Ordering::SeqCst)))),
            ..StoreOptions::default()
        };
        let store = Store::open(url, options).await.expect("opens");
        let mut graph = GraphBuilder::new();
        graph.task(TaskSpec::new("only")).node("only", "only");
        let graph = Arc::new(graph.build().expect("a sound graph"));
        let version = store
            .ensure_version("w", "1", WorkflowKind::Graph, graph.clone())
            .await
            .expect("recorded");
        Home {
            store,
            clock,
            ids: IdGenerator::new(1),
            graph,
            version,
        }
    }

    fn pass(&self, time: Duration) {
        let us = time.as_micros() as i64;
        self.clock.fetch_add(us, Ordering::SeqCst);
    }

    async fn start(&mut self, instance: &str) -> ExecutionId {
        let start = Start {
            id: ExecutionId(self.ids.next(self.store.now())),
            instance: instance.into(),
            workflow: self.version,
            graph: self.graph.clone(),
            own_graph: false,
            input: None,
            node_inputs: Vec::new(),
            input_hash: "same".into(),
            if_exists: IfExists::UseExisting,
            priority: 0,
            start_at: None,
            deadline_at: None,
            tags: None,
            by: By::User,
            actor: None,
            offer: None,
        };
        self.store.start(start).await.expect("starts").id
    }

    async fn end(&self, execution: ExecutionId) {
        let cancel = Cancel {
            execution,
            reason: "test".into(),
            grace_us: 0,
            actor: None,
        };
        self.store.cancel(cancel).await.expect("ends");
    }

    async fn events(&self, execution: ExecutionId) -> usize {
        let filter = EventFilter {
            execution: Some(execution),
            task: None,
        };
        let events = self.store.events(&filter, 0, 100).await;
        events.expect("reads").len()
    }

    async fn check_clean(&self) {
        let report = self.store.verify(VerifyOptions::default()).await;
        let report = report.expect("reads");
        assert!(report.is_clean(), "{report}");
    }
}

async fn only_old_histories_go(url: &str) {
    let mut home = Home::new(url).await;
    let old = home.start("old").await;
    home.end(old).await;
    home.pass(60 * DAY);
    let young = home.start("young").await;
    home.end(young).await;
    let had = home.events(young).await;

    assert_eq!(home.store.prune_history(90 * DAY).await.expect("prunes"), 0);
    assert_eq!(home.events(old).await, had);
    assert_eq!(home.store.prune_history(30 * DAY).await.expect("prunes"), 1);
    assert_eq!((home.events(old).await, home.events(young).await), (0, had));
    assert_eq!(home.store.prune_history(30 * DAY).await.expect("prunes"), 0);

    let again = home.start("old").await;
    assert_eq!(again, old, "its instance is remembered");
    home.check_clean().await;
}

async fn what_is_open_keeps_its_history(url: &str) {
    let mut home = Home::new(url).await;
    let open = home.start("open").await;
    let had = home.events(open).await;
    home.pass(400 * DAY);
    assert_eq!(home.store.prune_history(DAY).await.expect("prunes"), 0);
    assert_eq!(home.events(open).await, had);
    home.end(open).await;
    assert_eq!(
        home.store.prune_history(DAY).await.expect("prunes"),
        0,
        "it has only just ended"
    );
    home.pass(2 * DAY);
    assert_eq!(home.store.prune_history(DAY).await.expect("prunes"), 1);
    home.check_clean().await;
}

mod sqlite {
    fn file(directory: &tempfile::TempDir) -> String {
        let path = directory.path().join("store.db");
        path.to_str().expect("utf-8").to_owned()
    }

    #[tokio::test]
    async fn only_old_histories_go() {
        let directory = tempfile::tempdir().expect("a directory");
        super::only_old_histories_go(&file(&directory)).await;
    }

    #[tokio::test]
    async fn what_is_open_keeps_its_history() {
        let directory = tempfile::tempdir().expect("a directory");
        super::what_is_open_keeps_its_history(&file(&directory)).await;
    }
}

mod postgres {
    use abide_test_postgres::fresh_schema;

    #[tokio::test]
    async fn only_old_histories_go() {
        let schema = fresh_schema();
        super::only_old_histories_go(&schema.url).await;
    }

    #[tokio::test]
    async fn what_is_open_keeps_its_history() {
        let schema = fresh_schema();
        super::what_is_open_keeps_its_history(&schema.url).await;
    }
}
