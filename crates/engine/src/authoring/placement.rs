//! The nodes and edges of a graph built at run time: the given ones, and those that follow from the
//! workflow's tasks. Takes time linear in nodes and edges.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use abide_core::graph::{Graph, GraphBuilder, GraphError, MAX_EDGES, TaskSpec};

use super::authoring_error::AuthoringError;
use super::workflow_spec::WorkflowSpec;

/// A node as the user gave it.
pub(super) struct NewNode {
    pub(super) id: String,
    pub(super) task: String,
    pub(super) priority: Option<i16>,
    pub(super) input: Option<String>,
}

/// The nodes in declared order, including the nodes that tasks get automatically.
pub(super) struct Placed<'a> {
    spec: &'a WorkflowSpec,
    /// Ordered by task. Nodes of tasks that the workflow does not have are at the end, where the
    /// graph's own check finds them.
    nodes: Vec<NewNode>,
    /// For each task of the workflow, the range of its nodes in `nodes`.
    of_task: Vec<Range<usize>>,
}

/// How many edges the user gave to a node (the first number) from nodes of a task (the second).
type Chosen = HashMap<(usize, usize), usize>;

impl<'a> Placed<'a> {
    pub(super) fn new(spec: &'a WorkflowSpec, given: Vec<NewNode>) -> Placed<'a> {
        let total = given.len() + spec.tasks.len();
        let mut by_task: HashMap<String, Vec<NewNode>> = HashMap::new();
        for node in given {
            by_task.entry(node.task.clone()).or_default().push(node);
        }
        let mut placed = Placed {
            spec,
            nodes: Vec::with_capacity(total),
            of_task: Vec::with_capacity(spec.tasks.len()),
        };
        for task in &spec.tasks {
            let TaskSpec { id, uses, .. } = task.spec();
            let start = placed.nodes.len();
            match by_task.remove(id) {
                Some(nodes) => placed.nodes.extend(nodes),
                None if uses.input => {}
                None => placed.nodes.push(NewNode::automatic(id)),
            }
            placed.of_task.push(start..placed.nodes.len());
        }
        placed.nodes.extend(by_task.into_values().flatten());
        placed
    }

    /// The graph with the given edges and those that follow from the tasks.
    pub(super) fn graph(&self, edges: &[(String, String)]) -> Result<Graph, AuthoringError> {
        let chosen = self.chosen(edges);
        self.check_single_outputs(&chosen)?;
        let graph = self.assemble(&chosen, edges)?;
        graph.build().map_err(|source| self.refused(source))
    }

    /// The inputs in declared order of the nodes.
    pub(super) fn into_inputs(self) -> Vec<Option<String>> {
        self.nodes.into_iter().map(|node| node.input).collect()
    }

    fn chosen(&self, edges: &[(String, String)]) -> Chosen {
        if edges.is_empty() {
            return Chosen::new();
        }
        let at: HashMap<&str, usize> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(at, node)| (&*node.id, at))
            .collect();
        let known = edges
            .iter()
            .filter_map(|(from, to)| Some((*at.get(&**from)?, *at.get(&**to)?)));
        let distinct: HashSet<(usize, usize)> = known.collect();
        let mut chosen = Chosen::new();
        for (from, to) in distinct {
            // Ranges ascend, so the first that ends behind a node is the one that holds it.
            let task = self.of_task.partition_point(|nodes| nodes.end <= from);
            *chosen.entry((to, task)).or_default() += 1;
        }
        chosen
    }

    /// Every node, with each task all of whose nodes it waits for.
    fn automatic(&self, chosen: &Chosen) -> impl Iterator<Item = (usize, Range<usize>)> {
        let of_tasks = self.of_task.iter().zip(&self.spec.plan);
        let waits = of_tasks.flat_map(|(nodes, plan)| {
            let tasks: Vec<usize> = plan
                .waits_for
                .iter()
                .map(|task| self.spec.place(task))
                .collect();
            nodes
                .clone()
                .flat_map(move |node| tasks.clone().into_iter().map(move |task| (node, task)))
        });
        waits
            .filter(|wait| !chosen.contains_key(wait))
            .map(|(node, task)| (node, self.of_task[task].clone()))
    }

    fn check_single_outputs(&self, chosen: &Chosen) -> Result<(), AuthoringError> {
        for (nodes, plan) in self.of_task.iter().zip(&self.spec.plan) {
            for (node, read) in nodes
                .clone()
                .flat_map(|node| plan.reads.iter().map(move |read| (node, read)))
            {
                let task = self.spec.place(&read.task);
                let count = chosen
                    .get(&(node, task))
                    .copied()
                    .unwrap_or(self.of_task[task].len());
                if !read.arity.allows(count) {
                    return Err(AuthoringError::SingleOutput {
                        workflow: self.spec.name.clone(),
                        node: self.nodes[node].id.clone(),
                        task: read.task.clone(),
                        count,
                    });
                }
            }
        }
        Ok(())
    }

    fn assemble(
        &self,
        chosen: &Chosen,
        edges: &[(String, String)],
    ) -> Result<GraphBuilder, AuthoringError> {
        let mut graph = GraphBuilder::new();
        for task in &self.spec.tasks {
            graph.task(task.spec().clone());
        }
        for node in &self.nodes {
            match node.priority {
                Some(priority) => graph.node_with_priority(&*node.id, &node.task, priority),
                None => graph.node(&*node.id, &node.task),
            };
        }
        for (from, to) in edges {
            graph.edge(from, to);
        }
        // Counted first: two tasks of 100,000 nodes each, one after the other, are 10^10 edges.
        let count = self
            .automatic(chosen)
            .map(|(_, from)| from.len())
            .sum::<usize>()
            + edges.len();
        if count > MAX_EDGES {
            return Err(self.refused(GraphError::TooManyEdges { edges: count }));
        }
        for (node, from) in self.automatic(chosen) {
            for from in &self.nodes[from] {
                graph.edge(&from.id, &self.nodes[node].id);
            }
        }
        if let Some(output) = &self.spec.output {
            let nodes = &self.nodes[self.of_task[self.spec.place(output)].clone()];
            let [node] = nodes else {
                let (workflow, task) = (self.spec.name.clone(), output.clone());
                return Err(AuthoringError::OutputNode {
                    workflow,
                    task,
                    count: nodes.len(),
                });
            };
            graph.output(&node.id);
        }
        Ok(graph)
    }

    fn refused(&self, source: GraphError) -> AuthoringError {
        AuthoringError::Graph {
            workflow: self.spec.name.clone(),
            source,
        }
    }
}

impl NewNode {
    fn automatic(task: &str) -> NewNode {
        NewNode {
            id: task.to_owned(),
            task: task.to_owned(),
            priority: None,
            input: None,
        }
    }
}
