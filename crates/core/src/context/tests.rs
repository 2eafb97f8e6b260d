use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::graph::tests::arbitrary::{self, shapes};
use crate::graph::{GraphBuilder, TaskSpec};

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

fn length(changes: &Changes) -> usize {
    serde_json::to_string(changes)
        .expect("changes are JSON")
        .len()
}

/// A graph of `nodes` nodes of one task with these edges.
fn graph(nodes: u32, edges: impl IntoIterator<Item = (u32, u32)>) -> Graph {
    let mut builder = GraphBuilder::new();
    builder.task(TaskSpec::new("t"));
    for number in 1..=nodes {
        builder.node(arbitrary::id(number), "t");
    }
    for (from, to) in edges {
        builder.edge(&arbitrary::id(from), &arbitrary::id(to));
    }
    builder.build().expect("the edges are acyclic")
}

fn chain(nodes: u32) -> Graph {
    graph(nodes, (1..nodes).map(|number| (number, number + 1)))
}

fn read(checkpoint: Option<u32>, changes: &[u32]) -> Sources {
    Sources {
        checkpoint,
        changes: changes.to_vec(),
    }
}

#[test]
fn setting_null_differs_from_removing() {
    let mut changes = Changes::default();
    assert!(changes.is_empty());
    changes.set("a", Value::Null);
    changes.remove("b");
    assert!(!changes.is_empty());
    let json = r#"{"set":{"a":null},"removed":["b"]}"#;
    assert_eq!(serde_json::to_string(&changes).unwrap(), json);
    assert_eq!(serde_json::from_str::<Changes>(json).unwrap(), changes);
    let context = fold(map(json!({"a": 1, "b": 2, "c": 3})), [&changes]);
    assert_eq!(context, map(json!({"a": null, "c": 3})));
}

