//! The client's lists: pages that meet, cursors that keep to their filter, names, following.

use abide::client::{CursorError, EventRecord, NameError, NameHint};
use abide::{
    BlockedOn, Client, Cursor, Engine, EngineError, ExecutionFilter, ExecutionId, ExecutionRecord,
    ExecutionSubStatus, HistoryFilter, TaskError, TaskFilter, TaskHandle, workflow,
};

use crate::home::Home;

#[workflow]
async fn asks(handle: &TaskHandle) -> Result<String, TaskError> {
    let word: String = handle.signal("word").await?;
    Ok(word)
}

/// An engine, five executions of it that wait for a signal, and a client beside it.
struct World {
    engine: Engine,
    client: Client,
    /// The newest first.
    ids: Vec<ExecutionId>,
    home: Home,
}

impl World {
    async fn new() -> World {
        let home = Home::new();
        let builder = Engine::builder(home.url()).register::<asks>();
        let engine = builder.start().await.expect("starts");
        let client = Client::open(home.url()).await.expect("opens");
        let mut ids = Vec::new();
        for number in 1..=5 {
            let started = engine.start::<asks>(&format!("order-{number}"), &());
            ids.insert(0, started.await.expect("a durable start").id());
        }
        let world = World {
            engine,
            client,
            ids,
            home,
        };
        let waiting = waiting();
        let changes = world.client.changes();
        let all_wait = async || {
            let page = world.client.list(&waiting, None, 10).await?;
            Ok::<_, EngineError>(match page.items.len() {
                5 => std::ops::ControlFlow::Break(()),
                _ => std::ops::ControlFlow::Continue(()),
            })
        };
        let waited = changes.until(std::time::Duration::ZERO, None, all_wait);
        waited.await.expect("reads");
        world
    }
}

fn waiting() -> ExecutionFilter {
    ExecutionFilter {
        sub_statuses: vec![ExecutionSubStatus::Deferred],
        blocked_on: vec![BlockedOn::Signal],
        ..ExecutionFilter::default()
    }
}

fn ids(items: &[ExecutionRecord]) -> Vec<ExecutionId> {
    items.iter().map(|record| record.id).collect()
}

#[tokio::test]
async fn pages_meet_and_each_is_one_query() {
    let world = World::new().await;
    let mut found = Vec::new();
    let mut cursor: Option<Cursor> = None;
    loop {
        let before = world.client.store().stats().reads;
        let page = world.client.list(&waiting(), cursor.as_ref(), 2).await;
        let page = page.expect("reads");
        assert_eq!(world.client.store().stats().reads - before, 1);
        assert!(page.items.len() <= 2);
        found.extend(ids(&page.items));
        // As a program keeps it.
        cursor = page
            .next
            .map(|next| next.to_string().parse().expect("a cursor"));
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, world.ids);
    let exact = world.client.list(&waiting(), None, 5).await.expect("reads");
    assert_eq!((exact.items.len(), exact.next), (5, None));
    // An engine is a client.
    let same = world.engine.list(&waiting(), None, 5).await.expect("reads");
    assert_eq!(ids(&same.items), world.ids);
}

#[tokio::test]
async fn a_cursor_is_refused_with_another_filter() {
    let world = World::new().await;
    let client = &world.client;
    let page = client.list(&waiting(), None, 2).await.expect("reads");
    let cursor = page.next.expect("there are more");
    let mut same = waiting();
    same.created_before = Some(client.now());
    client
        .list(&same, Some(&cursor), 2)
        .await
        .expect("time goes on");
    let of_a_priority = ExecutionFilter {
        priority: Some(0..=9),
        ..waiting()
    };
    for other in [ExecutionFilter::default(), of_a_priority] {
        let refused = client.list(&other, Some(&cursor), 2).await;
        let refused = refused.expect_err("another filter");
        assert!(
            matches!(refused, EngineError::Cursor(CursorError::OtherFilter)),
            "{refused}"
        );
    }
    let any = TaskFilter::default();
    let tasks = client.tasks(world.ids[0], &any, Some(&cursor), 2);
    let refused = tasks.await.expect_err("another list");
    assert!(
        matches!(refused, EngineError::Cursor(CursorError::OtherFilter)),
        "{refused}"
    );
}

#[tokio::test]
async fn a_name_means_an_execution_or_says_what_may_have_been_meant() {
    let world = World::new().await;
    let client = &world.client;
    let first = world.ids[4];
    for name in ["order-1", "order-1/1", &first.to_string()] {
        let view = client.resolve(name).await.expect("means something");
        assert_eq!(view.execution.id, first, "{name}");
    }
    let hint = async |name: &str| match client.resolve(name).await {
        Err(EngineError::Name(NameError::Unknown { hint, .. })) => hint,
        other => panic!("{name}: {other:?}"),
    };
    let latest = NameHint::Generations {
        instance: "order-1".to_owned(),
        latest: 1,
    };
    assert_eq!(hint("order-1/7").await, latest);
    assert_eq!(
        hint("ordr-5").await,
        NameHint::Similar("order-5".to_owned())
    );
    assert_eq!(hint(&format!("{first}/1")).await, NameHint::TaskOf(first));
}

