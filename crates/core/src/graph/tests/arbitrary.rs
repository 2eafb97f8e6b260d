//! Random graphs for property tests.

use proptest::prelude::*;

use crate::graph::{Graph, GraphBuilder, TaskSpec};

/// An acyclic graph as declarations: node `i` (from 1) has the id `n<i>` and the task `t<j>`.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// For each node, its task's index.
    pub(crate) tasks: Vec<usize>,
    /// (dependency, dependent), in any order, some perhaps twice.
    pub(crate) edges: Vec<(u32, u32)>,
}

/// How many tasks a random graph has; some may have no node.
pub(crate) const TASKS: usize = 3;

/// Graphs of 1 to `most` nodes, from edgeless to complete, whose declared order needn't be topological.
pub(crate) fn shapes(most: usize) -> impl Strategy<Value = Shape> {
    let sizes = (1..=most, 0.0..1.0_f64, 0.0..1.0_f64);
    sizes.prop_flat_map(|(nodes, density, repeated)| {
        let order: Vec<u32> = (1..).take(nodes).collect();
        // Half of the graphs are declared in topological order.
        let order = prop_oneof![Just(order.clone()), Just(order).prop_shuffle()];
        let pairs = nodes * (nodes - 1) / 2;
        let chosen = prop::collection::vec(prop::bool::weighted(density), pairs);
        let repeats = prop::collection::vec(prop::bool::weighted(repeated * 0.3), pairs);
        let tasks = prop::collection::vec(0..TASKS, nodes);
        (order, chosen, repeats, tasks).prop_flat_map(|(order, chosen, repeats, tasks)| {
            let pairs = (1..order.len()).flat_map(|to| (0..to).map(move |from| (from, to)));
            let edges = pairs.zip(chosen.into_iter().zip(repeats));
            let edges: Vec<(u32, u32)> = edges
                .filter(|(_, (chosen, _))| *chosen)
                .flat_map(|((from, to), (_, again))| {
                    std::iter::repeat_n((order[from], order[to]), 1 + usize::from(again))
                })
                .collect();
            Just(edges).prop_shuffle().prop_map(move |edges| Shape {
                tasks: tasks.clone(),
                edges,
            })
        })
    })
}

impl Shape {
    pub(crate) fn builder(&self) -> GraphBuilder {
        let mut builder = GraphBuilder::new();
        for task in 0..TASKS {
            builder.task(TaskSpec::new(format!("t{task}")));
        }
        for (task, number) in self.tasks.iter().zip(1..) {
            builder.node(id(number), &format!("t{task}"));
        }
        for (from, to) in &self.edges {
            builder.edge(&id(*from), &id(*to));
        }
        builder
    }

    pub(crate) fn graph(&self) -> Graph {
        self.builder().build().expect("an acyclic graph is built")
    }
}

/// The id of a random graph's node.
pub(crate) fn id(number: u32) -> String {
    format!("n{number}")
}

/// For each node from 1, whether each node is an ancestor of it.
pub(crate) fn ancestors(graph: &Graph) -> Vec<Vec<bool>> {
    let nodes = graph.len() as usize;
    let mut ancestors = vec![vec![false; nodes + 1]; nodes + 1];
    for number in graph.topological() {
        let mut mine = vec![false; nodes + 1];
        for dependency in graph.dependencies(*number) {
            let theirs = &ancestors[*dependency as usize];
            mine.iter_mut()
                .zip(theirs)
                .for_each(|(mine, theirs)| *mine |= theirs);
            mine[*dependency as usize] = true;
        }
        ancestors[*number as usize] = mine;
    }
    ancestors
}
