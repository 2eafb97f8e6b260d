//! Queries.

use abide_core::context::{Changes, SOURCE_COST};
use abide_core::graph::Uses;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp};
use abide_core::kernel::{Outcome, Request};
use abide_core::payload::Payload;
use abide_core::status::{ExecutionStatus, Phase};
use abide_core::trigger::Ending;

use crate::queries;
use crate::views::ExecutionFilter;

use super::home::{Home, completed, finish, graph, run};

#[tokio::test]
async fn a_list_leaves_out_what_cannot_be_read_and_fills_its_place() {
    let home = Home::new().await;
    let graph = graph(&["a"], &[]);
    let mut ids: Vec<ExecutionId> = Vec::new();
    for _ in 0..4 {
        ids.insert(0, home.start(&graph).await);
    }
    let spoil =
        "UPDATE ~executions SET status = 'Odd' WHERE id = (SELECT max(id) FROM ~executions)";
    run(&home.session, spoil, Vec::new()).await;
    let found = home
        .reader()
        .executions(&ExecutionFilter::default(), None, 3, Timestamp(0))
        .await;
    let found: Vec<_> = found
        .expect("reads")
        .iter()
        .map(|view| view.execution.id)
        .collect();
    assert_eq!(found, ids[1..]);
    home.reader()
        .one(queries::execution(ids[0], Timestamp(0)))
        .await
        .expect_err("cannot be read");
}

#[tokio::test]
async fn an_end_has_its_output_or_the_error_that_nothing_caught() {
    let home = Home::new().await;
    let mut builder = abide_core::graph::GraphBuilder::new();
    builder
        .task(abide_core::graph::TaskSpec::new("a"))
        .node("a", "a")
        .output("a");
    let graph = std::sync::Arc::new(builder.build().expect("sound"));
    let (good, bad) = (home.start(&graph).await, home.start(&graph).await);
    let reader = home.reader();
    let open = reader.ends(&[good]).await.expect("reads").remove(0);
    let open = open.expect("decodes").expect("exists");
    assert_eq!(open.status, ExecutionStatus::Pending);
    let claimed = home.claim_all().await;
    let held = reader.held_by(home.worker).await.expect("reads");
    assert_eq!(held.len(), 2);
    let failure = abide_core::failure::Failure::fatal("broken", "on purpose");
    let failed = Outcome::Failed {
        failure: failure.clone(),
        random: 0.0,
        rerun: None,
    };
    home.flush(&[
        finish(&claimed[0], completed("7")),
        finish(&claimed[1], failed),
    ])
    .await;
    let asked = [good, bad, ExecutionId(7), good];
    let ends = reader.ends(&asked).await.expect("reads").into_iter();
    let ends: Vec<_> = ends.map(|end| end.expect("decodes")).collect();
    let [Some(end), Some(failed), None, Some(again)] = <[_; 4]>::try_from(ends).expect("four")
    else {
        panic!("others than those asked for");
    };
    assert_eq!(end.status, ExecutionStatus::Completed);
    assert_eq!(end.output.as_ref().expect("given").as_str(), "7");
    assert_eq!(again.output, end.output);
    let end = failed;
    assert_eq!(end.status, ExecutionStatus::Failed);
    assert_eq!(
        (end.failed_node.as_deref(), end.error),
        (Some("a"), Some(failure))
    );
    assert!(reader.held_by(home.worker).await.expect("reads").is_empty());
    let tasks = reader.all(queries::tasks(bad, 0, 10)).await.expect("reads");
    assert_eq!(
        (tasks[0].task.phase, tasks[0].node.as_str()),
        (Phase::Failed, "a")
    );
    assert_eq!(
        tasks[0].error.as_ref().map(|error| error.message.as_str()),
        Some("on purpose")
    );
    assert!(
        reader
            .all(queries::tasks(bad, 1, 10))
            .await
            .expect("reads")
            .is_empty()
    );
    let (view, rollup) = reader
        .summary(bad, home.now())
        .await
        .expect("reads")
        .expect("exists");
    assert_eq!((view.execution.id, rollup.tasks()), (bad, 1));
}