#[tokio::test]
async fn who_follows_sees_every_event_to_the_end() {
    let world = World::new().await;
    let id = world.ids[0];
    let all = HistoryFilter::default();
    let mut events = world.client.follow(id, &all);
    let mut kinds = Vec::new();
    let first = events
        .next_page()
        .await
        .expect("reads")
        .expect("it has begun");
    kinds.extend(first.iter().map(|event| event.kind));
    let sent = world.engine.signal("order-5", "word", &"go").await;
    sent.expect("it is live");
    while let Some(page) = events.next_page().await.expect("reads") {
        kinds.extend(page.iter().map(|event| event.kind));
    }
    let history = world.client.history(id, &all, None, 1000).await;
    let history = history.expect("reads").items;
    let expected: Vec<_> = history.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, expected);
    let described = world.client.describe(id).await.expect("reads");
    assert!(described.execution.status.is_terminal());
    assert_eq!(described.output.expect("an output").get(), "\"go\"");
}

#[tokio::test]
async fn a_history_is_read_page_by_page_and_each_event_once() {
    let world = World::new().await;
    let id = world.ids[4];
    world
        .engine
        .signal("order-1", "word", &"go")
        .await
        .expect("it is live");
    let run = world.engine.find::<asks>("order-1").await.expect("exists");
    run.result().await.expect("completes");
    let client = &world.client;
    let all = HistoryFilter::default();
    let whole = client.history(id, &all, None, 1000).await.expect("reads");
    assert_eq!(whole.next, None);
    let whole = whole.items;
    assert_eq!(whole[0].kind, "execution.created");
    assert_eq!((whole[0].task, &whole[0].node), (None, &None));
    assert_eq!(whole[1].node.as_deref(), Some("asks"));
    assert_eq!(whole.last().expect("events").kind, "execution.completed");
    let positions = |events: &[EventRecord]| -> Vec<i64> {
        events.iter().map(|event| event.position).collect()
    };
    let expected = positions(&whole);
    assert!(expected.is_sorted(), "the oldest first");
    // The events of the others lie between.
    for limit in [1, 2, 3, whole.len() as u32] {
        let (mut found, mut cursor) = (Vec::new(), None::<Cursor>);
        loop {
            let page = client.history(id, &all, cursor.as_ref(), limit).await;
            let page = page.expect("reads");
            assert!(page.items.len() <= limit as usize);
            found.extend(positions(&page.items));
            cursor = page
                .next
                .map(|next| next.to_string().parse().expect("a cursor"));
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "{limit} at a time");
    }
    // Of one task, and after a position.
    let of_task = HistoryFilter {
        task: Some(1),
        after: expected[1],
    };
    let rest = client
        .history(id, &of_task, None, 1000)
        .await
        .expect("reads");
    let later = whole.iter().filter(|event| event.task == Some(1)).skip(1);
    let later: Vec<i64> = later.map(|event| event.position).collect();
    assert_eq!(positions(&rest.items), later);
    // A cursor belongs to its execution and filter.
    let page = client.history(id, &all, None, 1).await.expect("reads");
    let cursor = page.next.expect("there are more");
    for (id, filter) in [(id, &of_task), (world.ids[0], &all)] {
        let refused = client.history(id, filter, Some(&cursor), 1).await;
        let refused = refused.expect_err("another history");
        assert!(
            matches!(refused, EngineError::Cursor(CursorError::OtherFilter)),
            "{refused}"
        );
    }
    let nobody = client.history(ExecutionId(1), &all, None, 1).await;
    let nobody = nobody.expect_err("there is none");
    assert!(
        matches!(nobody, EngineError::UnknownExecution(_)),
        "{nobody}"
    );
}

#[tokio::test]
async fn who_follows_from_a_position_sees_what_comes_after_it() {
    let world = World::new().await;
    let id = world.ids[0];
    let all = HistoryFilter::default();
    let begun = world.client.history(id, &all, None, 2).await;
    let begun = begun.expect("reads").items;
    let after = HistoryFilter {
        after: begun[1].position,
        ..all.clone()
    };
    let sent = world.engine.signal("order-5", "word", &"go").await;
    sent.expect("it is live");
    let mut seen: Vec<i64> = begun.iter().map(|event| event.position).collect();
    let mut events = world.client.follow(id, &after);
    while let Some(page) = events.next_page().await.expect("reads") {
        seen.extend(page.iter().map(|event| event.position));
    }
    let whole = world.client.history(id, &all, None, 1000).await;
    let whole = whole.expect("reads").items;
    let expected: Vec<i64> = whole.iter().map(|event| event.position).collect();
    assert_eq!(seen, expected);
    let mut nobody = world.client.follow(ExecutionId(1), &all);
    assert!(nobody.next_page().await.expect("reads").is_none());
}

#[tokio::test]
async fn tasks_are_listed_page_by_page() {
    let world = World::new().await;
    let any = TaskFilter::default();
    let page = world.client.tasks(world.ids[0], &any, None, 1).await;
    let page = page.expect("reads");
    assert_eq!((page.items.len(), page.next), (1, None));
    assert_eq!(page.items[0].node, "asks");
    let page = world.client.tasks(ExecutionId(1), &any, None, 1).await;
    assert_eq!(page.expect("no execution, no tasks").items.len(), 0);
}

#[tokio::test]
async fn a_client_beside_the_engine_hears_of_an_end() {
    let world = World::new().await;
    let client = Client::open(world.home.url()).await.expect("opens");
    let run = client.find::<asks>("order-3").await.expect("exists");
    let send = world.engine.signal("order-3", "word", &"go");
    let (result, sent) = tokio::join!(run.result(), send);
    sent.expect("it is live");
    assert_eq!(result.expect("completes"), "go");
}
