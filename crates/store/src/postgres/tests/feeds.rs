//! History as it is read.

use abide_core::ids::{ExecutionId, TaskKey};

use crate::views::{EventFilter, EventView};

use super::home::{Home, begin, commit, roll_back, write_on};
use super::sets::{event, events};

/// Reads a feed to its end in pages of so many, and answers which events came, and the cursor.
async fn follow(home: &Home, cursor: Option<String>, limit: u32) -> (Vec<(i64, u32)>, String) {
    follow_some(home, &EventFilter::default(), cursor, limit).await
}

async fn follow_some(
    home: &Home,
    filter: &EventFilter,
    mut cursor: Option<String>,
    limit: u32,
) -> (Vec<(i64, u32)>, String) {
    let mut came = Vec::new();
    loop {
        let page = home.reader().feed(cursor.as_deref(), filter, limit).await;
        let (events, next) = page.expect("reads");
        came.extend(events.iter().map(|event| (event.execution.0, event.n)));
        cursor = Some(next.clone());
        if events.len() < limit as usize {
            return (came, next);
        }
    }
}

#[tokio::test]
async fn a_feed_skips_nothing_and_doubles_nothing_whoever_commits_late() {
    for limit in [1, 2, 3, 100] {
        let home = Home::new().await;
        let late = home.session().await;
        home.write(&events(vec![event(1, 0, 1), event(1, 0, 2)]))
            .await;
        // Positions 3 and 4 are given, and not committed for a while.
        begin(&late).await;
        write_on(
            &late,
            home.now(),
            &events(vec![event(2, 0, 1), event(2, 0, 2)]),
        )
        .await;
        home.write(&events(vec![event(3, 0, 1)])).await;
        let (came, cursor) = follow(&home, None, limit).await;
        assert_eq!(came, [(1, 1), (1, 2), (3, 1)]);
        let (came, cursor) = follow(&home, Some(cursor), limit).await;
        assert_eq!(came, []);
        write_on(&late, home.now(), &events(vec![event(2, 0, 3)])).await;
        home.write(&events(vec![event(4, 0, 1)])).await;
        commit(&late).await;
        let (came, cursor) = follow(&home, Some(cursor), limit).await;
        assert_eq!(came, [(2, 1), (2, 2), (2, 3), (4, 1)]);
        let (came, cursor) = follow(&home, Some(cursor), limit).await;
        assert_eq!(came, []);
        home.write(&events(vec![event(4, 0, 2)])).await;
        assert_eq!(follow(&home, Some(cursor), limit).await.0, [(4, 2)]);
    }
}

#[tokio::test]
async fn a_page_that_was_cut_goes_on_where_it_was_though_others_commit_meanwhile() {
    let home = Home::new().await;
    let late = home.session().await;
    begin(&late).await;
    write_on(&late, home.now(), &events(vec![event(2, 0, 1)])).await;
    home.write(&events((1..=5).map(|n| event(1, 0, n)).collect()))
        .await;
    let filter = EventFilter::default();
    let (first, cursor) = home.reader().feed(None, &filter, 3).await.expect("reads");
    assert_eq!(first.len(), 3);
    commit(&late).await;
    home.write(&events(vec![event(1, 0, 6)])).await;
    let (rest, cursor) = home
        .reader()
        .feed(Some(&cursor), &filter, 3)
        .await
        .expect("reads");
    let of = |events: Vec<EventView>| {
        events
            .iter()
            .map(|e| (e.execution.0, e.n))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(rest), [(1, 4), (1, 5), (2, 1)], "filled from the next");
    let (came, _) = follow(&home, Some(cursor), 3).await;
    assert_eq!(came, [(1, 6)]);
}

#[tokio::test]
async fn a_feed_of_one_execution_or_task_has_only_its_events() {
    let home = Home::new().await;
    let mut all: Vec<_> = (1..=4).map(|n| event(1, 0, n)).collect();
    all.extend((1..=4).map(|n| event(1, 7, n)));
    all.extend((1..=4).map(|n| event(2, 7, n)));
    home.write(&events(all)).await;
    let execution = EventFilter {
        execution: Some(ExecutionId(1)),
        ..EventFilter::default()
    };
    let task = EventFilter {
        task: Some(TaskKey::new(ExecutionId(1), 7)),
        ..EventFilter::default()
    };
    for limit in [1, 3, 100] {
        let (came, cursor) = follow_some(&home, &execution, None, limit).await;
        assert_eq!(came.len(), 8);
        assert_eq!(
            follow_some(&home, &execution, Some(cursor), limit).await.0,
            []
        );
        let (came, _) = follow_some(&home, &task, None, limit).await;
        assert_eq!(came, [(1, 1), (1, 2), (1, 3), (1, 4)]);
    }
    let paged = home.reader().events(&execution, 3, 3).await.expect("reads");
    let positions: Vec<i64> = paged.iter().map(|event| event.position).collect();
    assert_eq!(positions, [4, 5, 6]);
}

#[tokio::test]
async fn gaps_of_any_length_are_passed() {
    let home = Home::new().await;
    assert_eq!(home.reader().last_position().await.expect("reads"), 0);
    home.write(&events(vec![event(1, 0, 1)])).await;
    for _ in 0..2 {
        home.numbers("SELECT setval('~execution_events_position_seq', nextval('~execution_events_position_seq') + 300000)")
            .await;
        begin(&home.session).await;
        write_on(&home.session, home.now(), &events(vec![event(2, 0, 1)])).await;
        roll_back(&home.session).await;
        assert_eq!(home.reader().last_position().await.expect("reads"), 1);
    }
    home.write(&events(vec![event(1, 0, 2)])).await;
    let last = home.reader().last_position().await.expect("reads");
    assert!(last > 600_000);
    assert_eq!(follow(&home, None, 10).await.0, [(1, 1), (1, 2)]);
    let filter = EventFilter::default();
    let all = home
        .reader()
        .events(&filter, 0, u32::MAX)
        .await
        .expect("reads");
    assert_eq!(
        all.iter().map(|e| e.position).collect::<Vec<_>>(),
        [1, last]
    );
    let after = home.reader().events(&filter, 1, 1).await.expect("reads");
    assert_eq!(after[0].position, last);
}

#[tokio::test]
async fn a_strange_cursor_is_refused() {
    let home = Home::new().await;
    let filter = EventFilter::default();
    let error = home
        .reader()
        .feed(Some("x"), &filter, 1)
        .await
        .expect_err("no cursor");
    assert_eq!(error.to_string(), "`x` is no cursor of a feed");
}

#[tokio::test]
async fn who_lists_events_takes_no_transaction_id() {
    let home = Home::new().await;
    home.write(&events(vec![event(1, 0, 1)])).await;
    let reader = home.reader();
    begin(&home.session).await;
    let listed = reader.events(&EventFilter::default(), 0, 10).await;
    assert_eq!(listed.expect("reads").len(), 1);
    assert_eq!(reader.last_position().await.expect("reads"), 1);
    let taken = "SELECT 1 WHERE pg_current_xact_id_if_assigned() IS NOT NULL";
    assert_eq!(home.numbers(taken).await, Vec::<i64>::new());
    reader
        .feed(None, &EventFilter::default(), 10)
        .await
        .expect("reads");
    assert_eq!(home.numbers(taken).await, [1], "a feed's cursor needs one");
    roll_back(&home.session).await;
}
