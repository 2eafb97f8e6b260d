//! `abide tasks`: a row for each task, and which of them.

use abide_core::failure::Failure;

use crate::support::{SECOND, World, chain, held, wide};

fn nodes(world: &World, arguments: &[&str]) -> Vec<String> {
    let rows = world.json(&[&["tasks", "order-1"], arguments].concat());
    let rows = rows.as_array().expect("an array").iter();
    rows.map(|row| row["node"].as_str().expect("a text").to_owned())
        .collect()
}

#[tokio::test]
async fn a_task_is_shown_with_its_times_progress_and_error() {
    let mut world = World::new().await;
    world
        .start("order-1", "ship", &chain(&["a", "b", "c"]))
        .await;
    let a = world.claim("ship").await;
    world.pass(2 * SECOND);
    world.complete(held(&a), None).await;
    let b = world.claim("ship").await;
    world.pass(SECOND);
    let report = r#"{"percent":42.9,"completed":3,"total":7,"step":"parsing"}"#;
    world.progress(held(&b), report).await;
    world.fail(held(&b), Failure::new("Io", "gone")).await;
    let table = world.output(&["tasks", "order-1"]);
    let (heading, rows) = table.split_once('\n').expect("rows");
    let headings = "NUMBER NODE STATUS ATTEMPT QUEUED ACTIVE DEFERRED PROGRESS DETAIL";
    assert_eq!(
        heading.split_whitespace().collect::<Vec<_>>().join(" "),
        headings
    );
    let rows: Vec<Vec<&str>> = rows
        .lines()
        .map(|row| {
            row.split("   ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(rows[0], ["1", "a", "Completed", "1", "-", "2.0s", "-", "-"]);
    // Its retry has long been due.
    assert_eq!(rows[1][..4], ["2", "b", "Ready", "2"]);
    assert_eq!(
        rows[1][7..],
        ["42% (3/7) parsing", "a worker's free slot, after Io: gone"]
    );
    assert_eq!(rows[2][..4], ["3", "c", "Pending", "1"]);
    assert_eq!(rows[2][7..], ["-", "1 dependency"]);
    let json = &world.json(&["tasks", "order-1"])[1];
    assert_eq!(json["active_us"], SECOND);
    assert_eq!(json["retry_wait_us"], 10 * SECOND);
    assert_eq!(json["error"]["message"], "gone");
    assert_eq!(json["progress"]["step"], "parsing");
}

#[tokio::test]
async fn filters_choose_tasks() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &wide(4)).await;
    let claimed = world.claim_all("ship", 3).await;
    world.complete(held(&claimed[0]), None).await;
    world
        .fail(held(&claimed[1]), Failure::new("Io", "gone"))
        .await;
    world.defer(held(&claimed[2]), "a file").await;
    let check = |arguments: &[&str], expected: &[&str]| {
        assert_eq!(nodes(&world, arguments), expected, "{arguments:?}");
    };
    check(&[], &["node:1", "node:2", "node:3", "node:4"]);
    check(&["--failed"], &["node:2"]);
    check(&["--open"], &["node:3", "node:4"]);
    check(&["--status", "deferred"], &["node:3"]);
    check(
        &["--status", "ready", "--status", "completed"],
        &["node:1", "node:4"],
    );
    check(
        &["--failed", "--status", "Running::Deferred"],
        &["node:2", "node:3"],
    );
    check(&["--node", "node:4"], &["node:4"]);
    check(&["--after", "2"], &["node:3", "node:4"]);
    let limited = world.abide(&["tasks", "order-1", "-n", "1", "--after", "1", "-o", "name"]);
    assert!(limited.out.ends_with("/2\n"), "{limited:?}");
    assert!(limited.err.contains("`--after 2`"), "{limited:?}");
    let none = world.abide(&["tasks", "order-1", "--status", "skipped", "-o", "json"]);
    assert_eq!(
        (none.out.as_str(), none.err.as_str()),
        ("[]\n", "no tasks match\n")
    );
}

#[tokio::test]
async fn a_large_graph_is_listed_whole_and_in_order() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &wide(3000)).await;
    let lines = world.output(&["tasks", "order-1", "-o", "jsonl"]);
    for (line, number) in lines.lines().zip(1_u32..) {
        let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(row["number"], number);
    }
    assert_eq!(lines.lines().count(), 3000);
    // Portions of a table keep one heading and its columns.
    let table = world.output(&["tasks", "order-1"]);
    assert_eq!(table.lines().count(), 3001);
    let rows: Vec<&str> = table.lines().skip(1).collect();
    assert!(
        rows[2999].starts_with("3000     node:3000   Ready"),
        "{}",
        rows[2999]
    );
    let array = world.json(&["tasks", "order-1"]);
    assert_eq!(array.as_array().map(Vec::len), Some(3000));
}

#[tokio::test]
async fn a_completed_task_shows_neither_99_percent_nor_an_old_error() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    let first = world.claim("ship").await;
    world.fail(held(&first), Failure::new("Io", "gone")).await;
    world.pass(20 * SECOND);
    world.store.fire_timers(10).await.expect("fires");
    let second = world.claim("ship").await;
    let running = world.output(&["tasks", "order-1"]);
    assert!(running.ends_with("   after Io: gone\n"), "{running}");
    let report = r#"{"percent":99.0,"completed":10,"total":10,"step":"last"}"#;
    world.progress(held(&second), report).await;
    world.complete(held(&second), None).await;
    let table = world.output(&["tasks", "order-1"]);
    assert!(table.ends_with("   100% (10/10) last\n"), "{table}");
    let json = &world.json(&["tasks", "order-1"])[0];
    assert_eq!(json["error"], serde_json::Value::Null);
    assert_eq!(json["progress"]["percent"], 100.0);
    assert_eq!(json["progress"]["total"], 10);
    let history = world.output(&["events", "order-1", "--type", "task.failed"]);
    assert!(history.contains("gone"), "it is in history: {history}");
}
