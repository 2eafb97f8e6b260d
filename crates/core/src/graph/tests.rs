pub(crate) mod arbitrary;

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use self::arbitrary::{Shape, id, shapes};
use super::*;
use crate::retry::{Backoff, RetryPolicy};
use crate::trigger::{ContextOp, MAX_DEPTH, MAX_VALUE_DEPTH, Trigger};

/// A graph of one task `t` with these nodes and edges.
fn builder(nodes: &[&str], edges: &[(&str, &str)]) -> GraphBuilder {
    let mut builder = GraphBuilder::new();
    builder.task(TaskSpec::new("t"));
    for node in nodes {
        builder.node(*node, "t");
    }
    for (from, to) in edges {
        builder.edge(from, to);
    }
    builder
}

fn with_trigger(id: &str, trigger: Trigger) -> TaskSpec {
    TaskSpec {
        trigger: Some(trigger),
        ..TaskSpec::new(id)
    }
}

fn message(builder: GraphBuilder) -> String {
    builder.build().expect_err("a mistake is found").to_string()
}

#[test]
fn graph_answers_by_number_and_by_name() {
    let mut builder = GraphBuilder::new();
    builder
        .task(TaskSpec {
            priority: 3,
            ..TaskSpec::new("hash")
        })
        .task(TaskSpec::new("report"))
        .task(TaskSpec::new("unused"))
        .node("report", "report")
        .node("file:b", "hash")
        .node_with_priority("file:a", "hash", -7)
        .edge("file:a", "report")
        .edge("file:b", "report")
        .edge("file:a", "report")
        .output("report");
    let graph = builder.build().unwrap();
    assert_eq!(graph.len(), 3);
    let ids: Vec<&str> = graph
        .numbers()
        .map(|number| graph.node_id(number))
        .collect();
    assert_eq!(ids, ["report", "file:b", "file:a"]);
    assert_eq!(graph.number_of("file:a"), Some(3));
    assert_eq!(graph.number_of("hash"), None);
    assert_eq!(graph.nodes_of("hash"), [2, 3]);
    assert_eq!(graph.nodes_of("unused"), [0; 0]);
    assert_eq!(graph.nodes_of("file:a"), [0; 0]);
    assert_eq!(graph.task_of(2).id, "hash");
    assert_eq!(graph.task_index_of(1), 1);
    assert_eq!(graph.task_index("unused"), Some(2));
    assert_eq!(
        (
            graph.priority_of(1),
            graph.priority_of(2),
            graph.priority_of(3)
        ),
        (0, 3, -7)
    );
    assert_eq!(graph.dependencies(1), [2, 3]);
    assert_eq!(graph.dependents(3), [1]);
    assert_eq!(graph.edge_count(), 2);
    assert_eq!(graph.roots().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(graph.topological(), [2, 3, 1]);
    assert_eq!(graph.rank(1), 2);
    assert_eq!(graph.output(), Some(1));
    assert_eq!(graph.tasks().len(), 3);
}

#[test]
#[should_panic(expected = "nodes are numbered from 1")]
fn there_is_no_node_0() {
    builder(&["a"], &[]).build().unwrap().node_id(0);
}

#[test]
fn declared_order_breaks_ties() {
    let graph = builder(&["d", "c", "b", "a"], &[("a", "d"), ("c", "b")])
        .build()
        .unwrap();
    let order: Vec<&str> = graph
        .topological()
        .iter()
        .map(|number| graph.node_id(*number))
        .collect();
    assert_eq!(order, ["c", "b", "a", "d"]);
}

#[test]
fn mistakes_name_the_culprit_and_the_nearest_name() {
    let check = |builder: GraphBuilder, expected: &str| assert_eq!(message(builder), expected);
    check(GraphBuilder::new(), "the graph has no nodes");
    check(builder(&["a", "b", "a"], &[]), "node `a` is declared twice");
    check(builder(&["a", ""], &[]), "node id is empty");
    check(
        builder(&["a\n"], &[]),
        r"node id `a\n` holds the control character U+000A",
    );
    check(
        builder(&["hash", "report"], &[("hsah", "report")]),
        "node `report` depends on `hsah`, which isn't declared; did you mean `hash`?",
    );
    check(
        builder(&["report"], &[("reporter", "report")]),
        "node `report` depends on `reporter`, which isn't declared",
    );
    check(
        builder(&["hash", "report"], &[("hash", "reprot")]),
        "the edge from `hash` leads to `reprot`, which isn't declared; did you mean `report`?",
    );
    check(builder(&["a"], &[("a", "a")]), "node `a` depends on itself");
    let mut twice = builder(&["a"], &[]);
    twice.task(TaskSpec::new("t"));
    check(twice, "task `t` is declared twice");
    let mut unnamed = builder(&["a"], &[]);
    unnamed.task(TaskSpec::new("\0"));
    check(unnamed, r"task id `\0` holds the control character U+0000");
    let mut unknown = builder(&["a"], &[]);
    unknown.task(TaskSpec::new("report")).node("b", "raport");
    check(
        unknown,
        "node `b` runs task `raport`, which isn't declared; did you mean `report`?",
    );
    let mut output = builder(&["report"], &[]);
    output.output("repotr");
    check(
        output,
        "the output is node `repotr`, which isn't declared; did you mean `report`?",
    );
}

#[test]
fn tasks_with_numbers_that_mean_nothing_are_refused() {
    let check = |task: TaskSpec, expected: &str| {
        let mut builder = builder(&["a"], &[]);
        builder.task(task);
        assert_eq!(message(builder), expected);
    };
    check(
        TaskSpec {
            retry: RetryPolicy {
                backoff: Backoff::Fixed { delay_us: -1 },
                ..RetryPolicy::default()
            },
            ..TaskSpec::new("bad")
        },
        "the retry policy of task `bad` is wrong: delay is -1 microseconds; it can't be negative",
    );
    check(
        TaskSpec {
            timeout_us: Some(0),
            ..TaskSpec::new("bad")
        },
        "the timeout of task `bad` is 0 microseconds; it must be more than 0",
    );
}

#[test]
fn cycles_are_shown_in_the_direction_of_the_edges() {
    let check = |nodes: &[&str], edges: &[(&str, &str)], expected: &str| {
        assert_eq!(
            message(builder(nodes, edges)),
            format!("the graph has a cycle: {expected}")
        );
    };
    check(&["a", "b"], &[("a", "b"), ("b", "a")], "a -> b -> a");
    // What leads to a cycle, and what follows it, isn't part of it.
    check(
        &["in", "out", "x", "y", "z"],
        &[
            ("in", "x"),
            ("x", "y"),
            ("y", "z"),
            ("z", "x"),
            ("z", "out"),
            ("in", "out"),
        ],
        "x -> y -> z -> x",
    );
}

#[test]
fn long_cycles_are_shown_in_part() {
    let ids: Vec<String> = (0..1000).map(|at| format!("n{at}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut builder = builder(&ids, &[]);
    for (at, id) in ids.iter().enumerate() {
        builder.edge(id, ids[(at + 1) % ids.len()]);
    }
    assert_eq!(
        message(builder),
        "the graph has a cycle: n0 -> n1 -> n2 -> n3 -> n4 -> n5 -> n6 -> n7 -> (992 more) -> n0",
    );
}

#[test]
fn rules_may_name_only_dependencies() {
    let rule = |name: &str| {
        Trigger::Any(vec![
            Trigger::Success("hash".into()),
            Trigger::Failed(name.into()),
        ])
    };
    let build = |name: &str| {
        let mut builder = GraphBuilder::new();
        builder
            .task(TaskSpec::new("hash"))
            .task(TaskSpec::new("marker"))
            .task(with_trigger("report", rule(name)))
            .node("file:a", "hash")
            .node("file:b", "hash")
            .node("wait", "marker")
            .node("other", "marker")
            .node("report", "report")
            .edge("file:a", "report")
            .edge("file:b", "report")
            .edge("wait", "report");
        builder.build()
    };
    for dependency in ["hash", "marker", "wait", "file:a", "file:b"] {
        assert!(build(dependency).is_ok(), "{dependency}");
    }
    let error = |name: &str| build(name).unwrap_err().to_string();
    assert_eq!(
        error("makrer"),
        "the trigger of node `report` names `makrer`, which is not among its dependencies; did you mean `marker`?",
    );
    // Declared, but not a dependency.
    assert_eq!(
        error("other"),
        "the trigger of node `report` names `other`, which is not among its dependencies",
    );
    assert!(error("report").contains("not among its dependencies"));
}

#[test]
fn names_that_could_mean_two_things_are_refused() {
    let build = |second_node: &str, second_task: &str| {
        let mut builder = GraphBuilder::new();
        builder
            .task(TaskSpec::new("a"))
            .task(TaskSpec::new("b"))
            .task(with_trigger("join", Trigger::Success("a".into())))
            .node("a", "a")
            .node(second_node, second_task)
            .node("join", "join")
            .edge("a", "join")
            .edge(second_node, "join");
        builder.build()
    };
    assert!(build("b", "b").is_ok());
    assert_eq!(
        build("b", "a").unwrap_err().to_string(),
        "the trigger of node `join` names `a`, which is both a node and a task with other nodes among its dependencies; rename one",
    );
}

#[test]
fn rules_are_nested_up_to_a_limit() {
    let nested = |depth: usize, value_depth: usize| {
        let value = (0..value_depth).fold(json!(1), |inner, at| match at % 2 {
            0 => json!([inner]),
            _ => json!({ "a": inner }),
        });
        let leaf = Trigger::Context {
            key: "k".into(),
            op: ContextOp::Eq,
            value,
        };
        let rule = (1..depth).fold(leaf, |inner, _| Trigger::None(vec![inner]));
        let mut builder = builder(&["a"], &[]);
        builder.task(with_trigger("deep", rule)).node("b", "deep");
        builder.build()
    };
    let deepest = nested(MAX_DEPTH, MAX_VALUE_DEPTH).unwrap();
    assert_eq!(Graph::from_json(&deepest.to_json()).unwrap(), deepest);
    for too_deep in [nested(MAX_DEPTH + 1, 0), nested(1, MAX_VALUE_DEPTH + 1)] {
        let error = too_deep.unwrap_err().to_string();
        assert!(
            error.starts_with("the trigger of task `deep` is nested too deeply"),
            "{error}"
        );
    }
}

#[test]
fn limits_are_checked() {
    let mut nodes = builder(&[], &[]);
    (0..=MAX_NODES).for_each(|at| {
        nodes.node(at.to_string(), "t");
    });
    assert_eq!(
        message(nodes),
        "the graph has 100001 nodes; the limit is 100000"
    );
    let mut tasks = builder(&["a"], &[]);
    (0..MAX_NODES).for_each(|at| {
        tasks.task(TaskSpec::new(at.to_string()));
    });
    assert_eq!(
        message(tasks),
        "the graph has 100001 tasks; the limit is 100000"
    );
    let mut edges = builder(&["a", "b"], &[]);
    (0..=MAX_EDGES).for_each(|_| {
        edges.edge("a", "b");
    });
    assert_eq!(
        message(edges),
        "the graph has 4000001 edges; the limit is 4000000"
    );
}

#[test]
fn stored_form_is_compact_and_versioned() {
    let mut builder = GraphBuilder::new();
    builder
        .task(TaskSpec {
            priority: 2,
            timeout_us: Some(5),
            uses: Uses {
                input: true,
                context: true,
                outputs: true,
                handle: true,
            },
            ..TaskSpec::new("hash")
        })
        .task(TaskSpec {
            retry: RetryPolicy {
                retries: 1,
                ..RetryPolicy::default()
            },
            ..with_trigger(
                "report",
                Trigger::All(vec![
                    Trigger::Any(vec![
                        Trigger::Success("a".into()),
                        Trigger::Skipped("a".into()),
                    ]),
                    Trigger::None(vec![Trigger::Failed("hash".into())]),
                    Trigger::Context {
                        key: "k".into(),
                        op: ContextOp::NotContains,
                        value: json!({"b": 1, "a": 2}),
                    },
                    Trigger::Context {
                        key: "k".into(),
                        op: ContextOp::Exists,
                        value: Value::Null,
                    },
                ]),
            )
        })
        .node("a", "hash")
        .node_with_priority("b \"quoted\"", "hash", -1)
        .node("c", "report")
        .edge("b \"quoted\"", "c")
        .edge("a", "c")
        .output("c");
    let graph = builder.build().unwrap();
    let json = concat!(
        r#"{"v":1,"tasks":[{"id":"hash","timeout_us":5,"priority":2,"#,
        r#""uses":{"input":true,"context":true,"outputs":true,"handle":true}},"#,
        r#"{"id":"report","trigger":{"all":[{"any":[{"success":"a"},{"skipped":"a"}]},"#,
        r#"{"none":[{"failed":"hash"}]},"#,
        r#"{"context":{"key":"k","op":"not_contains","value":{"a":2,"b":1}}},"#,
        r#"{"context":{"key":"k","op":"exists"}}]},"retry":{"retries":1}}],"#,
        r#""nodes":[["a",0],["b \"quoted\"",0,[],-1],["c",1,[1,2]]],"output":3}"#,
    );
    assert_eq!(graph.to_json(), json);
    assert_eq!(Graph::from_json(json).unwrap(), graph);
    assert_eq!(graph.fingerprint(), "a00425d6dbf8fa38");
}

#[test]
fn stored_graphs_are_checked_like_built_ones() {
    let check = |json: &str, expected: &str| {
        let error = Graph::from_json(json).expect_err(json).to_string();
        assert!(error.contains(expected), "{json}: {error}");
    };
    let with_nodes = |nodes: &str| format!(r#"{{"v":1,"tasks":[{{"id":"t"}}],"nodes":[{nodes}]}}"#);
    let check_nodes = |nodes: &str, expected: &str| check(&with_nodes(nodes), expected);
    assert!(Graph::from_json(&with_nodes(r#"["a",0],["b",0,[1]]"#)).is_ok());
    check("", "malformed");
    check("[]", "malformed");
    check(r#"{"tasks":[],"nodes":[]}"#, "malformed: missing field `v`");
    check(
        r#"{"v":2,"whatever":1}"#,
        "stored in format 2; this version of Abide reads format 1",
    );
    check(r#"{"v":1,"tasks":[]}"#, "missing field `nodes`");
    check(
        r#"{"v":1,"tasks":[],"nodes":[["a",0]]}"#,
        "node `a` runs task number 0",
    );
    check(
        r#"{"v":1,"tasks":[{"id":"t"}],"nodes":[["a",0]],"output":2}"#,
        "the output is number 2",
    );
    check_nodes("", "no nodes");
    check_nodes("[]", "invalid length 0");
    check_nodes(
        r#"["a"]"#,
        "invalid length 1, expected a node: [id, task, dependencies, priority]",
    );
    check_nodes(r#"["a",0,[],0,0]"#, "trailing");
    check_nodes(r#"{"id":"a"}"#, "expected a node");
    check_nodes(r#"["a",-1]"#, "malformed");
    check_nodes(r#"["a",0,[],40000]"#, "malformed");
    check_nodes(r#"["a",0,[2]]"#, "node `a` depends on number 2");
    check_nodes(r#"["a",0,[0]]"#, "node `a` depends on number 0");
    check_nodes(r#"["a",0,[1]]"#, "node `a` depends on itself");
    check_nodes(r#"["a",0,[2]],["b",0,[1]]"#, "cycle: a -> b -> a");
    check_nodes(r#"["a",0],["a",0]"#, "declared twice");
    check_nodes(r#"["",0]"#, "node id is empty");
}

#[test]
fn fields_of_later_versions_are_passed_over() {
    let json = r#"{"v":1,"new":1,"tasks":[{"id":"t","new":1}],"nodes":[["a",0]]}"#;
    assert_eq!(
        Graph::from_json(json).unwrap(),
        builder(&["a"], &[]).build().unwrap()
    );
}

#[test]
fn chain_of_the_largest_size_is_built_and_read() {
    let mut builder = builder(&[], &[]);
    // Declared backwards, so that nothing is in order already.
    for number in (1..=100_000_u32).rev() {
        builder.node(id(number), "t");
        if number > 1 {
            builder.edge(&id(number - 1), &id(number));
        }
    }
    let graph = builder.build().unwrap();
    assert_eq!(graph.rank(1), 99_999);
    assert_eq!(graph.rank(100_000), 0);
    assert_eq!(Graph::from_json(&graph.to_json()).unwrap(), graph);
}

#[test]
fn widest_graph_takes_a_few_megabytes() {
    let mut builder = builder(&["source", "sink"], &[]);
    for number in 3..=100_000_u32 {
        builder.node(id(number), "t");
        builder
            .edge("source", &id(number))
            .edge(&id(number), "sink");
    }
    let graph = builder.build().unwrap();
    assert_eq!(graph.dependencies(2).len(), 99_998);
    assert_eq!(graph.dependents(1).len(), 99_998);
    assert_eq!(graph.topological().last(), Some(&2));
    let words = [
        &graph.id_ends,
        &graph.task_of,
        &graph.topological,
        &graph.ranks,
        &graph.by_id,
    ];
    let rows = [&graph.dependencies, &graph.dependents, &graph.nodes_of];
    let bytes = graph.ids.len()
        + 2 * graph.priorities.len()
        + words.iter().map(|words| 4 * words.len()).sum::<usize>()
        + rows.iter().map(|csr| csr.bytes()).sum::<usize>();
    assert!(bytes < 6_000_000, "{bytes} bytes");
}

/// Repeatedly the first declared node whose dependencies all came before.
fn slow_order(shape: &Shape) -> Vec<u32> {
    let mut order: Vec<u32> = Vec::new();
    while order.len() < shape.tasks.len() {
        let ready = (1..).find(|node| {
            let mut incoming = shape.edges.iter().filter(|(_, to)| to == node);
            !order.contains(node) && incoming.all(|(from, _)| order.contains(from))
        });
        order.extend(ready);
    }
    order
}

proptest! {
    #[test]
    fn indexes_agree_with_the_declarations(shape in shapes(12)) {
        let graph = shape.graph();
        let edges: BTreeSet<(u32, u32)> = shape.edges.iter().copied().collect();
        prop_assert_eq!(graph.edge_count(), edges.len());
        for number in graph.numbers() {
            let from: Vec<u32> = graph.numbers().filter(|from| edges.contains(&(*from, number))).collect();
            let to: Vec<u32> = graph.numbers().filter(|to| edges.contains(&(number, *to))).collect();
            prop_assert_eq!(graph.dependencies(number), from);
            prop_assert_eq!(graph.dependents(number), to);
            prop_assert_eq!(graph.node_id(number), id(number));
            prop_assert_eq!(graph.number_of(&id(number)), Some(number));
            prop_assert!(graph.nodes_of(&graph.task_of(number).id).contains(&number));
        }
        let nodes: usize = graph.tasks().iter().map(|task| graph.nodes_of(&task.id).len()).sum();
        prop_assert_eq!(nodes, graph.len() as usize);
        prop_assert!(graph.roots().all(|root| graph.dependencies(root).is_empty()));
    }

    #[test]
    fn order_is_the_slow_one(shape in shapes(10)) {
        let graph = shape.graph();
        prop_assert_eq!(graph.topological(), slow_order(&shape));
        for (rank, number) in (0..).zip(graph.topological()) {
            prop_assert_eq!(graph.rank(*number), rank);
        }
    }

    #[test]
    fn stored_graphs_come_back(shape in shapes(10), output in any::<prop::sample::Index>(), priority in any::<i16>()) {
        let mut builder = shape.builder();
        builder.node_with_priority("last", "t0", priority);
        builder.output(&id(1 + u32::try_from(output.index(shape.tasks.len())).unwrap()));
        let graph = builder.build().unwrap();
        let read = Graph::from_json(&graph.to_json()).unwrap();
        prop_assert_eq!(&read, &graph);
        prop_assert_eq!(read.fingerprint(), graph.fingerprint());
    }

    #[test]
    fn fingerprint_forgets_the_order_of_edges_and_nothing_else(shape in shapes(8)) {
        let mut turned = shape.clone();
        turned.edges.reverse();
        prop_assert_eq!(turned.graph().fingerprint(), shape.graph().fingerprint());
        if let Some(edge) = turned.edges.pop() {
            turned.edges.retain(|other| *other != edge);
            prop_assert_ne!(turned.graph().fingerprint(), shape.graph().fingerprint());
        }
    }

    #[test]
    fn cycle_shown_is_a_cycle_of_the_graph(shape in shapes(8), ends in any::<(prop::sample::Index, prop::sample::Index)>()) {
        let ancestors = arbitrary::ancestors(&shape.graph());
        let number = |at: prop::sample::Index| 1 + u32::try_from(at.index(shape.tasks.len())).unwrap();
        let (from, to) = (number(ends.0), number(ends.1));
        let mut closed = shape.clone();
        closed.edges.push((from, to));
        match closed.builder().build() {
            Ok(_) => prop_assert!(from != to && !ancestors[from as usize][to as usize]),
            Err(GraphError::SelfDependency { node }) => {
                prop_assert_eq!(from, to);
                prop_assert_eq!(node, id(from));
            }
            Err(GraphError::Cycle { path }) => {
                let next = path.iter().cycle().skip(1);
                for (a, b) in path.iter().zip(next) {
                    prop_assert!(closed.edges.iter().any(|(from, to)| id(*from) == *a && id(*to) == *b));
                }
                prop_assert_eq!(path.iter().collect::<BTreeSet<_>>().len(), path.len());
                prop_assert!(path.contains(&id(from)) && path.contains(&id(to)));
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
    }

    #[test]
    fn damaged_stored_graphs_are_read_or_refused(
        shape in shapes(4),
        at in any::<prop::sample::Index>(),
        put in "[0-9\\[\\]{},:\"a-]{0,2}",
    ) {
        let mut json = shape.graph().to_json();
        let at = at.index(json.len());
        json.replace_range(at..=at, &put);
        if let Ok(graph) = Graph::from_json(&json) {
            prop_assert_eq!(Graph::from_json(&graph.to_json()).unwrap(), graph);
        }
    }
}
