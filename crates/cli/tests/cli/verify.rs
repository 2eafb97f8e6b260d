//! `abide verify`: what it finds decides how it ends.

use crate::support::{Run, SECOND, World, abide, chain, held};

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
    let connection = rusqlite::Connection::open(world.path()).expect("opens");
    connection
        .execute(
            "UPDATE task_executions SET active_us = 7 WHERE number = 1",
            [],
        )
        .expect("planted");
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

#[tokio::test]
async fn a_damaged_file_is_a_finding_not_a_crash() {
    let world = world().await;
    let path = world.path();
    world.store.close().await;
    let mut file = std::fs::read(&path).expect("reads");
    let half = file.len() / 2;
    for page in file[half..].chunks_mut(512) {
        page[..64].fill(0xa5);
    }
    let damaged = path.with_file_name("damaged.db");
    std::fs::write(&damaged, file).expect("written");
    let damaged = damaged.to_str().expect("utf-8");
    let run = Run::of(&mut abide(&["--db", damaged, "verify"]), "");
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.out.contains("I12 database: "), "{run:?}");
    for command in [
        &["list"][..],
        &["describe", "order-1"],
        &["events", "order-1"],
        &["cancel", "order-1"],
    ] {
        let run = Run::of(abide(command).env("ABIDE_DB", damaged), "");
        assert!([0, 1, 3].contains(&run.code), "{command:?}: {run:?}");
        assert!(!run.err.contains("panicked"), "{run:?}");
    }
}

#[test]
fn what_is_no_store_cannot_be_verified() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("missing.db");
    let path = path.to_str().expect("utf-8");
    Run::of(&mut abide(&["verify", "--db", path]), "").failed_with(1, "missing.db");
    std::fs::write(path, "no database at all, but text").expect("written");
    Run::of(&mut abide(&["verify", "--db", path]), "").failed_with(1, "not an Abide database");
    Run::of(&mut abide(&["verify"]), "").failed_with(2, "--db FILE");
}
