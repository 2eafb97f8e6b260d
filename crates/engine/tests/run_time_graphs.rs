//! Graphs built at run time: which nodes and edges follow from what was said.

use abide::authoring::BuiltGraph;
use abide::{AuthoringError, GraphOf, Output, Outputs, TaskError, task, workflow};

#[workflow(output = report)]
mod ingest {
    #[task]
    pub(crate) async fn hash(path: String) -> Result<u32, TaskError> {
        Ok(path.len() as u32)
    }

    #[task]
    pub(crate) async fn marker() -> Result<(), TaskError> {
        Ok(())
    }

    #[task(dependencies = [marker])]
    pub(crate) async fn report(hashes: Outputs<hash>) -> Result<u32, TaskError> {
        Ok(hashes.values().sum())
    }
}

/// Every node as `id(task) <- dependencies`, and the output.
fn shape(graph: &BuiltGraph) -> Vec<String> {
    let graph = &graph.graph;
    let line = |number| {
        let dependencies = graph
            .dependencies(number)
            .iter()
            .map(|at| graph.node_id(*at));
        let dependencies: Vec<_> = dependencies.collect();
        let mark = if graph.output() == Some(number) {
            "!"
        } else {
            ""
        };
        format!(
            "{}({}){mark} <- {}",
            graph.node_id(number),
            graph.task_of(number).id,
            dependencies.join(" ")
        )
    };
    graph.numbers().map(line).collect()
}

fn text(value: &str) -> String {
    value.to_owned()
}

