//! Rows that somebody edited by hand until they can't be read: only their execution suffers.

use abide_core::graph::TaskSpec;
use abide_core::ids::ExecutionId;
use abide_core::kernel::{Claimed, Outcome, Recover, Recovered, Request};
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::status::{ExecutionStatus, Phase};
use abide_core::timer::TimerKind;
use abide_store::{EventFilter, ExecutionFilter, RecoverySummary, StoreError};

use crate::home::{
    Home, SECOND_US, await_operations, boxed, completed, failed_once, graph, held, signal, single,
    sleep,
};
use crate::raw::NO_NUMBER;

/// Edits the rows of one execution.
async fn edit(home: &Home, sql: &str, id: ExecutionId) {
    let changed = home.execute(&sql.replace("?1", &id.0.to_string())).await;
    assert!(changed > 0, "{sql}");
}

fn of(claimed: &[Claimed]) -> Vec<ExecutionId> {
    claimed
        .iter()
        .map(|claimed| claimed.task.key.execution)
        .collect()
}

fn undecodable<T: std::fmt::Debug>(answer: Result<T, StoreError>, words: &str) {
    match answer {
        Err(error @ StoreError::Undecodable { .. }) => {
            let said = error.to_string();
            assert!(said.contains(words), "{said}");
            assert!(said.contains("`abide verify` says more"), "{said}");
        }
        other => panic!("not undecodable: {other:?}"),
    }
}

#[tokio::test]
async fn an_execution_with_an_unknown_status_is_left_aside_by_claims_and_lists() {
    let home = Home::new().await;
    let first = home.start(&single()).await;
    let spoilt = home.start(&single()).await;
    let last = home.start(&single()).await;
    edit(
        &home,
        "UPDATE executions SET status = 'Sleeping' WHERE id = ?1",
        spoilt,
    )
    .await;

    assert_eq!(of(&home.claim_all().await), [first, last]);
    assert!(home.claim_all().await.is_empty(), "it is asked for once");
    undecodable(
        home.store.execution(spoilt).await,
        "`Sleeping` is no status of an execution",
    );
    undecodable(home.store.end(spoilt).await, &spoilt.to_string());
    for limit in 1..4 {
        let (mut listed, mut before) = (Vec::new(), None);
        loop {
            let page = home
                .store
                .executions(&ExecutionFilter::default(), before, limit)
                .await;
            let page = page.expect("reads");
            listed.extend(page.iter().map(|view| view.execution.id));
            if page.len() < limit as usize {
                break;
            }
            before = listed.last().copied();
        }
        assert_eq!(listed, [last, first], "in pages of {limit}");
    }
}

#[tokio::test]
async fn a_task_with_an_unknown_status_holds_up_nobody_elses() {
    let home = Home::new().await;
    let chain = graph(vec![TaskSpec::new("a"), TaskSpec::new("b")], &[("a", "b")]);
    let spoilt = home.start(&chain).await;
    let sound = home.start(&chain).await;
    let [of_spoilt, of_sound] = &home.claim_all().await[..] else {
        panic!("both roots are ready")
    };
    edit(
        &home,
        "UPDATE task_executions SET status = 'Sleeping' WHERE execution = ?1 AND number = 2",
        spoilt,
    )
    .await;
    // In one transaction.
    let answers = home
        .apply_at_once(vec![
            crate::home::finish(held(of_spoilt), completed()),
            crate::home::finish(held(of_sound), completed()),
        ])
        .await;
    assert!(answers[0].is_err() && answers[1].is_ok(), "{answers:?}");
    assert_eq!(home.phase(spoilt, 1).await, Phase::Active);
    undecodable(
        home.store.tasks(spoilt, 0, 10).await,
        "`Sleeping` is no status of a task",
    );
    let next = home.claim().await;
    home.finish(held(&next), completed()).await;
    let ended = home.store.end(sound).await.expect("reads").expect("exists");
    assert_eq!(ended.status, ExecutionStatus::Completed);
}

