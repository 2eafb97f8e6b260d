//! Feeds: a subscriber that keeps its cursor sees each event once, whoever writes meanwhile, and each execution's in
//! order; on both databases.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use abide_core::graph::{Graph, GraphBuilder, TaskSpec};
use abide_core::ids::{ExecutionId, IdGenerator, VersionId};
use abide_core::kernel::{IfExists, Start};
use abide_core::table::By;
use abide_store::{EventFilter, EventView, Store, StoreError, StoreOptions, WorkflowKind};

const WRITERS: u64 = 4;
const STARTS: u32 = 40;

fn graph() -> Arc<Graph> {
    let mut graph = GraphBuilder::new();
    graph.task(TaskSpec::new("only")).node("only", "only");
    Arc::new(graph.build().expect("a sound graph"))
}

async fn open(url: &str) -> Store {
    let store = Store::open(url, StoreOptions::default()).await;
    store.expect("opens")
}

async fn start_many(url: String, writer: u64, version: VersionId) {
    let (store, graph) = (open(&url).await, graph());
    let mut ids = IdGenerator::new(writer);
    for number in 0..STARTS {
        let start = Start {
            id: ExecutionId(ids.next(store.now())),
            instance: format!("{writer}-{number}").into(),
            workflow: version,
            graph: graph.clone(),
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
        store.start(start).await.expect("starts");
    }
    store.close().await;
}

async fn each_event_comes_once_and_in_order(url: &str) {
    let store = open(url).await;
    let version = store
        .ensure_version("w", "1", WorkflowKind::Graph, graph())
        .await
        .expect("recorded");
    let writers: Vec<_> = (1..=WRITERS)
        .map(|writer| tokio::spawn(start_many(url.to_owned(), writer, version)))
        .collect();
    let mut seen: Vec<EventView> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let written = writers.iter().all(|writer| writer.is_finished());
        let (page, next) = store
            .feed(cursor.as_deref(), &EventFilter::default(), 7)
            .await
            .expect("reads");
        let is_last = page.len() < 7;
        cursor = Some(next);
        seen.extend(page);
        if is_last && written {
            break;
        }
    }
    for writer in writers {
        writer.await.expect("writes");
    }
    // Created and its task created and ready.
    let expected = WRITERS as usize * STARTS as usize * 3;
    assert_eq!(seen.len(), expected);
    let once: HashSet<_> = seen.iter().map(|event| event.position).collect();
    assert_eq!(once.len(), expected, "each once");
    let mut streams: BTreeMap<(ExecutionId, u32), u32> = BTreeMap::new();
    for event in &seen {
        let last = streams.entry((event.execution, event.task)).or_default();
        assert_eq!(event.n, *last + 1, "{event:?}");
        *last = event.n;
    }
}

async fn a_strange_cursor_is_refused_by_name(url: &str) {
    let store = open(url).await;
    let error = store
        .feed(Some("yesterday"), &EventFilter::default(), 7)
        .await
        .expect_err("no cursor");
    assert!(
        matches!(&error, StoreError::Invalid(text) if text.contains("yesterday")),
        "{error}"
    );
}

mod sqlite {
    fn file(directory: &tempfile::TempDir) -> String {
        let path = directory.path().join("store.db");
        path.to_str().expect("utf-8").to_owned()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_event_comes_once_and_in_order() {
        let directory = tempfile::tempdir().expect("a directory");
        super::each_event_comes_once_and_in_order(&file(&directory)).await;
    }

    #[tokio::test]
    async fn a_strange_cursor_is_refused_by_name() {
        let directory = tempfile::tempdir().expect("a directory");
        super::a_strange_cursor_is_refused_by_name(&file(&directory)).await;
    }
}

mod postgres {
    use abide_test_postgres::fresh_schema;

    #[tokio::test(flavor = "multi_thread")]
    async fn each_event_comes_once_and_in_order() {
        let schema = fresh_schema();
        super::each_event_comes_once_and_in_order(&schema.url).await;
    }

    #[tokio::test]
    async fn a_strange_cursor_is_refused_by_name() {
        let schema = fresh_schema();
        super::a_strange_cursor_is_refused_by_name(&schema.url).await;
    }
}
