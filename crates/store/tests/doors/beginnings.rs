//! How executions begin.

use abide_core::graph::TaskSpec;
use abide_core::payload::Payload;
use abide_core::status::Phase;
use abide_core::trigger::{ContextOp, Trigger};
use serde_json::json;

use crate::home::{Home, graph};

#[tokio::test]
async fn the_rule_of_a_root_reads_the_input_that_comes_with_the_start() {
    let home = Home::new().await;
    let wants = |mode: &str| TaskSpec {
        trigger: Some(Trigger::Context {
            key: "mode".into(),
            op: ContextOp::Eq,
            value: json!(mode),
        }),
        ..TaskSpec::new(mode)
    };
    let choice = graph(vec![wants("full"), wants("quick")], &[]);
    let mut start = home.request(&choice).await;
    start.input = Some(Payload::from_json(r#"{"mode":"full"}"#));
    let id = home.store.start(start).await.expect("starts").id;
    let phases = [home.phase(id, 1).await, home.phase(id, 2).await];
    assert_eq!(phases, [Phase::Ready, Phase::Skipped]);
}
