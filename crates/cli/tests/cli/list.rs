//! `abide list`: what it leaves out, and where it goes on.

use crate::support::{MINUTE, SECOND, World, chain, held};

fn instances(world: &World, arguments: &[&str]) -> Vec<String> {
    let rows = world.json(&[&["list"], arguments].concat());
    let rows = rows.as_array().expect("an array").iter();
    rows.map(|row| row["instance"].as_str().expect("a text").to_owned())
        .collect()
}

/// Five executions in different states, the last one minutes after the others.
async fn five() -> World {
    let mut world = World::ago(60 * MINUTE + 30 * SECOND).await;
    let graph = chain(&["a", "b"]);
    world.start("done-1", "ship", &graph).await;
    world.run("ship").await;
    world.start("active-1", "ship", &graph).await;
    world.claim("ship").await;
    world.start("asleep-1", "pay", &graph).await;
    let task = world.claim("pay").await;
    world.defer(held(&task), "a file").await;
    world
        .start_with("later-1", "pay", &graph, |start| {
            start.start_at = Some(abide_core::ids::Timestamp(4_000_000_000_000_000));
            start.tags = Some(r#"["night","slow"]"#.into());
        })
        .await;
    world.pass(50 * MINUTE);
    world.start("new-1", "pay", &graph).await;
    world
}

#[tokio::test]
async fn the_newest_comes_first() {
    let world = five().await;
    let all = ["new-1", "later-1", "asleep-1", "active-1", "done-1"];
    assert_eq!(instances(&world, &[]), all);
    let names = ["-o", "name"];
    let ls = world.output(&["ls", names[0], names[1]]);
    assert_eq!(ls, world.output(&["list", names[0], names[1]]));
}

#[tokio::test]
async fn filters_hold_together() {
    let world = five().await;
    let check = |arguments: &[&str], expected: &[&str]| {
        if expected.is_empty() {
            let run = world.abide(&[&["list", "-o", "name"], arguments].concat());
            assert_eq!((run.code, run.out.as_str()), (0, ""), "{arguments:?}");
        } else {
            assert_eq!(instances(&world, arguments), expected, "{arguments:?}");
        }
    };
    check(&["--status", "completed"], &["done-1"]);
    check(&["--status", "RUNNING"], &["asleep-1", "active-1"]);
    check(&["--status", "deferred"], &["asleep-1"]);
    check(&["--status", "Running::Active"], &["active-1"]);
    check(&["--status", "scheduled"], &["later-1"]);
    check(&["-s", "queued", "-s", "completed"], &["new-1", "done-1"]);
    check(&["--workflow", "ship"], &["active-1", "done-1"]);
    check(&["--instance", "a"], &["asleep-1", "active-1"]);
    check(&["--tag", "slow"], &["later-1"]);
    check(&["--since", "30m"], &["new-1"]);
    check(
        &["--until", "30m", "--workflow", "pay"],
        &["later-1", "asleep-1"],
    );
    check(&["--since", "2h", "--until", "2020-01-01"], &[]);
    check(&["--status", "failed"], &[]);
    check(&["--instance", "%"], &[]);
}

#[tokio::test]
async fn what_a_list_says_a_description_says() {
    let world = five().await;
    for row in world.json(&["list"]).as_array().expect("an array") {
        let id = row["id"].as_str().expect("a text");
        let description = world.json(&["describe", id]);
        for (name, value) in row.as_object().expect("an object") {
            let runs =
                matches!(name.as_str(), "queued_us" | "run_us") && row["closed_at"].is_null();
            if !runs {
                assert_eq!(&description[name], value, "{name} of {id}");
            }
        }
    }
}

#[tokio::test]
async fn pages_go_on_from_the_cursor() {
    let world = five().await;
    let first = world.abide(&["list", "-o", "name", "--limit", "2"]);
    assert_eq!(first.out.lines().count(), 2);
    let cursor = first.err.split('`').nth(1).expect("says how to go on");
    assert!(cursor.starts_with("--cursor "), "{}", first.err);
    let mut arguments = vec!["list", "-o", "name"];
    arguments.extend(cursor.split(' '));
    let rest = world.output(&arguments);
    assert_eq!(first.out + &rest, world.output(&["list", "-o", "name"]));
}

#[tokio::test]
async fn a_page_that_is_just_full_is_the_last() {
    let world = five().await;
    let exact = world.output(&["list", "-o", "name", "--limit", "5"]);
    assert_eq!(exact, world.output(&["list", "-o", "name", "--limit", "0"]));
    let active = ["list", "-o", "name", "--status", "deferred", "--limit", "1"];
    assert_eq!(world.output(&active).lines().count(), 1);
}

#[tokio::test]
async fn more_than_one_page_of_the_store_is_listed() {
    let mut world = World::new().await;
    let graph = chain(&["a"]);
    for number in 0..450 {
        world.start(&format!("i{number}"), "ship", &graph).await;
    }
    let names = world.output(&["list", "-o", "name", "-n", "0"]);
    assert_eq!(names.lines().count(), 450);
    let run = world.abide(&["list", "-o", "name"]);
    assert_eq!(run.out.lines().count(), 50);
    assert!(run.err.contains("there are more"), "{run:?}");
}

#[tokio::test]
async fn later_generations_say_so() {
    let mut world = World::new().await;
    let graph = chain(&["a"]);
    for _ in 0..2 {
        world.start("order", "ship", &graph).await;
        world.run("ship").await;
    }
    let table = world.output(&["list"]);
    assert!(table.contains("order/2 "), "{table}");
    let first = world.json(&["describe", "order/1"]);
    assert_eq!(first["generation"], 1);
    assert_eq!(world.json(&["describe", "order"])["generation"], 2);
    world
        .abide(&["describe", "order/3"])
        .failed_with(3, "`order/3`");
}