#[tokio::test]
async fn recovery_goes_past_a_task_that_cannot_be_read() {
    let mut home = Home::new().await;
    let spoilt = home.start(&single()).await;
    let fenceless = home.start(&single()).await;
    let sound = home.start(&single()).await;
    home.claim_all().await;
    let spoil = "UPDATE task_executions SET sub_status = 'Sleeping' WHERE execution = ?1";
    edit(&home, spoil, spoilt).await;
    let spoil = format!("UPDATE task_executions SET epoch = {NO_NUMBER} WHERE execution = ?1");
    edit(&home, &spoil, fenceless).await;
    let summary = home.recover(3).await;
    assert_eq!((summary.recovered, summary.workers), (1, 1));
    assert_eq!(of(&home.claim_all().await), [sound]);
    // Once is enough to tell of those.
    let again = home.store.recover(3, home.worker).await.expect("looks");
    assert_eq!(again, RecoverySummary::default());
}

#[tokio::test]
async fn recovery_goes_past_more_unreadable_tasks_than_it_takes_back_at_once() {
    let mut home = Home::new().await;
    let names: Vec<String> = (0..501).map(|number| format!("t{number}")).collect();
    let wide = names.iter().map(TaskSpec::new).collect();
    let spoilt = home.start(&graph(wide, &[])).await;
    let sound = home.start(&single()).await;
    while !home.claim_all().await.is_empty() {}
    let spoil = format!("UPDATE executions SET open = {NO_NUMBER} WHERE id = ?1");
    edit(&home, &spoil, spoilt).await;
    let summary = home.recover(3).await;
    assert_eq!((summary.recovered, summary.workers), (1, 1));
    assert_eq!(of(&home.claim_all().await), [sound]);
}

#[tokio::test]
async fn a_timer_of_an_execution_that_cannot_be_read_stops_no_other() {
    let home = Home::new().await;
    let flaky = TaskSpec {
        retry: RetryPolicy {
            retries: 1,
            backoff: Backoff::Fixed {
                delay_us: SECOND_US,
            },
            ..RetryPolicy::default()
        },
        ..TaskSpec::new("flaky")
    };
    let flaky = graph(vec![flaky], &[]);
    let spoilt = home.start(&flaky).await;
    let sound = home.start(&flaky).await;
    for claimed in home.claim_all().await {
        home.finish(held(&claimed), failed_once()).await;
    }
    edit(
        &home,
        &format!("UPDATE task_executions SET attempt = {NO_NUMBER} WHERE execution = ?1"),
        spoilt,
    )
    .await;
    // And one of a kind that nobody knows.
    edit(&home, "INSERT INTO timers VALUES (1, 99, ?1, 1, 0)", spoilt).await;
    assert!(TimerKind::from_code(99).is_none());
    home.advance(SECOND_US);
    let fired = home.store.fire_timers(10).await.expect("fires");
    assert_eq!((fired.fired, fired.next_due), (1, None));
    assert_eq!(of(&home.claim_all().await), [sound]);
}

#[tokio::test]
async fn a_timer_that_cannot_be_read_keeps_nobody_from_starting_beside_it() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    edit(&home, "INSERT INTO timers VALUES (1, 1, ?1, -1, 0)", id).await;
    let start = home.request(&single()).await;
    let done = home
        .at_once(vec![
            boxed(async { home.store.fire_timers(10).await.map(drop) }),
            boxed(async {
                home.store.start(start).await.expect("starts");
                Ok(())
            }),
        ])
        .await;
    let [fired, started] = done.try_into().expect("two answers");
    undecodable(fired, "timer");
    started.expect("starts");
}

#[tokio::test]
async fn a_task_that_waits_for_other_code_and_cannot_be_read_stops_no_other() {
    let home = Home::new().await;
    let spoilt = home.start(&single()).await;
    let sound = home.start(&single()).await;
    for claimed in home.claim_all().await {
        let difference = "another step".to_owned();
        home.finish(held(&claimed), Outcome::Nondeterministic { difference })
            .await;
    }
    edit(
        &home,
        &format!("UPDATE task_executions SET attempt = {NO_NUMBER} WHERE execution = ?1"),
        spoilt,
    )
    .await;
    assert_eq!(home.store.wake_for_code().await.expect("wakes"), 1);
    assert_eq!(of(&home.claim_all().await), [sound]);
}

#[tokio::test]
async fn a_history_with_an_unknown_event_is_one_executions_trouble() {
    let home = Home::new().await;
    let spoilt = home.start(&single()).await;
    let sound = home.start(&single()).await;
    edit(
        &home,
        "UPDATE execution_events SET type = 999 WHERE execution = ?1 AND task = 1",
        spoilt,
    )
    .await;
    let history = async |id| {
        let filter = EventFilter {
            execution: Some(id),
            task: None,
        };
        home.store.events(&filter, 0, 100).await
    };
    undecodable(history(spoilt).await, "999 is no event type");
    assert_eq!(history(sound).await.expect("reads").len(), 3);
    for claimed in home.claim_all().await {
        home.finish(held(&claimed), completed()).await;
    }
    let ended = home
        .store
        .end(spoilt)
        .await
        .expect("reads")
        .expect("exists");
    assert_eq!(ended.status, ExecutionStatus::Completed);
}

