//! What only files can be: missing, foreign, newer, damaged.

use crate::support::{Run, World, abide, chain};

fn run(arguments: &[&str]) -> Run {
    Run::of(&mut abide(arguments), "")
}

#[test]
fn a_database_must_be_there_and_be_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let refuse = |name: &str, part: &str| {
        let path = directory.path().join(name);
        let run = run(&["list", "--db", path.to_str().expect("utf-8")]);
        run.failed_with(1, part);
        assert_eq!(run.err.lines().count(), 1, "{run:?}");
        assert!(run.err.starts_with("error: "), "{run:?}");
    };
    refuse("missing.db", "no such file");
    assert!(!directory.path().join("missing.db").exists());
    refuse("no/where.db", "no/where.db");
    refuse("", "directory");
    std::fs::write(
        directory.path().join("text.db"),
        "just a text, long enough to be looked at ".repeat(50),
    )
    .expect("written");
    refuse("text.db", "is not an Abide database");
    std::fs::write(directory.path().join("empty.db"), "").expect("written");
    refuse("empty.db", "is not an Abide database");
    assert_eq!(
        std::fs::read(directory.path().join("empty.db")).expect("reads"),
        b""
    );
}

/// What stands beside the database, but for what holds no data.
fn logs(path: &std::path::Path) -> Vec<String> {
    let names = ["-wal", "-shm"].map(|suffix| format!("{}{suffix}", path.display()));
    let there = names
        .into_iter()
        .filter(|name| std::fs::exists(name).expect("looks"));
    there.collect()
}

#[tokio::test]
async fn after_a_command_that_nobody_else_was_beside_the_one_file_has_everything() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    let path = world.place.path();
    world.store.close().await;
    assert_eq!(logs(&path), [""; 0]);
    assert_eq!(world.abide(&["signal", "order-1", "approval", "1"]).code, 0);
    assert_eq!(logs(&path), [""; 0]);
    // Also after one that fails.
    assert_eq!(world.abide(&["describe", "order-2"]).code, 3);
    assert_eq!(logs(&path), [""; 0]);
    let copy = path.with_file_name("copy.db");
    std::fs::copy(&path, &copy).expect("copied");
    let sent = run(&[
        "signal",
        "order-1",
        "approval",
        "2",
        "--db",
        copy.to_str().expect("utf-8"),
    ]);
    assert!(
        sent.err.contains("number 2") || sent.out.contains("number 2"),
        "{sent:?}"
    );
}

#[tokio::test]
async fn a_newer_database_asks_for_a_newer_program() {
    let world = World::new().await;
    let path = world.place.path();
    world.store.close().await;
    // The schema's number, `user_version`, stands at offset 60 of the file.
    let mut file = std::fs::read(&path).expect("reads");
    file[60..64].copy_from_slice(&9999_u32.to_be_bytes());
    let newer = path.with_file_name("newer.db");
    std::fs::write(&newer, file).expect("written");
    let run = run(&["list", "--db", newer.to_str().expect("utf-8")]);
    run.failed_with(1, "written by a newer version");
}

#[tokio::test]
async fn no_command_takes_a_database_of_a_build_that_was_never_published() {
    let world = World::new().await;
    let path = world.place.path();
    world.store.close().await;
    let sqlite = rusqlite::Connection::open(&path).expect("opens");
    let earlier = "ALTER TABLE workers DROP COLUMN queues; DROP VIEW abide_schema";
    sqlite.execute_batch(earlier).expect("sound");
    drop(sqlite);
    let before = std::fs::read(&path).expect("reads");
    let db = path.to_str().expect("utf-8");
    for command in [
        &["list"][..],
        &["describe", "order-1"],
        &["signal", "order-1", "approval", "1"],
        &["cancel", "order-1"],
        &["verify"],
    ] {
        let run = run(&[command, &["--db", db]].concat());
        assert_ne!(run.code, 0, "{command:?}: {run:?}");
        assert!(
            run.err.contains("never published") && run.err.contains(db),
            "{command:?}: {run:?}"
        );
    }
    assert_eq!(std::fs::read(&path).expect("reads"), before);
}

#[tokio::test]
async fn a_damaged_file_is_a_finding_not_a_crash() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a", "b"])).await;
    world.run("ship").await;
    let path = world.place.path();
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
