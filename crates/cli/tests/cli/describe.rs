//! `abide describe`: all about an execution, for people and for machines.

use abide_core::failure::Failure;
use abide_core::payload::Payload;

use crate::support::{MINUTE, SECOND, World, chain, held, wide};

#[tokio::test]
async fn a_waiting_function_shows_what_it_did_and_what_it_waits_for() {
    let mut world = World::ago(10 * MINUTE).await;
    let graph = chain(&["checkout"]);
    let started = world
        .start_with("order-42", "checkout", &graph, |start| {
            start.input = Some(Payload::from_json(r#"{"sum":12.50,"of":"ann"}"#));
            start.tags = Some(r#"["shop"]"#.into());
            start.priority = 3;
        })
        .await;
    let task = world.claim("checkout").await;
    world
        .record(held(&task), 1, "charge", r#"{"paid":true}"#)
        .await;
    world.pass(30 * SECOND);
    world.await_signal(held(&task), 2, "approval", 2).await;
    let id = started.id;
    let output = world.output(&["describe", "order-42"]);
    let lines: Vec<&str> = output
        .lines()
        .filter(|line| {
            let changing = ["Created", "Started", "Durations", "Task times"];
            !changing.iter().any(|label| line.starts_with(label))
        })
        .map(|line| line.split("   9m").next().unwrap_or(line).trim_end())
        .collect();
    let expected = format!(
        "Execution:    {id}
Instance:     order-42 (generation 1)
Workflow:     checkout (version 1.0)
Status:       Running::Deferred
Blocked on:   Signal
Progress:     0% (0/1 tasks ended)
Tasks:        1 Running::Deferred
Priority:     3
Tags:         shop
Input:
  {{
    \"sum\": 12.50,
    \"of\": \"ann\"
  }}
Operations:
OPERATION   KIND     NAME       STATE     DETAIL
1           step     charge     done      {{\"paid\":true}}
2           signal   approval   waiting
Open tasks:
NUMBER   NODE       STATUS              ATTEMPT   QUEUED   ACTIVE   DEFERRED   PROGRESS   DETAIL
1        checkout   Running::Deferred   1         -        30s"
    );
    assert_eq!(lines.join("\n"), expected);
    assert!(output.contains("signal `approval`"), "{output}");
    assert!(output.contains("UTC (10m"), "{output}");
}

#[tokio::test]
async fn what_no_clock_ends_is_shown_without_a_time() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["ship"])).await;
    world.start("order-2", "wait", &chain(&["wait"])).await;
    let task = world.claim("ship").await;
    world.differ(held(&task), "it recorded `pack`").await;
    let task = world.claim("wait").await;
    world.sleep_for_ever(held(&task), 1, "sleep").await;
    world.pass(MINUTE);
    let check = |instance: &str, detail: &str| {
        for command in ["describe", "tasks"] {
            let output = world.output(&[command, instance]);
            assert!(output.contains(&format!(" {detail}\n")), "{output}");
            assert!(!output.contains("(in "), "{output}");
        }
        let json = world.output(&["describe", instance, "-o", "json"]);
        assert!(json.contains("\"wake_at\": null"), "{json}");
        assert!(!json.contains("9223372036854775"), "{json}");
    };
    let code = "code that matches the record: it recorded `pack`";
    check("order-1", code);
    check("order-2", "sleep `sleep`");
    let described = world.output(&["describe", "order-2"]);
    assert!(described.contains("without an end"), "{described}");
}

#[tokio::test]
async fn a_failure_is_shown_with_its_causes() {
    let mut world = World::new().await;
    world
        .start("order-1", "ship", &chain(&["pack", "send"]))
        .await;
    let task = world.claim("ship").await;
    world.pass(2 * SECOND);
    let failure = Failure {
        chain: vec!["connection refused".into(), "os error 111".into()],
        ..Failure::new("Carrier", "no pickup")
    };
    let failure = failure.without_retry("it went on");
    world.fail(held(&task), failure).await;
    let output = world.output(&["describe", "order-1"]);
    for part in [
        "Status:       Failed\n",
        "Progress:     ended with 0/2 tasks completed\n",
        "Tasks:        1 Failed, 1 Skipped\n",
        "Durations:    queued 0us, run 2.0s\n",
        "Error:        Carrier: no pickup\n              caused by: connection refused\n              caused by: os error 111\n              not retried: it went on\n              in task `pack`\n",
        "Failed tasks:\n",
    ] {
        assert!(output.contains(part), "{part:?} in {output}");
    }
    let json = world.json(&["describe", "order-1"]);
    assert_eq!(json["error"]["node"], "pack");
    assert_eq!(json["error"]["chain"][1], "os error 111");
    assert_eq!(json["failed_tasks"][0]["node"], "pack");
    assert_eq!(json["task_counts"][0]["status"], "Failed");
    assert_eq!(json["task_times"]["active_us"], 2 * SECOND);
}

#[tokio::test]
async fn a_large_output_is_cut_for_people_and_whole_for_machines() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    let task = world.claim("ship").await;
    let output =
        serde_json::json!({ "list": (0..500).collect::<Vec<_>>(), "long": "x".repeat(5000) });
    world.complete(held(&task), Some(&output.to_string())).await;
    let shown = world.output(&["describe", "order-1"]);
    assert!(shown.contains("… cut: all 6"), "{shown}");
    assert!(shown.lines().count() < 70, "{shown}");
    assert_eq!(world.json(&["describe", "order-1"])["output"], output);
}

#[tokio::test]
async fn numbers_in_payloads_are_shown_as_they_are_stored() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    let task = world.claim("ship").await;
    let output = r#"{"z":1.10,"a":123456789012345678901234567890}"#;
    world.complete(held(&task), Some(output)).await;
    let line = world.output(&["describe", "order-1", "-o", "jsonl"]);
    assert!(line.contains(output), "{line}");
    let json = world.output(&["describe", "order-1", "-o", "json"]);
    assert!(
        json.contains("\"z\": 1.10,\n    \"a\": 123456789012345678901234567890\n"),
        "{json}"
    );
}

#[tokio::test]
async fn a_store_without_workers_says_why_nothing_happens() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    world.end_worker().await;
    let output = world.output(&["describe", "order-1"]);
    assert!(
        output.contains("Status:       Pending::Queued\n"),
        "{output}"
    );
    assert!(
        output.contains("Note:         no worker is alive"),
        "{output}"
    );
    assert_eq!(world.json(&["describe", "order-1"])["live_workers"], 0);
}

