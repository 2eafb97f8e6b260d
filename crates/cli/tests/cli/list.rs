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
            start.priority = -3;
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
    check(&["--blocked-on", "condition"], &["asleep-1"]);
    check(&["--blocked-on", "SIGNAL"], &[]);
    check(
        &["--blocked-on", "StartTime", "--blocked-on", "worker"],
        &["new-1", "later-1"],
    );
    check(&["--blocked-on", "worker", "--workflow", "ship"], &[]);
    check(&["--workflow", "ship"], &["active-1", "done-1"]);
    check(&["--instance", "a"], &["asleep-1", "active-1"]);
    check(&["--tag", "slow"], &["later-1"]);
    check(&["--priority", "-3"], &["later-1"]);
    check(&["--priority", "..-1"], &["later-1"]);
    check(
        &["--priority", "-2..9", "--workflow", "pay"],
        &["new-1", "asleep-1"],
    );
    check(&["--priority", "1.."], &[]);
    for wrong in ["", "high", "1-2", "0..40000"] {
        let run = world.abide(&["list", "--priority", wrong]);
        run.failed_with(2, "say it like `5`");
    }
    let run = world.abide(&["list", "--priority", "5..3"]);
    run.failed_with(2, "its end is before");
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
async fn what_an_execution_waits_for_is_shown() {
    let mut world = five().await;
    let graph = chain(&["a"]);
    world.start("asks-1", "ask", &graph).await;
    let task = world.claim("ask").await;
    world.await_signal(held(&task), 1, "approval", 1).await;
    let check = |instance: &str, blocked_on: &[&str], cell: &str| {
        let row = world.json(&["list", "--instance", instance])[0].clone();
        assert_eq!(row["blocked_on"], serde_json::json!(blocked_on));
        let description = world.json(&["describe", instance]);
        assert_eq!(description["blocked_on"], row["blocked_on"]);
        let table = world.output(&["list", "--instance", instance]);
        let title = table.find("BLOCKED ON").expect("a column");
        let shown = table.lines().nth(1).expect("a row")[title..].split("   ");
        assert_eq!(shown.map(str::trim).next(), Some(cell), "{table}");
        let page = world.output(&["describe", instance]);
        let line = format!("Blocked on:   {cell}\n");
        assert_eq!(page.contains(&line), !blocked_on.is_empty(), "{page}");
        assert_eq!(page.contains("Blocked on:"), !blocked_on.is_empty());
    };
    check("done-1", &[], "-");
    check("active-1", &[], "-");
    check("asleep-1", &["Condition"], "Condition");
    check("later-1", &["StartTime"], "StartTime");
    check("new-1", &["Worker"], "Worker");
    check("asks-1", &["Signal"], "Signal");
    assert_eq!(instances(&world, &["--blocked-on", "signal"]), ["asks-1"]);
}

