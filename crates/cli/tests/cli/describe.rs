//! `abide describe`: all about an execution, for people and for machines.

use abide_core::failure::Failure;
use abide_core::payload::Payload;

use crate::support::{MINUTE, SECOND, World, chain, held};

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
async fn a_failure_is_shown_with_its_causes() {
    let mut world = World::new().await;
    world
        .start("order-1", "ship", &chain(&["pack", "send"]))
        .await;
    let task = world.claim("ship").await;
    world.pass(2 * SECOND);
    let failure = Failure {
        chain: vec!["connection refused".into(), "os error 111".into()],
        ..Failure::fatal("Carrier", "no pickup")
    };
    world.fail(held(&task), failure).await;
    let output = world.output(&["describe", "order-1"]);
    for part in [
        "Status:       Failed\n",
        "Progress:     50% (2/2 tasks ended)\n",
        "Tasks:        1 Failed, 1 Skipped\n",
        "Durations:    queued 0us, run 2.0s\n",
        "Error:        Carrier: no pickup\n              caused by: connection refused\n              caused by: os error 111\n              in task `pack`\n",
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