#[tokio::test]
async fn versions_come_with_their_graphs_and_a_bad_one_is_left_aside() {
    let home = Home::new().await;
    let (one, two) = (graph(&["a"], &[]), graph(&["b"], &[]));
    let first = home.version(&one).await;
    let second = home.version(&two).await;
    home.start(&two).await;
    let versions = home.reader().versions().await.expect("reads");
    let found: Vec<_> = versions.iter().map(|v| (v.id, v.open_executions)).collect();
    assert_eq!(found, [(first, 0), (second, 1)]);
    assert_eq!(versions[1].graph.node_id(1), "b");
    let fresh = crate::graphs::GraphCache::default();
    run(&home.session, "UPDATE ~workflow_versions SET graph = '{' WHERE id = (SELECT min(id) FROM ~workflow_versions)", Vec::new()).await;
    let reader = super::super::queries::Reader {
        execute: &home.session,
        graphs: &fresh,
    };
    let versions = reader.versions().await.expect("reads");
    assert_eq!(versions.iter().map(|v| v.id).collect::<Vec<_>>(), [second]);
    reader
        .graph(ExecutionId(0), first, false)
        .await
        .expect_err("is no graph");
}

fn set(key: &str, value: i64) -> Changes {
    let mut changes = Changes::default();
    changes.set(key, value.into());
    changes
}

#[tokio::test]
async fn a_task_is_given_its_input_its_dependencies_outputs_and_the_fold_of_their_changes() {
    let home = Home::new().await;
    // A chain, so that a checkpoint in it stands in for what came before.
    let names: Vec<String> = (1..=40).map(|n| format!("t{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let edges: Vec<_> = names.windows(2).map(|pair| (pair[0], pair[1])).collect();
    let graph = graph(&names, &edges);
    let mut start = home.request(&graph).await;
    start.input = Some(Payload::from_json(r#"{"base":0}"#));
    home.flush(&[Request::Start(Box::new(start.clone()))]).await;
    let mut uses = Uses::default();
    (uses.input, uses.outputs, uses.context) = (true, true, true);
    for number in 1..=30 {
        let [claimed] = home.claim_all().await.try_into().expect("one");
        assert_eq!(claimed.task.key, TaskKey::new(start.id, number));
        let inputs = home.reader().inputs(&claimed, &uses).await.expect("reads");
        assert_eq!(inputs.input.expect("given").as_str(), r#"{"base":0}"#);
        let context = inputs.context.expect("asked for");
        assert_eq!(context.base.len(), 1);
        assert_eq!(context.map.len(), number as usize);
        match number {
            1 => assert!(inputs.outputs.is_empty()),
            _ => assert_eq!(
                inputs.outputs,
                [(number - 1, Ending::Completed, Some(Payload::from_json("1")))]
            ),
        }
        // Node 3 has the only checkpoint: it holds what the first three changed, and nobody
        // reads those again.
        let one_bytes = |n: u32| {
            serde_json::to_string(&set(&format!("k{n}"), 1))
                .expect("json")
                .len()
        };
        let since = if number > 3 { 4..number } else { 1..number };
        let charged: usize = since.map(|n| one_bytes(n) + SOURCE_COST).sum();
        assert_eq!(context.charged_bytes, charged, "at {number}");
        let all: Changes = Changes(
            (1..=number)
                .flat_map(|n| set(&format!("k{n}"), 1).0)
                .collect(),
        );
        let outcome = Outcome::Completed {
            output: Some(Payload::from_json("1")),
            changes: Some(set(&format!("k{number}"), 1)),
            checkpoint: (number == 3)
                .then(|| Payload::from_json(serde_json::to_string(&all).expect("json"))),
        };
        home.flush(&[finish(&claimed, outcome)]).await;
    }
}
