//! `abide signal`, `abide cancel` and `abide priority`: what is written, what is refused.

use crate::support::{Run, World, chain, held};

fn last_event(world: &World, instance: &str) -> serde_json::Value {
    let events = world.json(&["events", instance]);
    events
        .as_array()
        .and_then(|events| events.last().cloned())
        .expect("events")
}

#[tokio::test]
async fn a_signal_reaches_the_task_that_waits_for_it() {
    let mut world = World::new().await;
    let id = world.start("order-1", "ship", &chain(&["a"])).await.id;
    let task = world.claim("ship").await;
    world.await_signal(held(&task), 1, "approval", 1).await;
    let sent = world.output(&[
        "signal",
        "order-1",
        "approval",
        "{\"ok\" : true,\n \"sum\":1.50}",
    ]);
    assert_eq!(
        sent,
        format!("order-1/1 ({id}): sent `approval` number 1\n")
    );
    let task = world.claim("ship").await;
    world.await_signal(held(&task), 1, "approval", 1).await;
    let steps = world.store.steps(task.task.key).await.expect("reads");
    let received = match &steps[0].end {
        abide_core::step::StepEnd::Done(payload) => payload.as_str(),
        other => panic!("nothing was received: {other:?}"),
    };
    assert_eq!(received, r#"{"ok":true,"sum":1.50}"#);
}

#[tokio::test]
async fn a_payload_comes_from_an_argument_a_file_or_standard_input() {
    let mut world = World::new().await;
    let id = world.start("order-1", "ship", &chain(&["a"])).await.id;
    let file = world.place.file("payload.json");
    std::fs::write(&file, "[1, 2]\n").expect("written");
    let at_file = format!("@{}", file.display());
    let numbers: Vec<i64> = [&["s"][..], &["s", "-1"], &["s", &at_file], &["s", "-"]]
        .iter()
        .map(|payload| {
            let arguments = [&["signal", "order-1", "-o", "json"], *payload].concat();
            let run = Run::of(&mut world.command(&arguments), "{\"from\": \"stdin\"}");
            assert_eq!((run.code, run.err.as_str()), (0, ""), "{payload:?}");
            let answer: serde_json::Value = serde_json::from_str(&run.out).expect("JSON");
            assert_eq!(answer["execution"], id.to_string());
            answer["number"].as_i64().expect("a number")
        })
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_payload_that_is_no_json_is_not_sent() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    let refuse = |payload: &str, part: &str| {
        world
            .abide(&["signal", "order-1", "s", payload])
            .failed_with(2, part);
    };
    refuse("approved", "for a string, say '\"approved\"'");
    refuse("{\"a\":", "is not JSON");
    refuse("", "is not JSON");
    refuse("1 2", "is not JSON");
    refuse("\"\\u0000\"", "NUL");
    refuse("\"\\ud800\"", "surrogate");
    refuse("@/nowhere/file.json", "cannot read `/nowhere/file.json`");
    let large = world.place.file("large.json");
    std::fs::write(&large, format!("\"{}\"", "x".repeat(5_000_000))).expect("written");
    refuse(&format!("@{}", large.display()), "limit");
    world
        .abide(&["signal", "order-1", "", "1"])
        .failed_with(2, "empty");
    let sent = world.output(&["signal", "order-1", "s", "1"]);
    assert!(
        sent.ends_with("number 1\n"),
        "nothing was sent before: {sent}"
    );
}

#[tokio::test]
async fn signals_to_nobody_and_to_what_has_ended_are_refused() {
    let mut world = World::new().await;
    let graph = chain(&["a"]);
    let first = world.start("order-1", "ship", &graph).await.id.to_string();
    world.run("ship").await;
    world
        .abide(&["signal", "nobody", "s"])
        .failed_with(3, "`nobody`");
    world
        .abide(&["signal", "order-1", "s"])
        .failed_with(4, "has ended (Completed)");
    world.start("order-1", "ship", &graph).await;
    world
        .abide(&["signal", &first, "s"])
        .failed_with(4, "not the latest execution");
    world.output(&["signal", "order-1", "s"]);
}

#[tokio::test]
async fn cancelling_a_stopped_system_ends_the_execution_at_once() {
    let mut world = World::new().await;
    let id = world.start("order-1", "ship", &chain(&["a", "b"])).await.id;
    world.end_worker().await;
    let arguments = [
        "cancel",
        "order-1",
        "--reason",
        "wrong size",
        "--actor",
        "user:bob",
    ];
    assert_eq!(
        world.output(&arguments),
        format!("order-1/1 ({id}): Cancelled\n")
    );
    assert_eq!(
        world.output(&arguments),
        format!("order-1/1 ({id}): Cancelled (unchanged)\n")
    );
    let json = world.json(&["describe", "order-1"]);
    assert_eq!(
        (&json["status"], &json["reason"]),
        (&"Cancelled".into(), &"wrong size".into())
    );
    let event = last_event(&world, "order-1");
    assert_eq!(event["actor"], "user:bob");
    assert_eq!(event["data"]["reason"], "wrong size");
}

#[tokio::test]
async fn cancelling_tells_running_tasks_first() {
    let mut world = World::new().await;
    let id = world.start("order-1", "ship", &chain(&["a", "b"])).await.id;
    world.claim("ship").await;
    let name = id.to_string();
    let answer = world.json(&["cancel", &name, "--yes", "--grace", "1h"]);
    assert_eq!(
        (&answer["status"], &answer["changed"]),
        (&"Cancelling".into(), &true.into())
    );
    let again = world.json(&["cancel", &name]);
    assert_eq!(
        (&again["status"], &again["changed"]),
        (&"Cancelling".into(), &false.into())
    );
    let cancelling = world.json(&["events", &name, "--type", "execution.cancelling"]);
    assert_eq!(cancelling[0]["actor"], "user:ann");
}

#[tokio::test]
async fn what_has_ended_otherwise_cannot_be_cancelled() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    world.run("ship").await;
    world
        .abide(&["cancel", "order-1"])
        .failed_with(4, "Completed");
    world
        .abide(&["cancel", "nobody"])
        .failed_with(3, "`nobody`");
    world
        .abide(&["cancel", "order-1", "--reason", " "])
        .failed_with(2, "--reason");
    world
        .abide(&["cancel", "order-1", "--actor", ""])
        .failed_with(2, "--actor");
}

