//! What can't be stored is refused at the door, with the reason in words, and nothing is written.

use abide_core::graph::{Graph, GraphBuilder, TaskSpec};
use abide_core::kernel::{Signal, Start};
use abide_core::payload::Payload;
use abide_store::{ApplyError, StoreError, StoreOptions, WorkflowKind};

use crate::home::{Home, completed, finish, graph, held, single};

const TEN_MEGABYTES: usize = 10 * 1024 * 1024;

fn long(bytes: usize) -> Payload {
    Payload::from_json(format!("\"{}\"", "x".repeat(bytes - 2)))
}

/// That what is asked is refused in these words, and changes nothing.
async fn check<T: std::fmt::Debug>(
    home: &Home,
    words: &str,
    ask: impl Future<Output = Result<T, ApplyError>>,
) {
    let before = home.dump().await;
    let answer = ask.await;
    match answer {
        Err(ApplyError::Store(error @ StoreError::Invalid(_))) => {
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.is_definite() && !error.is_transient());
        }
        other => panic!("not refused for {words}: {other:?}"),
    }
    assert_eq!(home.dump().await, before, "{words}");
}

#[tokio::test]
async fn names_that_no_backend_can_store_are_refused() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    let live = home
        .store
        .execution(id)
        .await
        .expect("reads")
        .expect("exists");
    let too_long = "n".repeat(256);
    for (name, words) in [
        ("", "is empty"),
        ("nul\0", "holds the control character U+0000"),
        ("line\n", "holds the control character U+000A"),
        (too_long.as_str(), "is 256 bytes long; the limit is 255"),
    ] {
        let start = Start {
            instance: name.into(),
            ..home.request(&single()).await
        };
        check(
            &home,
            &format!("instance id {}", shown(name)),
            home.store.start(start),
        )
        .await;
        let signal = Signal {
            instance: live.execution.instance.clone(),
            name: name.into(),
            payload: Payload::from_json("1"),
            actor: None,
        };
        check(&home, words, home.store.signal(signal)).await;
        let version = home
            .store
            .ensure_version(name, "1", WorkflowKind::Graph, single());
        check(&home, words, async { Ok(version.await?) }).await;
    }
}

/// How a refusal begins to speak of a name.
fn shown(name: &str) -> String {
    match name {
        "" => "is empty".to_owned(),
        name => format!("`{}", name.chars().next().expect("not empty")),
    }
}

#[tokio::test]
async fn payloads_that_no_backend_can_store_are_refused() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    let instance = home
        .store
        .execution(id)
        .await
        .expect("reads")
        .expect("exists");
    let instance = instance.execution.instance;
    for (json, words) in [
        (r#"{"a":"\u0000"}"#, "NUL character (\\u0000) at byte 6"),
        (r#""\ud800""#, "lone surrogate escape at byte 1"),
        (r#""\udc00 ""#, "lone surrogate escape at byte 1"),
        ("\"\0\"", "NUL character"),
    ] {
        let payload = || Payload::from_json(json);
        let plain = home.request(&single()).await;
        let with_input = Start {
            input: Some(payload()),
            ..plain.clone()
        };
        check(&home, words, home.store.start(with_input)).await;
        let with_node_input = Start {
            own_graph: true,
            node_inputs: vec![(1, payload())],
            ..plain
        };
        check(&home, "node `only`", home.store.start(with_node_input)).await;
        let signal = Signal {
            instance: instance.clone(),
            name: "go".into(),
            payload: payload(),
            actor: None,
        };
        check(&home, words, home.store.signal(signal)).await;
    }
}

#[tokio::test]
async fn ten_megabytes_are_refused_by_the_limit_and_come_back_whole_without_it() {
    let home = Home::new().await;
    let words = "10485760 bytes, the limit is 4194304: keep large data elsewhere and pass a reference, \
                 or raise the payload limit";
    let large = Start {
        input: Some(long(TEN_MEGABYTES)),
        ..home.request(&single()).await
    };
    check(&home, words, home.store.start(large.clone())).await;
    let id = home.start(&single()).await;
    let live = home
        .store
        .execution(id)
        .await
        .expect("reads")
        .expect("exists");
    let signal = Signal {
        instance: live.execution.instance,
        name: "go".into(),
        payload: long(TEN_MEGABYTES),
        actor: None,
    };
    check(&home, words, home.store.signal(signal.clone())).await;

    let home = Home::with(StoreOptions {
        payload_limit_bytes: TEN_MEGABYTES,
        ..StoreOptions::default()
    })
    .await;
    let large = Start {
        input: large.input,
        ..home.request(&single()).await
    };
    let id = home.store.start(large).await.expect("starts").id;
    let live = home
        .store
        .execution(id)
        .await
        .expect("reads")
        .expect("exists");
    let signal = Signal {
        instance: live.execution.instance,
        ..signal
    };
    home.store.signal(signal).await.expect("sent");
    assert_eq!(
        home.store.input(id).await.expect("reads"),
        Some(long(TEN_MEGABYTES))
    );
    let held = held(&home.claim().await);
    let outcome = abide_core::kernel::Outcome::Completed {
        output: Some(long(TEN_MEGABYTES)),
        changes: None,
        checkpoint: None,
    };
    home.apply(finish(held, outcome)).await;
    if let Some(payloads) = home.dump().await.get("payloads") {
        assert_eq!(payloads.len(), 3, "each is stored once");
    }
}

#[tokio::test]
async fn a_graph_that_goes_in_a_circle_is_refused_by_name_and_never_read_back() {
    let mut builder = GraphBuilder::new();
    for id in ["a", "b", "c"] {
        builder.task(TaskSpec::new(id)).node(id, id);
    }
    builder.edge("a", "b").edge("b", "c").edge("c", "a");
    let error = builder.build().expect_err("a circle").to_string();
    assert!(
        error.contains('a') && error.contains('b') && error.contains('c'),
        "{error}"
    );

    // One that somebody wrote into the file does not come in that way either.
    let home = Home::new().await;
    let chain = graph(vec![TaskSpec::new("a"), TaskSpec::new("b")], &[("a", "b")]);
    let start = Start {
        own_graph: true,
        ..home.request(&chain).await
    };
    let id = home.store.start(start).await.expect("starts").id;
    let other = home.start(&single()).await;
    let circle = chain.to_json().replace(r#"["a",0]"#, r#"["a",0,[2]]"#);
    Graph::from_json(&circle).expect_err("a circle");
    let written = format!(
        "UPDATE executions SET graph = '{circle}' WHERE id = {}",
        id.0
    );
    home.execute(&written).await;
    // A process that did not start it has to read it.
    let store = home.reopened().await;
    let claims = store.claim(home.worker, home.queues().await, 10).await;
    let claimed = claims.expect("claims").claimed;
    let keys: Vec<_> = claimed
        .iter()
        .map(|claimed| claimed.task.key.execution)
        .collect();
    assert_eq!(keys, [other], "only the sound one");
    home.finish(held(&claimed[0]), completed()).await;
}
