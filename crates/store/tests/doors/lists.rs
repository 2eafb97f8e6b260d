//! Ways to find executions.

use std::sync::Arc;

use abide_core::graph::{Graph, TaskSpec};
use abide_core::ids::ExecutionId;
use abide_core::kernel::{Act, Action};
use abide_core::payload::Payload;
use abide_core::status::ExecutionStatus;
use abide_store::ExecutionFilter;

use crate::home::{Home, completed, graph, held, single};

fn any() -> ExecutionFilter {
    ExecutionFilter::default()
}

async fn list(home: &Home, filter: ExecutionFilter) -> Vec<ExecutionId> {
    let found = home.store.executions(&filter, None, 10).await;
    let found = found.expect("reads").into_iter();
    found.map(|view| view.execution.id).collect()
}

async fn named(home: &Home, graph: &Arc<Graph>, instance: &str) -> ExecutionId {
    let mut start = home.request(graph).await;
    start.instance = instance.into();
    home.store.start(start).await.expect("starts").id
}

#[tokio::test]
async fn an_execution_is_found_by_its_id_and_by_its_instance() {
    let home = Home::new().await;
    let chain = graph(vec![TaskSpec::new("a"), TaskSpec::new("b")], &[("a", "b")]);
    let mut start = home.request(&chain).await;
    start.tags = Some(r#"["red","blue"]"#.into());
    start.input = Some(Payload::from_json(r#"{"x":1}"#));
    start.instance = "order-1".into();
    let id = home.store.start(start).await.expect("starts").id;
    home.start(&chain).await;
    let store = &home.store;
    let view = store.execution(id).await.expect("reads").expect("exists");
    assert_eq!((view.workflow.as_str(), view.tasks), ("w", 2));
    assert_eq!(view.tags, ["red", "blue"]);
    for found in [
        store.latest("order-1").await,
        store.generation("order-1", 1).await,
    ] {
        let found = found.expect("reads").expect("exists");
        assert_eq!(found.execution, view.execution);
    }
    for found in [
        store.latest("nobody").await,
        store.generation("order-1", 2).await,
    ] {
        assert!(found.expect("reads").is_none());
    }
    let input = store.input(id).await.expect("reads").expect("given");
    assert_eq!(input.as_str(), r#"{"x":1}"#);
}

#[tokio::test]
async fn a_list_has_what_its_filter_says_newest_first() {
    let home = Home::new().await;
    let mut tagged = home.request(&single()).await;
    tagged.tags = Some(r#"["red","blue"]"#.into());
    let tagged = home.store.start(tagged).await.expect("starts").id;
    let ended = home.start(&single()).await;
    for claimed in home.claim_all().await {
        if claimed.task.key.execution == ended {
            home.finish(held(&claimed), completed()).await;
        }
    }
    let before = home.now();
    home.advance(1);
    let last = home.start(&single()).await;
    let check = async |filter: ExecutionFilter, expected: &[ExecutionId]| {
        assert_eq!(list(&home, filter.clone()).await, expected, "{filter:?}");
    };
    let tag = |tag: &str| ExecutionFilter {
        tag: Some(tag.to_owned()),
        ..any()
    };
    let workflow = |name: &str| ExecutionFilter {
        workflow: Some(name.to_owned()),
        ..any()
    };
    let statuses = |statuses: &[ExecutionStatus]| ExecutionFilter {
        statuses: statuses.to_vec(),
        ..any()
    };
    use ExecutionStatus::{Completed, Failed, Pending, Running};
    check(any(), &[last, ended, tagged]).await;
    check(tag("blue"), &[tagged]).await;
    check(tag("blu"), &[]).await;
    check(workflow("w"), &[last, ended, tagged]).await;
    check(workflow("v"), &[]).await;
    check(statuses(&[Pending, Running]), &[last, tagged]).await;
    check(statuses(&[Pending, Completed]), &[last, ended]).await;
    check(statuses(&[Failed]), &[]).await;
    let created_from = Some(home.now());
    check(
        ExecutionFilter {
            created_from,
            ..any()
        },
        &[last],
    )
    .await;
    let created_before = Some(home.now());
    let earlier = ExecutionFilter {
        created_before,
        ..any()
    };
    check(earlier.clone(), &[ended, tagged]).await;
    check(
        ExecutionFilter {
            created_before: Some(before),
            ..any()
        },
        &[],
    )
    .await;
    let action = Action::SetPriority { priority: 5 };
    let raise = Act::on(tagged, action, "in a hurry");
    home.store.act(raise).await.expect("is done");
    let priority = |range| ExecutionFilter {
        priority: Some(range),
        ..any()
    };
    check(priority(5..=5), &[tagged]).await;
    check(priority(i16::MIN..=4), &[last, ended]).await;
    check(priority(0..=i16::MAX), &[last, ended, tagged]).await;
    check(priority(6..=9), &[]).await;
    // Everything that is said must hold.
    let both = ExecutionFilter {
        statuses: vec![Running],
        tag: Some("red".to_owned()),
        ..earlier
    };
    check(both.clone(), &[tagged]).await;
    check(
        ExecutionFilter {
            tag: None,
            statuses: vec![Pending],
            ..both
        },
        &[],
    )
    .await;
    let page = home.store.executions(&any(), Some(last), 1).await;
    assert_eq!(page.expect("reads")[0].execution.id, ended);
    assert_eq!(
        home.store
            .executions(&any(), None, 0)
            .await
            .expect("reads")
            .len(),
        0
    );
}

#[tokio::test]
async fn an_instances_beginning_is_taken_as_it_is_written() {
    let home = Home::new().await;
    let plain = named(&home, &single(), "order-1").await;
    let signs = named(&home, &single(), "o%_\\Ü").await;
    let check = async |prefix: &str, expected: &[ExecutionId]| {
        let instance_prefix = Some(prefix.to_owned());
        let found = list(
            &home,
            ExecutionFilter {
                instance_prefix,
                ..any()
            },
        )
        .await;
        assert_eq!(found, expected, "{prefix}");
    };
    check("", &[signs, plain]).await;
    check("o", &[signs, plain]).await;
    check("order-", &[plain]).await;
    check("Order-", &[]).await;
    check("o%", &[signs]).await;
    check("o%_\\Ü", &[signs]).await;
    check("o_", &[]).await;
    check("order-12", &[]).await;
}
