//! What tasks see of the context does not depend on who was first.

use std::collections::{BTreeMap, BTreeSet};

use abide_core::context::Changes;
use abide_core::graph::{TaskSpec, Uses};
use abide_core::kernel::{Claimed, Outcome, Request};
use serde_json::{Value, json};

use crate::home::{Home, finish, graph, held};

const RUNS: usize = 1000;

/// Sets what all set, something of its own, and undoes or keeps what came before.
fn changes(node: &str) -> Changes {
    let mut changes = Changes::default();
    match node {
        "top" => {
            changes.set("shared", json!("top"));
            changes.set("kept", json!([1, 2, 3]));
            changes.set("removed", json!(true));
        }
        "left" => {
            changes.set("shared", json!("left"));
            changes.set("left", json!({ "deep": { "value": 1 } }));
        }
        "middle" => {
            changes.remove("removed");
            changes.set("middle", json!(2.5));
        }
        "right" => {
            changes.set("shared", json!("right"));
            changes.set("right", Value::Null);
        }
        _ => {}
    }
    changes
}

fn ends(claimed: &Claimed) -> Request {
    let node = claimed.graph.node_id(claimed.task.key.number);
    let outcome = Outcome::Completed {
        output: None,
        changes: Some(changes(node)),
        checkpoint: None,
    };
    finish(held(claimed), outcome)
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            items.swap(at, ((z ^ z >> 31) % (at as u64 + 1)) as usize);
        }
    }
}

#[tokio::test]
async fn a_diamonds_context_is_the_same_in_a_thousand_shuffled_runs() {
    let home = Home::new().await;
    let tasks = ["top", "left", "middle", "right", "bottom"].map(TaskSpec::new);
    let mut edges = Vec::new();
    for node in ["left", "middle", "right"] {
        edges.extend([("top", node), (node, "bottom")]);
    }
    let diamond = graph(tasks.into(), &edges);
    for _ in 0..RUNS {
        home.start(&diamond).await;
    }
    let mut random = Random(7);
    let mut orders: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    let bottoms = loop {
        let mut claimed = claim_all(&home).await;
        if claimed.iter().all(|claimed| claimed.task.key.number == 5) {
            break claimed;
        }
        random.shuffle(&mut claimed);
        for piece in claimed.chunks(500) {
            for answer in home.apply_at_once(piece.iter().map(ends).collect()).await {
                answer.expect("applied");
            }
        }
        for claimed in &claimed {
            let key = claimed.task.key;
            orders.entry(key.execution).or_default().push(key.number);
        }
    };
    let uses = Uses {
        context: true,
        ..Uses::default()
    };
    let mut seen = BTreeSet::new();
    for claimed in &bottoms {
        let inputs = home.store.inputs(claimed, &uses).await.expect("reads");
        seen.insert(Value::from(inputs.context.expect("asked for").map).to_string());
    }
    let orders: BTreeSet<_> = orders.into_values().collect();
    println!("{} diamonds in {} orders", bottoms.len(), orders.len());
    assert_eq!((bottoms.len(), orders.len()), (RUNS, 6));
    let expected = json!({
        "kept": [1, 2, 3],
        "left": { "deep": { "value": 1 } },
        "middle": 2.5,
        "right": null,
        "shared": "right",
    });
    assert_eq!(seen, BTreeSet::from([expected.to_string()]));
}

async fn claim_all(home: &Home) -> Vec<Claimed> {
    let mut all = Vec::new();
    loop {
        let claimed = home.claim_all().await;
        if claimed.is_empty() {
            return all;
        }
        all.extend(claimed);
    }
}