#[test]
fn empty_halves_are_not_stored() {
    let check = |json: &str| {
        let changes: Changes = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&changes).unwrap(), json);
    };
    check("{}");
    check(r#"{"set":{"a":1,"b":{"c":[]}}}"#);
    check(r#"{"removed":["a","b"]}"#);
}

#[test]
fn contradictions_and_strange_fields_are_refused() {
    let error = |json: &str| {
        serde_json::from_str::<Changes>(json)
            .unwrap_err()
            .to_string()
    };
    assert!(error(r#"{"set":{"a":1},"removed":["a"]}"#).contains("`a` is both set and removed"));
    assert!(error(r#"{"added":{}}"#).contains("unknown field `added`"));
    assert!(error("[1]").contains("invalid type"));
}

#[test]
fn diamond_keeps_both_updates() {
    // 1 sets both keys; 2 and 3 change one each, and inherit the other; 4 joins.
    let diamond = graph(4, [(1, 2), (1, 3), (2, 4), (3, 4)]);
    let changes: Vec<Changes> = [json!({"a": 0, "b": 0}), json!({"a": 2}), json!({"b": 3})]
        .into_iter()
        .map(|after| Changes::between(&Map::new(), &map(after)))
        .collect();
    let sources = sources(&diamond, 4, &|_| false);
    assert_eq!(sources, read(None, &[1, 2, 3]));
    let context = fold(map(json!({"input": true})), &changes);
    assert_eq!(context, map(json!({"a": 2, "b": 3, "input": true})));
}

#[test]
fn last_in_topological_order_wins() {
    // Declared as 1: join, 2: late, 3: early; the edge makes 3 precede 2.
    let graph = graph(3, [(3, 2), (2, 1), (3, 1)]);
    assert_eq!(sources(&graph, 1, &|_| false).changes, [3, 2]);
}

#[test]
fn root_starts_from_the_execution() {
    assert_eq!(
        sources(&chain(1), 1, &|_| unreachable!()),
        Sources::default()
    );
}

#[test]
fn checkpoint_serves_only_if_it_accounts_for_what_came_before() {
    let check = |graph: &Graph, number: u32, checkpoints: &[u32], expected: Sources| {
        let found = sources(graph, number, &|node| checkpoints.contains(&node));
        assert_eq!(found, expected, "checkpoints {checkpoints:?}");
    };
    let chain = chain(5);
    check(&chain, 5, &[1, 2, 5], read(Some(2), &[3, 4]));
    check(&chain, 5, &[4], read(Some(4), &[]));
    let diamond = graph(4, [(1, 2), (1, 3), (2, 4), (3, 4)]);
    // 3 comes after 2, which it doesn't account for; 2 accounts for 1, and 3 follows.
    check(&diamond, 4, &[1, 3], read(Some(1), &[2, 3]));
    check(&diamond, 4, &[2, 3], read(Some(2), &[3]));
    // Two roots: the second doesn't account for the first.
    let roots = graph(3, [(1, 3), (2, 3)]);
    check(&roots, 3, &[2], read(None, &[1, 2]));
    check(&roots, 3, &[1], read(Some(1), &[2]));
    // An edge past the checkpoint to something it accounts for does no harm.
    let skipping = graph(4, [(1, 2), (2, 3), (3, 4), (1, 4), (1, 3)]);
    check(&skipping, 4, &[3], read(Some(3), &[]));
    check(&skipping, 4, &[2], read(Some(2), &[3]));
}

#[test]
fn walk_back_ends_at_the_first_checkpoint_of_a_chain() {
    // Every node also depends on the one before the last.
    let both = (3..=100_000).map(|number| (number - 2, number));
    let laced = graph(
        100_000,
        (2..=100_000).map(|number| (number - 1, number)).chain(both),
    );
    for graph in [chain(100_000), laced] {
        let asked = Cell::new(0);
        let found = sources(&graph, 99_000, &|node| {
            asked.set(asked.get() + 1);
            node % 10 == 1
        });
        assert_eq!(
            found,
            read(Some(98_991), &(98_992..99_000).collect::<Vec<_>>())
        );
        assert_eq!(asked.get(), 9);
        let nearest: Vec<u32> = candidates(&graph, 99_000).take(3).collect();
        assert_eq!(nearest, [98_999, 98_998, 98_997]);
        assert_eq!(candidates(&graph, 2000).count(), 1999);
    }
}

#[test]
fn cost_goes_to_one_heir() {
    // 1 is read by 2, 3 and 4; 5 joins them.
    let fan = graph(5, [(1, 2), (1, 3), (1, 4), (2, 5), (3, 5), (4, 5)]);
    let check = |number: u32, checkpoints: &[u32], expected: &[u32]| {
        let has_checkpoint = |node| checkpoints.contains(&node);
        let sources = sources(&fan, number, &has_checkpoint);
        let charged = chargeable(&fan, number, &sources, &has_checkpoint);
        assert_eq!(charged, expected.iter().copied().collect());
    };
    check(2, &[], &[1]);
    check(3, &[], &[]);
    check(5, &[], &[1, 2, 3, 4]);
    check(5, &[2], &[3, 4]);
    // A checkpoint that doesn't serve has still paid for its node.
    check(5, &[3], &[1, 2, 4]);
    check(2, &[1], &[]);
    check(5, &[1], &[2, 3, 4]);
}

#[test]
fn checkpoint_is_due_when_it_is_paid_for() {
    assert!(!checkpoint_due(9, 10));
    assert!(checkpoint_due(10, 10));
}

/// Runs a graph to its end as an engine would: every node reads by way of checkpoints, changes something,
/// and records a checkpoint when one is due.
struct Run<'a> {
    graph: &'a Graph,
    base: Map<String, Value>,
    changes: BTreeMap<u32, Changes>,
    checkpoints: BTreeMap<u32, Changes>,
    /// What each node saw.
    seen: BTreeMap<u32, Map<String, Value>>,
    /// How many checkpoints were asked about.
    asked: Cell<usize>,
}

impl<'a> Run<'a> {
    fn new(graph: &'a Graph, base: Value) -> Self {
        Self {
            graph,
            base: map(base),
            changes: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            seen: BTreeMap::new(),
            asked: Cell::new(0),
        }
    }

    fn has_checkpoint(&self, node: u32) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.checkpoints.contains_key(&node)
    }

    /// Ends a node whose dependencies have ended; `due` may overrule when a checkpoint is written.
    fn end(
        &mut self,
        number: u32,
        change: &dyn Fn(u32, &mut Map<String, Value>),
        due: &dyn Fn(u32) -> Option<bool>,
    ) {
        let has_checkpoint = |node| self.has_checkpoint(node);
        let sources = sources(self.graph, number, &has_checkpoint);
        let charged = chargeable(self.graph, number, &sources, &has_checkpoint);
        let checkpoint = sources.checkpoint.map(|node| &self.checkpoints[&node]);
        let recorded = sources.changes.iter().map(|node| &self.changes[node]);
        let before = fold(self.base.clone(), checkpoint.into_iter().chain(recorded));
        let mut after = before.clone();
        change(number, &mut after);
        let changes = Changes::between(&before, &after);
        let checkpoint = Changes::between(&self.base, &after);
        let cost = |changes: &Changes| length(changes) + SOURCE_COST;
        let since: usize = charged.iter().map(|node| cost(&self.changes[node])).sum();
        let paid = checkpoint_due(since + cost(&changes), length(&checkpoint));
        self.changes.insert(number, changes);
        self.seen.insert(number, before);
        if due(number).unwrap_or(paid) {
            self.checkpoints.insert(number, checkpoint);
        }
    }

    fn bytes(rows: &BTreeMap<u32, Changes>) -> usize {
        rows.values().map(length).sum()
    }

    /// Asserts that checkpoints take no more than the changes and their fixed cost.
    fn assert_amortised(&self) {
        let changes = Self::bytes(&self.changes) + SOURCE_COST * self.changes.len();
        let checkpoints = Self::bytes(&self.checkpoints);
        assert!(
            checkpoints <= changes,
            "{checkpoints} bytes of checkpoints for {changes}"
        );
    }
}

/// A change that depends on the node and on all it saw, so that a wrong context shows in every later one.
fn mix(number: u32, context: &mut Map<String, Value>) {
    let mut hasher = DefaultHasher::new();
    (number, Value::Object(context.clone()).to_string()).hash(&mut hasher);
    let hash = hasher.finish();
    let key = |part: u64| format!("k{}", part % 4);
    match hash % 4 {
        0 => {}
        1 => {
            context.remove(&key(hash >> 8));
        }
        _ => {
            context.insert(key(hash >> 8), json!(hash >> 16));
            context.insert(key(hash >> 12), json!(number));
        }
    }
}

/// The nodes in some order in which they could end: of those that could, the one of highest weight.
fn some_order(graph: &Graph, weights: &[u32]) -> Vec<u32> {
    let mut order: Vec<u32> = Vec::new();
    while order.len() < weights.len() {
        let could = graph.numbers().filter(|node| {
            let mut dependencies = graph.dependencies(*node).iter();
            !order.contains(node) && dependencies.all(|dependency| order.contains(dependency))
        });
        order.extend(could.max_by_key(|node| weights[*node as usize - 1]));
    }
    order
}

#[test]
fn chain_of_ten_thousand_costs_linear_bytes() {
    let chain = chain(10_000);
    let mut run = Run::new(&chain, json!({"input": "x".repeat(500)}));
    let change = |number: u32, context: &mut Map<String, Value>| {
        context.insert(format!("key-{}", number % 20), json!({ "by": number }));
    };
    for number in chain.numbers() {
        run.end(number, &change, &|_| None);
    }
    run.assert_amortised();
    // A context of some 500 bytes: a checkpoint every dozen tasks, and no longer walks than that.
    assert!(
        run.asked.get() < 40 * 10_000,
        "asked {} times",
        run.asked.get()
    );
}

#[test]
fn growing_chain_costs_linear_bytes() {
    let chain = chain(600);
    let mut run = Run::new(&chain, json!({}));
    let change = |number: u32, context: &mut Map<String, Value>| {
        context.insert(format!("key-{number}"), json!(number));
    };
    for number in chain.numbers() {
        run.end(number, &change, &|_| None);
    }
    run.assert_amortised();
    assert!(run.checkpoints.len() > 3);
}

#[test]
fn idle_chain_is_not_walked_to_its_start() {
    let chain = chain(2000);
    let mut run = Run::new(&chain, json!({"input": "x".repeat(10_000)}));
    for number in chain.numbers() {
        run.end(number, &|_, _| {}, &|_| None);
    }
    run.assert_amortised();
    assert!(
        run.asked.get() < 4 * 2000,
        "asked {} times",
        run.asked.get()
    );
}

#[test]
fn wide_fan_does_not_copy_what_it_inherits() {
    // 1 and 2 set the same key, 2 more; a thousand nodes inherit it; the last joins them.
    let fan = (3..=1002).flat_map(|node| [(1, node), (2, node), (node, 1003)]);
    let fan = graph(1003, fan);
    let mut run = Run::new(&fan, json!({}));
    let change = |number: u32, context: &mut Map<String, Value>| {
        let text = "x".repeat(if number == 2 { 5000 } else { 10 });
        let key = if number <= 2 {
            "shared".to_owned()
        } else {
            number.to_string()
        };
        context.insert(key, json!(text));
    };
    for number in fan.numbers() {
        run.end(number, &change, &|_| None);
    }
    run.assert_amortised();
}

/// All checkpoints that would serve, latest first, by the definition.
fn slow_candidates(graph: &Graph, number: u32) -> Vec<u32> {
    let ancestors = arbitrary::ancestors(graph);
    let mine = &ancestors[number as usize];
    let serves = |candidate: &u32| {
        let accounted = &ancestors[*candidate as usize];
        graph.numbers().all(|other| {
            !mine[other as usize]
                || other == *candidate
                || accounted[other as usize]
                || graph.rank(other) > graph.rank(*candidate)
        })
    };
    let backwards = graph.topological().iter().rev().copied();
    let candidates = backwards.filter(|node| mine[*node as usize]);
    candidates.filter(serves).collect()
}

fn changes() -> impl Strategy<Value = Changes> {
    let value = prop::option::of((0..3_i64).prop_map(|value| match value {
        0 => Value::Null,
        other => json!(other),
    }));
    prop::collection::btree_map("[a-d]", value, 0..4).prop_map(Changes)
}

proptest! {
    #[test]
    fn sources_are_the_latest_that_serve(shape in shapes(9), chosen in prop::collection::vec(any::<bool>(), 9)) {
        let graph = shape.graph();
        let ancestors = arbitrary::ancestors(&graph);
        let has_checkpoint = |node: u32| chosen[node as usize - 1];
        for number in graph.numbers() {
            let slow = slow_candidates(&graph, number);
            prop_assert_eq!(candidates(&graph, number).collect::<Vec<_>>(), &slow[..]);
            let checkpoint = slow.into_iter().find(|node| has_checkpoint(*node));
            let rest = graph.topological().iter().copied().filter(|node| {
                let accounted = |by: u32| by == *node || ancestors[by as usize][*node as usize];
                ancestors[number as usize][*node as usize] && !checkpoint.is_some_and(accounted)
            });
            let expected = Sources { checkpoint, changes: rest.collect() };
            let asked = RefCell::new(BTreeSet::new());
            let found = sources(&graph, number, &|node| {
                assert!(asked.borrow_mut().insert(node), "asked twice about {node}");
                has_checkpoint(node)
            });
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn context_depends_on_neither_timing_nor_checkpoints(
        shape in shapes(9),
        weights in prop::collection::vec(any::<u32>(), 9),
        chosen in prop::collection::vec(any::<Option<bool>>(), 9),
    ) {
        let graph = shape.graph();
        let base = json!({"k0": "base", "k9": [1]});
        let mut plain = Run::new(&graph, base.clone());
        for number in graph.topological() {
            plain.end(*number, &mix, &|_| Some(false));
        }
        let mut shuffled = Run::new(&graph, base);
        for number in some_order(&graph, &weights[..shape.tasks.len()]) {
            shuffled.end(number, &mix, &|node| chosen[node as usize - 1]);
        }
        prop_assert_eq!(&shuffled.seen, &plain.seen);
        prop_assert_eq!(&shuffled.changes, &plain.changes);
    }

    #[test]
    fn checkpoints_cost_no_more_than_changes(shape in shapes(14), weights in prop::collection::vec(any::<u32>(), 14)) {
        let graph = shape.graph();
        let mut run = Run::new(&graph, json!({"k0": "base"}));
        for number in some_order(&graph, &weights[..shape.tasks.len()]) {
            run.end(number, &mix, &|_| None);
        }
        run.assert_amortised();
    }

    #[test]
    fn what_turns_one_context_into_another_does(
        before in changes(),
        after in changes(),
        all in prop::collection::vec(changes(), 0..5),
    ) {
        let (before, after) = (fold(Map::new(), [&before]), fold(Map::new(), [&after]));
        let difference = Changes::between(&before, &after);
        prop_assert_eq!(fold(before.clone(), [&difference]), after);
        // A checkpoint, the difference to the base, stands for all it was folded from.
        let folded = fold(before.clone(), &all);
        let checkpoint = Changes::between(&before, &folded);
        prop_assert_eq!(fold(before, [&checkpoint]), folded);
    }

    #[test]
    fn changes_come_back_from_json(written in changes()) {
        let json = serde_json::to_string(&written).unwrap();
        prop_assert_eq!(serde_json::from_str::<Changes>(&json).unwrap(), written);
    }
}
