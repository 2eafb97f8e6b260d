//! `abide wait` and `abide watch`: what they wait for, and how they end.

use abide_core::failure::Failure;

use crate::support::{MINUTE, Run, Running, SECOND, World, chain, held};

#[tokio::test]
async fn waiting_ends_as_the_execution_does() {
    let mut world = World::new().await;
    let graph = chain(&["a"]);
    world.start("good", "ship", &graph).await;
    world.run("ship").await;
    world.start("bad", "ship", &graph).await;
    let task = world.claim("ship").await;
    world.fail(held(&task), Failure::fatal("Io", "gone")).await;
    let check = |arguments: &[&str], code: i32, out: &str| {
        let run = world.abide(&[&["wait"], arguments].concat());
        assert_eq!(
            (run.code, run.out.as_str(), run.err.as_str()),
            (code, out, ""),
            "{arguments:?}"
        );
    };
    check(&["good"], 0, "Completed\n");
    check(&["bad"], 1, "Failed\n");
    check(&["bad", "--for", "failed"], 0, "Failed\n");
    check(&["bad", "--for", "Ended"], 0, "Failed\n");
    check(&["good", "--for", "running"], 0, "Completed\n");
    check(
        &["good", "--for", "cancelled", "--timeout", "1s"],
        1,
        "Completed\n",
    );
}

#[tokio::test]
async fn the_time_is_up_after_the_timeout() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    let run = world.abide(&["wait", "order-1", "--timeout", "50ms"]);
    run.failed_with(124, "order-1 is Pending::Queued");
    assert_eq!(run.out, "Pending::Queued\n");
    world
        .abide(&["wait", "order-1", "--timeout", "0s"])
        .failed_with(124, "the time is up");
    world
        .abide(&["wait", "order-1", "--timeout", "5"])
        .failed_with(2, "did you mean `5s`?");
    world
        .abide(&["wait", "order-2"])
        .failed_with(3, "did you mean `order-1`?");
}

#[tokio::test]
async fn waiting_sees_an_end_that_comes_later() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a", "b"])).await;
    let start = |arguments: &[&str]| Running::new(&mut world.command(arguments));
    let mut follower = start(&["events", "order-1", "--follow", "-o", "name"]);
    let waiting = start(&["wait", "order-1", "-o", "json"]);
    let running = start(&["wait", "order-1", "--for", "running"]);
    // The follower is up, so the others have had their time to begin; it does not matter if not.
    follower.line();
    let task = world.claim("ship").await;
    let (code, status) = running.end();
    assert_eq!((code, status.as_str()), (0, "Running::Active\n"));
    world.complete(held(&task), None).await;
    world.run("ship").await;
    let (code, record) = waiting.end();
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    assert_eq!((code, &record["status"]), (0, &"Completed".into()));
    assert_eq!(follower.end().0, 0);
}

#[tokio::test]
async fn watching_writes_a_line_for_every_change() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a", "b"])).await;
    let task = world.claim("ship").await;
    world
        .progress(held(&task), r#"{"percent":50.0,"step":"reading"}"#)
        .await;
    let mut watch = Running::new(&mut world.command(&["watch", "order-1"]));
    assert_eq!(
        watch.line(),
        "order-1  Running::Active  25%  0/2 tasks  a (50% reading)\n"
    );
    world.pass(SECOND);
    world.complete(held(&task), None).await;
    let task = world.claim("ship").await;
    world.defer(held(&task), "a file").await;
    let mut changed = watch.line();
    // It may have looked in between.
    while !changed.contains("Deferred") {
        changed = watch.line();
    }
    assert_eq!(
        changed,
        "order-1  Running::Deferred  50%  1/2 tasks  b (a file)\n"
    );
    world.fail(held(&task), Failure::fatal("Io", "gone")).await;
    let last = watch.line();
    assert!(
        last.starts_with("order-1  Failed  1/2 tasks completed  in 1.0s"),
        "{last}"
    );
    assert_eq!(watch.end().0, 1);
}

#[tokio::test]
async fn past_runs_tell_about_how_long_it_may_take() {
    let mut world = World::ago(30 * MINUTE).await;
    let graph = chain(&["a"]);
    for number in 0..3 {
        world.start(&format!("past-{number}"), "ship", &graph).await;
        let task = world.claim("ship").await;
        world.pass(10 * MINUTE);
        world.complete(held(&task), None).await;
    }
    world.pass(-5 * MINUTE);
    world.start("order-1", "ship", &graph).await;
    let task = world.claim("ship").await;
    let description = world.output(&["describe", "order-1"]);
    assert!(description.contains("ended), about 4m"), "{description}");
    let left = world.json(&["describe", "order-1"])["left_us"].as_i64();
    assert!(left.is_some_and(|left| left < 5 * MINUTE), "{left:?}");
    let mut watch = Running::new(&mut world.command(&["watch", "order-1"]));
    let line = watch.line();
    assert!(line.contains("0/1 tasks, about 4m"), "{line}");
    world.complete(held(&task), None).await;
    assert_eq!(watch.end().0, 0);
    let ended = world.json(&["describe", "order-1"]);
    assert_eq!(ended["left_us"], serde_json::Value::Null);
}

#[tokio::test]
async fn watching_what_has_ended_shows_how() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    world.run("ship").await;
    let run = world.abide(&["watch", "order-1"]);
    assert_eq!(
        (run.code, run.out.as_str()),
        (0, "order-1  Completed  100%  1/1 tasks  in 0us\n")
    );
    let json = world.json(&["watch", "order-1"]);
    assert_eq!(
        (&json["status"], &json["percent"]),
        (&"Completed".into(), &100.0.into())
    );
    assert_eq!(
        world
            .output(&["watch", "order-1", "-o", "jsonl"])
            .lines()
            .count(),
        1
    );
    Run::of(&mut world.command(&["watch", "nobody"]), "").failed_with(3, "`nobody`");
}

#[tokio::test]
async fn what_waits_for_a_worker_is_said_to() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    world.end_worker().await;
    let mut watch = Running::new(&mut world.command(&["watch", "order-1"]));
    assert_eq!(
        watch.line(),
        "order-1  Pending::Queued  0%  0/1 tasks  no worker is alive\n"
    );
    let run = world.abide(&["wait", "order-1", "--timeout", "0s"]);
    run.failed_with(124, "note: no worker is alive");
    world.output(&["cancel", "order-1"]);
    assert_eq!(watch.end().0, 1);
    let ended = world.abide(&["wait", "order-1", "--for", "cancelled"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    assert_eq!(
        world.json_of_failed(&["watch", "order-1"])["live_workers"],
        0
    );
}
