//! Feeds: a subscriber that keeps its cursor sees each event once, whoever writes meanwhile, and each execution's in
//! order.

use std::collections::{BTreeMap, HashSet};

use abide_core::ids::ExecutionId;
use abide_core::kernel::Start;
use abide_store::{EventFilter, EventView, Store, StoreError};

use crate::home::{Home, single};

const WRITERS: usize = 4;
const STARTS: usize = 40;
/// Of each start: it is created, and its task is created and ready.
const EVENTS: usize = 3;

/// A start like this one, of an instance of its own.
fn another(home: &Home, start: &Start) -> Start {
    let id = ExecutionId(home.next_id());
    Start {
        id,
        instance: id.to_string().into(),
        ..start.clone()
    }
}

async fn start_all(store: Store, starts: Vec<Start>) {
    for start in starts {
        store.start(start).await.expect("starts");
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_comes_once_and_in_order() {
    const PAGE: u32 = 7;
    let home = Home::new().await;
    let start = home.request(&single()).await;
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let starts = (0..STARTS).map(|_| another(&home, &start)).collect();
        let store = home.reopened().await;
        writers.push(tokio::spawn(start_all(store, starts)));
    }
    let mut seen: Vec<EventView> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let written = writers.iter().all(|writer| writer.is_finished());
        let (page, next) = home
            .store
            .feed(cursor.as_deref(), &EventFilter::default(), PAGE)
            .await
            .expect("reads");
        let is_last = page.len() < PAGE as usize;
        cursor = Some(next);
        seen.extend(page);
        if is_last && written {
            break;
        }
    }
    for writer in writers {
        writer.await.expect("writes");
    }
    let expected = WRITERS * STARTS * EVENTS;
    assert_eq!(seen.len(), expected);
    let once: HashSet<_> = seen.iter().map(|event| event.position).collect();
    assert_eq!(once.len(), expected, "each once");
    let mut streams: BTreeMap<(ExecutionId, u32), u32> = BTreeMap::new();
    for event in &seen {
        let last = streams.entry((event.execution, event.task)).or_default();
        assert_eq!(event.n, *last + 1, "{event:?}");
        *last = event.n;
    }
}

#[tokio::test]
async fn a_strange_cursor_is_refused_by_name() {
    let home = Home::new().await;
    let filter = EventFilter::default();
    let error = home.store.feed(Some("yesterday"), &filter, 7).await;
    let error = error.expect_err("no cursor");
    assert!(
        matches!(&error, StoreError::Invalid(text) if text.contains("yesterday")),
        "{error}"
    );
}