#[tokio::test]
async fn another_priority_is_set_and_said() {
    let mut world = World::new().await;
    let graph = chain(&["a"]);
    let id = world.start("order-1", "ship", &graph).await.id;
    let arguments = ["priority", "order-1", "-5", "--reason", "can wait"];
    assert_eq!(
        world.output(&arguments),
        format!("order-1/1 ({id}): priority -5\n")
    );
    assert_eq!(
        world.output(&arguments),
        format!("order-1/1 ({id}): priority -5 (unchanged)\n")
    );
    assert_eq!(world.json(&["describe", "order-1"])["priority"], -5);
    let event = last_event(&world, "order-1");
    assert_eq!(event["type"], "execution.priority_changed");
    assert_eq!(event["actor"], "user:ann");
    assert_eq!(
        event["data"],
        serde_json::json!({"reason": "can wait", "from": 0, "to": -5})
    );
    let answer = world.json(&["priority", "order-1", "7", "--actor", "user:bob"]);
    assert_eq!(
        (&answer["status"], &answer["changed"]),
        (&"Pending".into(), &true.into())
    );
    assert_eq!(last_event(&world, "order-1")["actor"], "user:bob");
    world.run("ship").await;
    world
        .abide(&["priority", "order-1", "7"])
        .failed_with(4, "is Completed: an ended execution can't be given");
    world
        .abide(&["priority", "order-1", "40000"])
        .failed_with(2, "40000");
}

#[tokio::test]
async fn actions_on_a_bare_instance_say_which_generation_they_acted_on() {
    let mut world = World::new().await;
    let graph = chain(&["a"]);
    world.start("order-1", "ship", &graph).await;
    world.run("ship").await;
    let second = world.start("order-1", "ship", &graph).await.id;
    assert_eq!(
        world.output(&["signal", "order-1", "s"]),
        format!("order-1/2 ({second}): sent `s` number 1\n")
    );
    assert_eq!(
        world.json(&["signal", "order-1", "s"])["generation"],
        2,
        "also for machines"
    );
    world.end_worker().await;
    assert_eq!(
        world.output(&["cancel", "order-1"]),
        format!("order-1/2 ({second}): Cancelled\n")
    );
    world
        .abide(&["signal", "order-1", "s"])
        .failed_with(4, &format!("order-1/2 ({second}) has ended (Cancelled)"));
    world
        .abide(&["cancel", "order-1/1"])
        .failed_with(4, "order-1/1 (");
}

#[tokio::test]
async fn an_actor_without_a_name_in_the_environment_is_found_otherwise() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    world.claim("ship").await;
    let act = |change: fn(&mut std::process::Command)| {
        let mut command = world.command(&["cancel", "order-1", "--grace", "1h"]);
        change(command.env_remove("USER"));
        assert_eq!(Run::of(&mut command, "").code, 0);
    };
    act(|command| {
        command.env("USER", "").env("LOGNAME", "bob");
    });
    let cancelling = world.json(&["events", "order-1", "--type", "execution.cancelling"]);
    assert_eq!(cancelling[0]["actor"], "user:bob");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_actor_without_any_name_is_the_user_of_the_process() {
    use std::os::unix::fs::MetadataExt;

    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    world.claim("ship").await;
    let mut command = world.command(&["cancel", "order-1", "--grace", "1h"]);
    assert_eq!(Run::of(command.env_remove("USER"), "").code, 0);
    let cancelling = world.json(&["events", "order-1", "--type", "execution.cancelling"]);
    let actor = cancelling[0]["actor"]
        .as_str()
        .expect("an actor")
        .to_owned();
    assert_ne!(actor, "user:unknown");
    let uid = std::fs::metadata("/proc/self").expect("reads").uid();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let is_own = |line: &&str| line.split(':').nth(2) == Some(&uid.to_string());
    let name = users
        .lines()
        .find(is_own)
        .and_then(|line| line.split(':').next());
    let expected = name.map_or(format!("uid:{uid}"), |name| format!("user:{name}"));
    assert_eq!(actor, expected);
}
