//! Long chains: what one link costs in the store does not depend on how many came before it.

use abide::{Context, Engine, GraphOf, Input, TaskBuilder, TaskError, WorkflowBuilder};
use serde_json::Value;

/// Bytes of a store in which one chain ran: `keys` is among how many keys the links write in turn.
async fn bytes_of_chain(links: u32, keys: u32) -> u64 {
    // In memory where there is such a place: every link waits for a sync, which says nothing about bytes.
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let directory = directory.expect("a temporary directory");
    let path = directory.path().join("app.db");
    let link = TaskBuilder::new(
        "link",
        async |context: &mut Context<Value>, Input(key): Input<String>| {
            let so_far: u32 = context.get("links")?.unwrap_or(0);
            context.insert("links", so_far + 1)?;
            context.insert(&key, "what this link has to say")?;
            Ok::<_, TaskError>(so_far + 1)
        },
    );
    let spec = WorkflowBuilder::new("chain").task(link).build();
    let spec = spec.expect("one task");
    let mut graph = GraphOf::spec(&spec);
    for number in 0..links {
        let key = format!("key {}", number % keys);
        graph = graph.add(format!("n{number}"), "link", &key);
        if number > 0 {
            graph = graph.edge(format!("n{}", number - 1), format!("n{number}"));
        }
    }
    let url = format!("sqlite:{}", path.display());
    let engine = Engine::builder(url).register_spec(spec).start().await;
    let engine = engine.expect("starts");
    let start = engine.start_named("chain", "chain", &()).graph(graph);
    let run = start.await.expect("a durable start");
    run.result().await.expect("completes");
    let last = engine
        .store()
        .tasks(run.id(), links - 1, 1)
        .await
        .expect("reads");
    assert_eq!(last[0].node, format!("n{}", links - 1));
    engine.shutdown().await;
    engine.store().close().await;
    std::fs::metadata(path).expect("a file").len()
}

/// That twice the links take twice the bytes, and four times four times.
async fn check(shortest: u32, keys: u32) {
    let mut per_link = Vec::new();
    for links in [shortest, 2 * shortest, 4 * shortest] {
        let bytes = bytes_of_chain(links, keys).await;
        println!(
            "{links} links over {keys} keys: {bytes} bytes, {} a link",
            bytes / u64::from(links)
        );
        per_link.push(bytes as f64 / f64::from(links));
    }
    assert!(per_link[2] < 1.15 * per_link[0], "{per_link:?}");
}

#[tokio::test]
async fn a_chain_of_ten_thousand_takes_bytes_in_proportion() {
    check(2500, 20).await;
}

#[tokio::test]
async fn so_does_a_chain_whose_context_grows_with_every_link() {
    check(250, u32::MAX).await;
}