#[tokio::test]
async fn a_wrong_value_is_named_with_those_that_can_be_given() {
    let world = World::new().await;
    let run = world.abide(&["list", "--blocked-on", "rain"]);
    run.failed_with(2, "'rain'");
    run.failed_with(2, "--blocked-on");
    let offered = "StartTime, Worker, Retry, Signal, Timer, Condition, Code";
    run.failed_with(2, offered);
    assert!(world.output(&["list", "--help"]).contains(offered));
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
async fn a_cursor_belongs_to_its_filter() {
    let world = five().await;
    let first = world.abide(&["list", "-o", "name", "--limit", "2"]);
    let cursor = first.err.split('`').nth(1).expect("says how to go on");
    let mut arguments = vec!["list", "--workflow", "another"];
    arguments.extend(cursor.split(' '));
    world.abide(&arguments).failed_with(2, "another filter");
    arguments[1..3].copy_from_slice(&["--blocked-on", "worker"]);
    world.abide(&arguments).failed_with(2, "another filter");
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

#[tokio::test]
async fn the_instance_of_a_row_names_that_row_and_no_other() {
    let mut world = World::new().await;
    let graph = chain(&["a"]);
    // Instances that look like another one's generation, or like an execution's id.
    let id = world.start("order", "ship", &graph).await.id.to_string();
    world.run("ship").await;
    for instance in ["order", "order", "order/7", "single", &id] {
        world.start(instance, "ship", &graph).await;
        world.run("ship").await;
    }
    let table = world.output(&["list"]);
    let rows: Vec<(&str, &str)> = table
        .lines()
        .skip(1)
        .map(|row| {
            let mut cells = row.split_whitespace();
            (cells.next().expect("an id"), cells.next().expect("a name"))
        })
        .collect();
    let names: Vec<&str> = rows.iter().map(|(_, name)| *name).collect();
    let of_id = format!("{id}/1");
    let expected = [
        &of_id,
        "single",
        "order/7/1",
        "order/3",
        "order/2",
        "order/1",
    ];
    assert_eq!(names, expected);
    for (id, name) in rows {
        assert_eq!(world.json(&["describe", name])["id"], id, "{name}");
        let page = world.output(&["describe", name]);
        let line = format!("Instance:     {name} (generation ");
        assert!(page.contains(&line), "{page}");
        let watched = world.output(&["watch", name]);
        assert!(watched.starts_with(&format!("{name}  ")), "{watched}");
    }
    let described = world.output(&["describe", "order"]);
    assert!(
        described.contains("order/3 (generation 3 of 3)\n"),
        "{described}"
    );
    assert_eq!(world.json(&["describe", "order/1"])["latest_generation"], 3);
}

#[tokio::test]
async fn a_name_with_two_meanings_is_refused() {
    let mut world = World::new().await;
    let graph = chain(&["a"]);
    let mut ids = Vec::new();
    for instance in ["order", "order", "order/2"] {
        ids.push(world.start(instance, "ship", &graph).await.id);
        world.run("ship").await;
    }
    for command in ["describe", "tasks", "events", "wait", "watch", "cancel"] {
        let run = world.abide(&[command, "order/2"]);
        run.failed_with(4, "two meanings");
        run.failed_with(4, &ids[1].to_string());
        run.failed_with(4, &ids[2].to_string());
    }
    assert_eq!(
        world.json(&["describe", "order/2/1"])["id"],
        ids[2].to_string()
    );
}

#[tokio::test]
async fn a_generation_that_is_not_there_says_which_are() {
    let mut world = World::new().await;
    let graph = chain(&["a"]);
    for instance in ["nop-1", "nop-2", "nop-2", "nop-1/6x"] {
        world.start(instance, "ship", &graph).await;
        world.run("ship").await;
    }
    world
        .abide(&["describe", "nop-1/7"])
        .failed_with(3, "instance `nop-1` exists and has generation 1 only");
    let id = world.json(&["describe", "nop-1"])["id"].clone();
    let id = id.as_str().expect("an id");
    world
        .abide(&["describe", &format!("{id}/1")])
        .failed_with(3, &format!("its execution is {id}"));
    world
        .abide(&["cancel", "nop-2/7"])
        .failed_with(3, "instance `nop-2` exists and has generations 1 to 2");
}

#[tokio::test]
async fn a_long_instance_is_shortened_in_a_table_only() {
    let mut world = World::new().await;
    let long = format!("begin-{}-end", "x".repeat(245));
    let id = world.start(&long, "ship", &chain(&["a"])).await.id;
    let table = world.output(&["list"]);
    let row = table.lines().nth(1).expect("a row");
    let short = format!("begin-{}…{}-end", "x".repeat(14), "x".repeat(15));
    assert!(
        row.starts_with(&format!("{id}   {short}   ship ")),
        "{table}"
    );
    assert_eq!(world.json(&["list"])[0]["instance"], long);
    world
        .abide(&["describe", &short])
        .failed_with(3, "a table shortens long names");
}
