//! `abide stats`: the queue, the workers and the size of a store.

use crate::support::{SECOND, World, chain};

#[tokio::test]
async fn ready_tasks_are_counted_by_workflow() {
    let mut world = World::ago(60 * SECOND).await;
    let graph = chain(&["a", "b"]);
    world.start("one", "ship", &graph).await;
    world.start("two", "ship", &graph).await;
    world.start("done", "pay", &graph).await;
    world.run("pay").await;
    let stats = world.json(&["stats"]);
    assert_eq!(stats["ready_tasks"], 2);
    assert!(stats["oldest_ready_us"].as_i64() >= Some(60 * SECOND));
    assert!(stats["bytes"].as_u64() > Some(0));
    for key in ["tables", "deadlocks", "oldest_snapshot_us"] {
        assert!(stats.get(key).is_some(), "{key}");
    }
    let queues = stats["queues"].as_array().expect("an array");
    assert_eq!(queues.len(), 1, "nothing is open of `pay`");
    assert_eq!(queues[0]["workflow"], "ship");
    assert_eq!(queues[0]["open_executions"], 2);
    assert_eq!(queues[0]["ready_tasks"], 2);
}

#[tokio::test]
async fn people_read_a_table() {
    let mut world = World::ago(60 * SECOND).await;
    world.start("one", "ship", &chain(&["a"])).await;
    let text = world.output(&["stats"]);
    assert!(
        text.contains("ready tasks       1, the oldest for 1m"),
        "{text}"
    );
    assert!(text.contains("WORKFLOW"), "{text}");
}
