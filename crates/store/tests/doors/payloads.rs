//! Payloads that are kept apart from their rows.

use abide_core::graph::Uses;

use crate::home::{Home, single};

#[tokio::test]
async fn a_payload_that_is_gone_is_missed_by_its_task_only() {
    let home = Home::new().await;
    let spoilt = home.start(&single()).await;
    let sound = home.start(&single()).await;
    let spoil = format!(
        "UPDATE executions SET input = '@77' WHERE id = {}",
        spoilt.0
    );
    home.execute(&spoil).await;
    let uses = Uses {
        input: true,
        ..Default::default()
    };
    for claimed in home.claim_all().await {
        let inputs = home.store.inputs(&claimed, &uses).await;
        if claimed.task.key.execution == sound {
            assert_eq!(inputs.expect("reads").input, None);
        } else {
            let error = inputs.expect_err("it is gone").to_string();
            assert!(error.contains("payload 77 is gone"), "{error}");
        }
    }
}