#[tokio::test]
async fn a_recorded_wait_that_cannot_be_read_keeps_its_task_only() {
    let home = Home::new().await;
    let spoilt = home.start(&single()).await;
    let sound = home.start(&single()).await;
    let due = home.now().plus_us(SECOND_US);
    for claimed in home.claim_all().await {
        let waits = vec![signal(1, "go"), sleep(2, due)];
        home.apply(await_operations(held(&claimed), waits, true))
            .await;
    }
    edit(
        &home,
        "UPDATE steps SET kind = 'dream' WHERE execution = ?1 AND number = 2",
        spoilt,
    )
    .await;
    undecodable(
        home.store
            .steps(abide_core::ids::TaskKey::new(spoilt, 1))
            .await,
        "`dream` is no kind of operation",
    );
    home.advance(SECOND_US);
    home.fire_timers().await;
    let claimed = home.claim_all().await;
    assert!(of(&claimed).contains(&sound));
    let of_sound = claimed
        .iter()
        .find(|claimed| claimed.task.key.execution == sound);
    home.finish(held(of_sound.expect("claimed")), completed())
        .await;
}

#[tokio::test]
async fn a_sleep_whose_record_cannot_be_read_wakes_its_task_all_the_same() {
    let home = Home::new().await;
    let spoilt = home.start(&single()).await;
    let due = home.now().plus_us(SECOND_US);
    let task = held(&home.claim().await);
    home.apply(await_operations(task, vec![sleep(1, due)], true))
        .await;
    edit(
        &home,
        "UPDATE steps SET kind = 'dream' WHERE execution = ?1 AND number = 1",
        spoilt,
    )
    .await;
    home.advance(SECOND_US);
    home.fire_timers().await;
    assert_eq!(of(&home.claim_all().await), [spoilt]);
    undecodable(
        home.store.steps(task.key).await,
        "`dream` is no kind of operation",
    );
}

#[tokio::test]
async fn a_workflow_version_whose_graph_cannot_be_read_hides_no_other() {
    let home = Home::new().await;
    let spoilt = home.start(&single()).await;
    let chain = graph(vec![TaskSpec::new("a"), TaskSpec::new("b")], &[("a", "b")]);
    let sound = home.start(&chain).await;
    let version = home
        .store
        .execution(spoilt)
        .await
        .expect("reads")
        .expect("exists");
    let spoil = format!(
        "UPDATE workflow_versions SET graph = '{{\"v\":1}}' WHERE id = {}",
        version.execution.workflow.0
    );
    home.execute(&spoil).await;
    let store = home.reopened().await;
    let versions = store.versions().await.expect("reads");
    let queues: Vec<_> = versions.iter().map(|version| version.id).collect();
    assert_eq!(queues.len(), 1, "the other can be run");
    // Even whoever asks for both gets what can be read.
    let claims = store.claim(home.worker, home.queues().await, 10).await;
    assert_eq!(of(&claims.expect("claims").claimed), [sound]);
}

#[tokio::test]
async fn recovering_a_task_of_an_unreadable_execution_is_refused_in_words() {
    let home = Home::new().await;
    let spoilt = home.start(&single()).await;
    let held = held(&home.claim().await);
    edit(
        &home,
        &format!("UPDATE executions SET open = {NO_NUMBER} WHERE id = ?1"),
        spoilt,
    )
    .await;
    let recover = Recover {
        key: held.key,
        worker: held.worker,
        crash_cap: 3,
        alone: true,
        reason: "test".into(),
    };
    let answer = home.store.apply(Request::Recover(recover.clone())).await;
    assert!(answer.is_err(), "{answer:?}");
    edit(
        &home,
        "UPDATE executions SET open = 1 WHERE id = ?1",
        spoilt,
    )
    .await;
    let answer = home.apply(Request::Recover(recover)).await;
    assert!(
        matches!(
            answer,
            abide_core::kernel::Reply::Recovered(Recovered::Recovered)
        ),
        "mended by hand, it goes on: {answer:?}"
    );
}
