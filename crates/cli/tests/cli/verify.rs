//! `abide verify`: what it finds decides how it ends.

use crate::support::{SECOND, World, chain, held};

async fn world() -> World {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a", "b"])).await;
    let task = world.claim("ship").await;
    world.pass(SECOND);
    world.complete(held(&task), Some("1")).await;
    world
}

#[tokio::test]
async fn a_sound_store_is_clean_also_while_it_is_used() {
    let world = world().await;
    let report = world.output(&["verify"]);
    let lines: Vec<&str> = report.lines().collect();
    assert!(
        lines[0].starts_with("checked 1 executions of 1 instances, 2 tasks, 9 events"),
        "{report}"
    );
    assert_eq!(lines[1..], ["clean: every invariant holds"]);
    assert_eq!(world.output(&["verify", "-o", "name"]), "");
    assert_eq!(
        world.json(&["verify", "--integrity", "quick"])["checked"]["tasks"],
        2
    );
}

#[tokio::test]
async fn what_is_wrong_is_said_and_ends_with_1() {
    let world = world().await;
    let id = world.output(&["list", "-o", "name"]);
    let subject = format!("task {}/1", id.trim());
    let planted = "UPDATE task_executions SET active_us = 7 WHERE number = 1";
    world.place.execute(planted).await;
    let run = world.abide(&["verify"]);
    assert_eq!((run.code, run.err.as_str()), (1, ""), "{run:?}");
    assert!(run.out.starts_with(&format!("I6 {subject}: ")), "{run:?}");
    assert!(run.out.ends_with("violation\n"), "{run:?}");
    let json = world.abide(&["verify", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(
        (json.code, &report["findings"][0]["invariant"]),
        (1, &"I6".into())
    );
    let names = world.abide(&["verify", "-o", "name"]);
    assert_eq!((names.code, names.out), (1, format!("{subject}\n")));
}