#[test]
fn every_task_without_input_gets_one_node_after_all_it_depends_on() {
    let built = ingest::graph()
        .node::<ingest::hash>("file:b", &text("bb"))
        .node::<ingest::hash>("file:a", &text("a"))
        .build()
        .expect("sound");
    assert_eq!(
        shape(&built),
        [
            "file:b(hash) <- ",
            "file:a(hash) <- ",
            "marker(marker) <- ",
            "report(report)! <- file:b file:a marker"
        ]
    );
    assert_eq!(
        built.inputs,
        [
            Some(r#""bb""#.to_owned()),
            Some(r#""a""#.to_owned()),
            None,
            None
        ]
    );
}

#[test]
fn a_task_with_inputs_may_have_no_node_at_all() {
    let built = ingest::graph().build().expect("sound");
    assert_eq!(
        shape(&built),
        ["marker(marker) <- ", "report(report)! <- marker"]
    );
}

#[test]
fn an_edge_from_a_task_s_nodes_replaces_those_from_all_of_them() {
    let built = ingest::graph()
        .node::<ingest::hash>("a", &text("a"))
        .node::<ingest::hash>("b", &text("b"))
        .edge("b", "report")
        .edge("b", "report")
        .edge("a", "marker")
        .build()
        .expect("sound");
    assert_eq!(
        shape(&built),
        [
            "a(hash) <- ",
            "b(hash) <- ",
            "marker(marker) <- a",
            "report(report)! <- b marker"
        ]
    );
}

#[test]
fn a_node_may_have_a_priority_of_its_own() {
    let built = ingest::graph()
        .node::<ingest::hash>("a", &text("a"))
        .node_with_priority::<ingest::hash>("b", &text("b"), 7)
        .build()
        .expect("sound");
    assert_eq!(
        (built.graph.priority_of(1), built.graph.priority_of(2)),
        (0, 7)
    );
}

fn refusal<W>(graph: GraphOf<W>) -> String {
    graph.build().expect_err("refused").to_string()
}

#[test]
fn mistakes_name_the_node_and_the_nearest_name() {
    let node = |id: &str| ingest::graph().node::<ingest::hash>(id, &text(""));
    assert_eq!(
        refusal(node("a").node::<ingest::hash>("a", &text(""))),
        "workflow `ingest`: node `a` is declared twice"
    );
    assert_eq!(
        refusal(node("file:a").edge("file:b", "report")),
        "workflow `ingest`: node `report` depends on `file:b`, which isn't declared; did you mean `file:a`?"
    );
    assert_eq!(
        refusal(node("report")),
        "workflow `ingest`: node `report` is declared twice"
    );
    assert_eq!(
        refusal(node("a").edge("report", "a")),
        "workflow `ingest`: the graph has a cycle: a -> report -> a"
    );
    assert_eq!(
        refusal(ingest::graph().add("x", "hsah", &1)),
        "workflow `ingest`: node `x` runs task `hsah`, which isn't declared; did you mean `hash`?"
    );
    assert_eq!(refusal(node("")), "workflow `ingest`: node id is empty");
}

#[test]
fn an_input_that_cannot_be_stored_names_its_node() {
    assert_eq!(
        refusal(ingest::graph().node::<ingest::hash>("x", &text("\0"))),
        "workflow `ingest`: the input of node `x`: the payload holds a NUL character (\\u0000) at byte 1"
    );
    let not_a_map = std::collections::HashMap::from([((1, 2), 3)]);
    assert_eq!(
        refusal(ingest::graph().add("x", "hash", &not_a_map)),
        "workflow `ingest`: the input of node `x` can't be written as JSON: key must be a string"
    );
}

#[workflow]
mod chain {
    #[task]
    pub(crate) async fn read(path: String) -> Result<u32, TaskError> {
        Ok(path.len() as u32)
    }

    #[task]
    pub(crate) async fn parse(n: Output<read>, strict: bool) -> Result<bool, TaskError> {
        Ok(strict && *n > 0)
    }

    #[task]
    pub(crate) async fn first(n: Option<Output<parse>>) -> Result<bool, TaskError> {
        Ok(n.is_some())
    }
}

#[test]
fn one_output_needs_one_node_before() {
    let one = || {
        chain::graph()
            .node::<chain::read>("a", &text("a"))
            .node::<chain::read>("b", &text("b"))
            .node::<chain::parse>("p", &true)
    };
    let AuthoringError::SingleOutput {
        node, task, count, ..
    } = one().build().expect_err("which of the two?")
    else {
        panic!("another error");
    };
    assert_eq!((node.as_str(), task.as_str(), count), ("p", "read", 2));
    let built = one().edge("b", "p").build().expect("that one");
    assert_eq!(shape(&built)[2..], ["p(parse) <- b", "first(first) <- p"]);

    let none = chain::graph().node::<chain::parse>("p", &true).build();
    assert!(
        matches!(none, Err(AuthoringError::SingleOutput { count: 0, .. })),
        "{none:?}"
    );
    assert_eq!(
        shape(
            &chain::graph()
                .build()
                .expect("an optional output may be absent")
        ),
        ["first(first) <- "]
    );
}

#[workflow(output = only)]
mod single {
    #[task]
    pub(crate) async fn only(n: u32) -> Result<u32, TaskError> {
        Ok(n)
    }
}

#[test]
fn the_output_must_be_that_of_one_node() {
    let graph = single::graph()
        .node::<single::only>("a", &1)
        .node::<single::only>("b", &2);
    assert_eq!(
        refusal(graph),
        "workflow `single`: its output is that of task `only`, which has 2 nodes in this graph"
    );
}

#[test]
fn a_hundred_thousand_nodes_join_in_one() {
    const FILES: usize = 100_000 - 2;
    let mut graph = ingest::graph();
    for file in 0..FILES {
        graph = graph.node::<ingest::hash>(format!("file:{file}"), &String::new());
    }
    let built = graph.build().expect("within the limits");
    assert_eq!(built.graph.len() as usize, FILES + 2);
    assert_eq!(built.graph.edge_count(), FILES + 1);
    assert_eq!(built.inputs.len(), FILES + 2);
}

#[workflow]
mod square {
    #[task]
    pub(crate) async fn left(n: u32) -> Result<u32, TaskError> {
        Ok(n)
    }

    #[task]
    pub(crate) async fn right(n: u32, all: Outputs<left>) -> Result<u32, TaskError> {
        Ok(n + all.len() as u32)
    }
}

#[test]
fn edges_from_all_to_all_are_counted_before_they_are_made() {
    let mut graph = square::graph();
    for n in 0..40_000 {
        graph = graph
            .node::<square::left>(format!("l{n}"), &n)
            .node::<square::right>(format!("r{n}"), &n);
    }
    assert_eq!(
        refusal(graph),
        "workflow `square`: the graph has 1600000000 edges; the limit is 4000000"
    );
}

#[test]
fn the_nodes_of_one_to_one_chains_are_linear() {
    let mut graph = square::graph();
    for n in 0..40_000 {
        let (left, right) = (format!("l{n}"), format!("r{n}"));
        graph = graph
            .node::<square::left>(&left, &n)
            .node::<square::right>(&right, &n)
            .edge(left, right);
    }
    let built = graph.build().expect("within the limits");
    assert_eq!(built.graph.edge_count(), 40_000);
}
