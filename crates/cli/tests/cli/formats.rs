//! One set of facts in every format.

use crate::support::{MINUTE, Run, SECOND, World, abide, chain, held};

async fn one_completed() -> World {
    let mut world = World::new().await;
    let graph = chain(&["a", "b"]);
    world
        .start_with("order-1", "ship", &graph, |start| {
            start.tags = Some(r#"["fast"]"#.into());
        })
        .await;
    world.pass(SECOND);
    for _ in 0..2 {
        let task = world.claim("ship").await;
        world.pass(2 * SECOND);
        world.complete(held(&task), Some("1")).await;
    }
    world
}

#[tokio::test]
async fn json_is_an_array_of_records() {
    let world = one_completed().await;
    let expected = r#"[
  {
    "id": "03t3n0dr00m00",
    "instance": "order-1",
    "generation": 1,
    "latest_generation": 1,
    "workflow": "ship",
    "workflow_version": "1.0",
    "status": "Completed",
    "sub_status": null,
    "blocked_on": [],
    "reason": null,
    "tasks": 2,
    "tasks_ended": 2,
    "tasks_failed": 0,
    "priority": 0,
    "tags": [
      "fast"
    ],
    "created_at": "2026-01-15T09:30:00.000000Z",
    "start_at": null,
    "started_at": "2026-01-15T09:30:01.000000Z",
    "closed_at": "2026-01-15T09:30:05.000000Z",
    "deadline_at": null,
    "changed_at": "2026-01-15T09:30:05.000000Z",
    "history_pruned_at": null,
    "queued_us": 1000000,
    "run_us": 4000000
  }
]
"#;
    assert_eq!(world.output(&["list", "-o", "json"]), expected);
}

#[tokio::test]
async fn the_other_formats_say_the_same() {
    let world = one_completed().await;
    let json = world.json(&["list"]);
    let line = world.output(&["list", "-o", "jsonl"]);
    assert_eq!(line.lines().count(), 1);
    let of_line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(of_line, json[0]);
    let yaml = world.output(&["list", "-o", "yaml"]);
    assert!(
        yaml.starts_with("- id: 03t3n0dr00m00\n  instance: order-1\n"),
        "{yaml}"
    );
    assert!(yaml.contains("\n  tags:\n  - fast\n"), "{yaml}");
    assert_eq!(world.output(&["list", "-o", "name"]), "03t3n0dr00m00\n");
}

#[tokio::test]
async fn a_table_is_for_people() {
    let mut world = World::ago(3 * 60 * MINUTE + 5 * MINUTE + 20 * SECOND).await;
    let graph = chain(&["a", "b"]);
    let started = world.start("order-1", "ship", &graph).await;
    let id = started.id;
    let task = world.claim("ship").await;
    world.pass(1_500_000);
    world.complete(held(&task), None).await;
    world.run("ship").await;
    assert_eq!(
        world.output(&["list"]),
        format!(
            "ID              INSTANCE   WORKFLOW   STATUS      BLOCKED ON   TASKS   AGE    DURATION   REASON\n\
             {id}   order-1    ship       Completed   -            2/2     3h5m   1.5s\n"
        )
    );
}

#[tokio::test]
async fn an_empty_answer_is_still_a_document() {
    let world = World::new().await;
    let check = |format, expected: &str| {
        let run = world.abide(&["list", "-o", format]);
        assert_eq!((run.code, run.out.as_str()), (0, expected));
        assert_eq!(run.err, "no executions match\n");
    };
    check("table", "");
    check("json", "[]\n");
    check("jsonl", "");
    check("yaml", "[]\n");
    check("name", "");
}

