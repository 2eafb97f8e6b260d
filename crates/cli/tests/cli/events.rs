//! `abide events`: history whole, in order, once each; and as it grows.

use std::time::Duration;

use serde_json::Value;

use crate::support::{MINUTE, Running, SECOND, World, chain, held, wide};

fn positions(output: &str) -> Vec<i64> {
    let of = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("JSON");
        event["position"].as_i64().expect("a number")
    };
    output.lines().map(of).collect()
}

fn follow(world: &World, arguments: &[&str]) -> Running {
    Running::new(&mut world.command(&[&["events", "--follow"], arguments].concat()))
}

/// What is left, of a program that has ended well.
fn rest(follower: Running) -> String {
    let (code, rest) = follower.end();
    assert_eq!(code, 0);
    rest
}

#[tokio::test]
async fn history_is_shown_oldest_first() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    let task = world.claim("ship").await;
    world.pass(1_234_000);
    world.complete(held(&task), Some("1")).await;
    let expected = "\
TIME                       EVENT                 NODE   ATTEMPT   STATUS            BY                     DATA
2026-01-15T09:30:00.000Z   execution.created     -      -         Pending           user:ann               {\"instance\":\"order-1\",\"tasks\":1,\"workflow\":1}
2026-01-15T09:30:00.000Z   task.created          a      1         Pending           -
2026-01-15T09:30:00.000Z   task.marked_ready     a      1         Ready             -
2026-01-15T09:30:00.000Z   execution.started     -      -         Running           worker:0000j6hb7h6nw
2026-01-15T09:30:00.000Z   task.claimed          a      1         Running::Active   worker:0000j6hb7h6nw
2026-01-15T09:30:00.000Z   task.started          a      1         Running::Active   worker:0000j6hb7h6nw
2026-01-15T09:30:01.234Z   task.completed        a      1         Completed         worker:0000j6hb7h6nw   {\"output\":{\"len\":1,\"sha256\":\"6b86b273ff34fce19d6b804eff5a3f57\"}}
2026-01-15T09:30:01.234Z   execution.completed   -      -         Completed         -
";
    assert_eq!(world.output(&["events", "order-1"]), expected);
}

#[tokio::test]
async fn filters_choose_events() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a", "bake"])).await;
    world.run("ship").await;
    let kinds = |arguments: &[&str]| -> Vec<String> {
        let events = world.json(&[&["events", "order-1"], arguments].concat());
        let events = events.as_array().expect("an array").iter();
        events
            .map(|event| {
                format!(
                    "{} {}",
                    event["type"].as_str().expect("text"),
                    event["task"]
                )
            })
            .collect()
    };
    assert_eq!(
        kinds(&["--type", "task.completed"]),
        ["task.completed 1", "task.completed 2"]
    );
    assert_eq!(
        kinds(&["--type", "Execution"]),
        [
            "execution.created null",
            "execution.started null",
            "execution.completed null"
        ]
    );
    let of_b = kinds(&["--task", "bake"]);
    assert_eq!(of_b, kinds(&["--task", "2"]));
    assert_eq!(of_b.len(), 5);
    assert_eq!(
        kinds(&[
            "--task",
            "bake",
            "--type",
            "task.started",
            "--type",
            "task.created"
        ]),
        ["task.created 2", "task.started 2"]
    );
    world
        .abide(&["events", "order-1", "--task", "bakr"])
        .failed_with(3, "did you mean `bake`?");
    world
        .abide(&["events", "order-1", "--task", "3"])
        .failed_with(3, "no task `3`");
    world
        .abide(&["events", "order-1", "--type", "task.complete"])
        .failed_with(2, "task.completed");
}

#[tokio::test]
async fn positions_say_where_to_go_on() {
    let mut world = World::new().await;
    let id = world.start("order-1", "ship", &chain(&["a"])).await.id;
    world.run("ship").await;
    let all = world.positions(id).await;
    let names = world.output(&["events", "order-1", "-o", "name"]);
    let expected: String = all.iter().map(|position| format!("{position}\n")).collect();
    assert_eq!(names, expected);
    let after = all[2].to_string();
    let rest = world.output(&["events", "order-1", "--after", &after, "-o", "jsonl"]);
    assert_eq!(positions(&rest), all[3..]);
}