#[tokio::test]
async fn an_id_and_its_instance_name_the_same_execution() {
    let mut world = World::new().await;
    let started = world.start("order/7", "ship", &chain(&["a"])).await;
    let id = started.id.to_string();
    let by_id = world.json(&["describe", &id]);
    for name in ["order/7", "order/7/1", &id.to_uppercase()] {
        assert_eq!(world.json(&["describe", name])["id"], by_id["id"], "{name}");
    }
}

#[tokio::test]
async fn an_ended_execution_waits_for_nothing() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    let task = world.claim("ship").await;
    world.await_sleep(held(&task), 1, MINUTE).await;
    let waiting = world.output(&["describe", "order-1"]);
    assert!(
        waiting.contains("sleep   sleep   waiting   2026-01-15 09:31:00 UTC"),
        "{waiting}"
    );
    world.end_worker().await;
    world.output(&["cancel", "order-1"]);
    let ended = world.output(&["describe", "order-1"]);
    assert!(
        ended.ends_with("1           sleep   sleep   unfinished\n"),
        "{ended}"
    );
    assert!(
        ended.contains("Progress:     ended with 0/1 tasks completed\n"),
        "{ended}"
    );
    let json = world.json(&["describe", "order-1"]);
    assert_eq!(json["operations"][0]["state"], "unfinished");
    assert_eq!(json["percent"], serde_json::Value::Null);
}

#[tokio::test]
async fn the_latest_operations_are_shown_unless_all_are_asked_for() {
    let mut world = World::new().await;
    world.start("order-1", "ship", &chain(&["a"])).await;
    let task = world.claim("ship").await;
    for number in 1..=60 {
        world.record(held(&task), number, "step", "1").await;
    }
    let shown = world.output(&["describe", "order-1"]);
    let rows = |text: &str| text.matches("   step   ").count();
    assert_eq!(rows(&shown), 50, "{shown}");
    assert!(!shown.contains("\n10          step"), "{shown}");
    assert!(shown.contains("\n11          step"), "{shown}");
    assert!(
        shown.contains("\n… and 10 earlier ones: `--limit 0` shows all\n"),
        "{shown}"
    );
    let all = world.output(&["describe", "order-1", "--limit", "0"]);
    assert_eq!(rows(&all), 60, "{all}");
    assert!(!all.contains('…'), "{all}");
    let json = world.json(&["describe", "order-1", "--limit", "1"]);
    assert_eq!(json["operations"].as_array().map(Vec::len), Some(60));
}

#[tokio::test]
async fn more_tasks_than_are_shown_are_counted() {
    let mut world = World::new().await;
    let id = world.start("order-1", "ship", &wide(45)).await.id;
    for task in world.claim_all("ship", 15).await {
        world.fail(held(&task), Failure::fatal("Io", "gone")).await;
    }
    let shown = world.output(&["describe", "order-1"]);
    let open = format!("… and 10 more: `abide tasks {id} --open` lists them\n");
    let failed = format!("… and 5 more: `abide tasks {id} --failed` lists them\n");
    assert!(shown.contains(&open) && shown.contains(&failed), "{shown}");
}