#[tokio::test]
async fn control_characters_in_data_are_escaped_in_every_format() {
    let mut world = World::new().await;
    let graph = chain(&["a"]);
    world
        .start_with("order-1", "ship", &graph, |start| {
            // Names are checked when they are given; tags, errors and payloads may hold anything.
            start.tags = Some("[\"\\u001b[31mred\\u009b\\u0007\"]".into());
        })
        .await;
    let task = world.claim("ship").await;
    let failure =
        abide_core::failure::Failure::fatal("Io", "bell \u{7} and \u{1b}]0;title\u{9c}\nline");
    world.fail(held(&task), failure).await;
    for command in [
        "list",
        "describe order-1",
        "tasks order-1",
        "events order-1",
    ] {
        for format in ["table", "json", "jsonl", "yaml", "name"] {
            let mut arguments: Vec<&str> = command.split(' ').collect();
            arguments.extend(["-o", format]);
            let output = world.output(&arguments);
            let found = output.chars().find(|c| c.is_control() && *c != '\n');
            assert_eq!(found, None, "{command} -o {format}: {output:?}");
        }
    }
    let tasks = world.output(&["tasks", "order-1"]);
    assert!(
        tasks.contains(r"Io: bell \u{7} and \u{1b}]0;title\u{9c}\nline"),
        "{tasks}"
    );
}

#[tokio::test]
async fn invisible_characters_in_data_are_escaped_in_every_format() {
    let mut world = World::new().await;
    let hidden = [
        '\u{200b}',
        '\u{202e}',
        '\u{2066}',
        '\u{ad}',
        '\u{feff}',
        '\u{e0041}',
    ];
    let hidden_text: String = hidden.iter().collect();
    let instance = format!("order{hidden_text}-1");
    let graph = chain(&[&format!("node{hidden_text}")]);
    world
        .start_with(&instance, &format!("ship{hidden_text}"), &graph, |start| {
            start.tags = Some(format!("[\"tag{hidden_text}\"]"));
            start.actor = Some(format!("user:{hidden_text}").into());
            let input = format!("{{\"key{hidden_text}\":\"raw{hidden_text} \\u200b\"}}");
            start.input = Some(abide_core::payload::Payload::from_json(input));
        })
        .await;
    let task = world.claim(&format!("ship{hidden_text}")).await;
    world
        .progress(
            held(&task),
            &format!(r#"{{"percent":5.0,"step":"{hidden_text}"}}"#),
        )
        .await;
    world
        .defer(held(&task), &format!("wait{hidden_text}"))
        .await;
    let check = |arguments: &[&str], run: &Run| {
        let all = format!("{}{}", run.out, run.err);
        let found = all.chars().find(|c| hidden.contains(c));
        assert_eq!(found, None, "{arguments:?}: {run:?}");
    };
    for command in ["list", "describe", "tasks", "events", "stats", "wait"] {
        for format in ["table", "json", "jsonl", "yaml", "name"] {
            let mut arguments = vec![command, "-o", format];
            match command {
                "list" | "stats" => {}
                "wait" => arguments.extend([&instance, "--timeout", "0s"]),
                _ => arguments.push(&instance),
            }
            check(&arguments, &world.abide(&arguments));
        }
    }
    let yaml = world.output(&["list", "-o", "yaml"]);
    assert!(
        yaml.contains("instance: \"order\\U0000200b\\U0000202e"),
        "{yaml}"
    );
    assert_eq!(world.json(&["list"])[0]["instance"], instance);
    world.end_worker().await;
    for arguments in [
        vec!["describe", &hidden_text],
        vec!["signal", &instance, &hidden_text],
        vec!["signal", &instance, "s", &hidden_text],
        vec!["cancel", &instance, "--reason", &hidden_text],
        vec!["cancel", &instance],
        vec!["watch", &instance],
        vec!["events", &instance, "--task", &hidden_text],
    ] {
        check(&arguments, &world.abide(&arguments));
    }
}

#[tokio::test]
async fn colours_are_for_terminals_only() {
    let world = one_completed().await;
    let colourless = world.output(&["list"]);
    assert!(!colourless.contains('\u{1b}'), "{colourless}");
    let forced = Run::of(world.command(&["list"]).env("CLICOLOR_FORCE", "1"), "");
    assert!(
        forced.out.contains("\u{1b}[32mCompleted\u{1b}[0m"),
        "{forced:?}"
    );
    assert_eq!(console_stripped(&forced.out), colourless);
}

fn console_stripped(text: &str) -> String {
    let mut plain = String::new();
    let mut parts = text.split('\u{1b}');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        plain.push_str(part.split_once('m').expect("ends a colour").1);
    }
    plain
}

#[test]
fn completions_are_written_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let run = Run::of(&mut abide(&["completions", shell]), "");
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.out.contains("describe"), "{shell}");
    }
}