#[tokio::test]
async fn a_follower_gets_each_event_once_while_others_write() {
    let mut world = World::new().await;
    let nodes: Vec<String> = (0..40).map(|number| format!("n{number}")).collect();
    let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
    let id = world.start("order-1", "ship", &chain(&nodes)).await.id;
    let mut follower = follow(&world, &["order-1", "-o", "jsonl"]);
    let mut seen = follower.line();
    // From here on it reads while this process writes, also other executions.
    let other = chain(&["x"]);
    for number in 0..40 {
        let task = world.claim("ship").await;
        world.pass(SECOND);
        world.complete(held(&task), Some("1")).await;
        world
            .start(&format!("other-{number}"), "noise", &other)
            .await;
        world.run("noise").await;
    }
    seen += &rest(follower);
    assert_eq!(positions(&seen), world.positions(id).await);
    let last: Value = serde_json::from_str(seen.lines().last().expect("events")).expect("JSON");
    assert_eq!(last["type"], "execution.completed");
}

#[tokio::test]
async fn an_event_is_written_before_the_next_happens() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a", "b"])).await;
    let mut follower = follow(&world, &["order-1", "--type", "task.completed"]);
    let a = world.claim("ship").await;
    world.complete(held(&a), None).await;
    let heading = follower.line();
    assert!(heading.starts_with("TIME"), "{heading}");
    let cells =
        |line: String| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    assert_eq!(cells(follower.line())[1..3], ["task.completed", "a"]);
    let b = world.claim("ship").await;
    world.complete(held(&b), None).await;
    assert_eq!(cells(follower.line())[1..3], ["task.completed", "b"]);
    assert_eq!(rest(follower), "");
}

#[tokio::test]
async fn a_follower_of_one_task_ends_with_the_execution() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a", "b"])).await;
    let mut follower = follow(&world, &["order-1", "--task", "a", "-o", "jsonl"]);
    let mut seen = follower.line();
    world.run("ship").await;
    seen += &rest(follower);
    let count = seen.lines().count();
    assert_eq!(count, 5, "{seen}");
    assert_eq!(
        seen,
        world.output(&["events", "order-1", "--task", "a", "-o", "jsonl"])
    );
    // It has ended already.
    assert_eq!(
        seen,
        rest(follow(&world, &["order-1", "--task", "a", "-o", "jsonl"]))
    );
}

#[tokio::test]
async fn long_histories_are_read_whole_among_others() {
    let mut world = World::new().await;
    // Alone at first, then one event in very many, then alone again.
    let id = world.start("order-1", "ship", &wide(2500)).await.id;
    let other = world.start("order-2", "noise", &wide(2500)).await.id;
    world.start("order-3", "noise", &wide(2500)).await;
    for task in world.claim_all("ship", 1500).await {
        world.complete(held(&task), None).await;
    }
    let output = world.output(&["events", "order-1", "-o", "name"]);
    let seen: Vec<i64> = output
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    assert_eq!(seen, world.positions(id).await);
    let output = world.output(&["events", "order-2", "-o", "name"]);
    let seen: Vec<i64> = output
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    assert_eq!(seen, world.positions(other).await);
}

#[tokio::test]
async fn a_history_that_was_removed_is_said_to_be() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    world.run("ship").await;
    // On PostgreSQL histories go by the month.
    world.pass(40 * 24 * 60 * MINUTE);
    let pruned = world.store.prune_history(Duration::ZERO).await;
    assert_eq!(pruned.expect("prunes"), 1);
    for arguments in [
        &["events", "order-1"][..],
        &["events", "order-1", "--follow"],
    ] {
        let run = world.abide(arguments);
        assert_eq!((run.code, run.out.as_str()), (0, ""), "{run:?}");
        let words = "the history of order-1/1 was removed on 2026-02-24 09:30:00 UTC";
        assert!(run.err.starts_with(words), "{run:?}");
    }
    let json = world.json(&["describe", "order-1"]);
    assert_eq!(json["history_pruned_at"], "2026-02-24T09:30:00.000000Z");
    let page = world.output(&["describe", "order-1"]);
    assert!(
        page.contains("\nHistory:      removed on 2026-02-24 "),
        "{page}"
    );
}
