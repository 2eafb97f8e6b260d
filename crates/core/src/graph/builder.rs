//! Declarations in any order, by name. Building turns names into numbers. All other rules for
//! graphs are checked where stored graphs are checked too.

use std::collections::HashMap;
use std::sync::Arc;

use super::check::{Ids, Parts, check_counts};
use super::{Graph, GraphError, TaskSpec, number};
use crate::text::nearest;

/// Collects a graph's declarations in any order; [`GraphBuilder::build`] checks them.
///
/// ```
/// use abide_core::graph::{GraphBuilder, TaskSpec};
///
/// let mut builder = GraphBuilder::new();
/// builder.task(TaskSpec::new("hash")).task(TaskSpec::new("report"));
/// builder.node("file:a", "hash").node("file:b", "hash").node("report", "report");
/// builder.edge("file:a", "report").edge("file:b", "report").output("report");
/// let graph = builder.build()?;
/// assert_eq!(graph.dependencies(3), [1, 2]);
/// # Ok::<(), abide_core::graph::GraphError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct GraphBuilder {
    tasks: Vec<TaskSpec>,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    output: Option<Name>,
    names: Names,
}

#[derive(Clone, Debug)]
struct Node {
    id: Name,
    task: Name,
    priority: Option<i16>,
}

#[derive(Clone, Debug)]
struct Edge {
    from: Name,
    to: Name,
}

impl GraphBuilder {
    /// A builder without declarations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a task.
    pub fn task(&mut self, task: TaskSpec) -> &mut Self {
        self.tasks.push(task);
        self
    }

    /// Declares a node that runs `task` at the task's priority. Nodes are numbered in this order.
    pub fn node(&mut self, id: impl Into<String>, task: &str) -> &mut Self {
        self.add_node(id.into(), task, None)
    }

    /// Declares a node with a priority of its own.
    pub fn node_with_priority(
        &mut self,
        id: impl Into<String>,
        task: &str,
        priority: i16,
    ) -> &mut Self {
        self.add_node(id.into(), task, Some(priority))
    }

    /// Makes node `to` wait for node `from`. A repeated call has no further effect.
    pub fn edge(&mut self, from: &str, to: &str) -> &mut Self {
        let from = self.names.intern(from);
        let to = self.names.intern(to);
        self.edges.push(Edge { from, to });
        self
    }

    /// Sets the node whose output is the execution's. The last call counts.
    pub fn output(&mut self, node: &str) -> &mut Self {
        self.output = Some(self.names.intern(node));
        self
    }

    fn add_node(&mut self, id: String, task: &str, priority: Option<i16>) -> &mut Self {
        let id = self.names.intern(&id);
        let task = self.names.intern(task);
        self.nodes.push(Node { id, task, priority });
        self
    }

    /// Checks everything and builds the graph. Returns the first mistake.
    pub fn build(self) -> Result<Graph, GraphError> {
        check_counts(self.tasks.len(), self.nodes.len(), self.edges.len())?;
        let mut ids = Ids::default();
        for node in &self.nodes {
            ids.push(self.names.text(node.id))?;
        }
        let numbers = self.node_numbers();
        let task_of = self.resolve_tasks()?;
        let edges = self.resolve_edges(&numbers)?;
        let output = self.resolve_output(&numbers)?;
        let priorities = self.nodes.iter().map(|node| node.priority).collect();
        Parts {
            tasks: self.tasks,
            ids,
            task_of,
            priorities,
            edges,
            output,
        }
        .assemble()
    }

    /// For each name, the number of the node it declares.
    fn node_numbers(&self) -> Vec<Option<u32>> {
        let mut numbers = vec![None; self.names.texts.len()];
        for (at, node) in self.nodes.iter().enumerate() {
            numbers[node.id.0 as usize] = Some(number(at + 1));
        }
        numbers
    }

    fn resolve_tasks(&self) -> Result<Vec<u32>, GraphError> {
        let ids = || self.tasks.iter().map(|task| task.id.as_str());
        let indexes: HashMap<&str, u32> = ids().zip(0..).collect();
        let task_of = self.nodes.iter().map(|node| {
            let task = self.names.text(node.task);
            indexes
                .get(task)
                .copied()
                .ok_or_else(|| GraphError::UnknownTask {
                    node: self.names.text(node.id).to_owned(),
                    task: task.to_owned(),
                    nearest: nearest(task, ids()).map(str::to_owned),
                })
        });
        task_of.collect()
    }

    fn resolve_edges(&self, numbers: &[Option<u32>]) -> Result<Vec<(u32, u32)>, GraphError> {
        let number = |name: Name| numbers[name.0 as usize];
        let edges = self.edges.iter().map(|edge| {
            let dependency = || self.names.text(edge.from).to_owned();
            let node = || self.names.text(edge.to).to_owned();
            match (number(edge.from), number(edge.to)) {
                (Some(from), Some(to)) => Ok((from, to)),
                (None, _) => Err(GraphError::UnknownDependency {
                    node: node(),
                    dependency: dependency(),
                    nearest: self.nearest_node(edge.from, Some(edge.to)),
                }),
                (_, None) => Err(GraphError::UnknownDependent {
                    node: node(),
                    dependency: dependency(),
                    nearest: self.nearest_node(edge.to, Some(edge.from)),
                }),
            }
        });
        edges.collect()
    }

    fn resolve_output(&self, numbers: &[Option<u32>]) -> Result<Option<u32>, GraphError> {
        let Some(name) = self.output else {
            return Ok(None);
        };
        let number = numbers[name.0 as usize];
        number.map(Some).ok_or_else(|| GraphError::UnknownOutput {
            node: self.names.text(name).to_owned(),
            nearest: self.nearest_node(name, None),
        })
    }

    /// The declared node, other than `other`, that was probably meant by `name`.
    fn nearest_node(&self, name: Name, other: Option<Name>) -> Option<String> {
        let ids = self.nodes.iter().map(|node| node.id);
        let others = ids.filter(|id| Some(*id) != other);
        let texts = others.map(|id| self.names.text(id));
        nearest(self.names.text(name), texts).map(str::to_owned)
    }
}

/// A name in a builder's [`Names`].
#[derive(Clone, Copy, Debug, PartialEq)]
struct Name(u32);

/// Each name once, however many edges name it.
#[derive(Clone, Debug, Default)]
struct Names {
    numbers: HashMap<Arc<str>, Name>,
    texts: Vec<Arc<str>>,
}

impl Names {
    fn intern(&mut self, text: &str) -> Name {
        if let Some(name) = self.numbers.get(text) {
            return *name;
        }
        let name = Name(number(self.texts.len()));
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, name);
        name
    }

    fn text(&self, name: Name) -> &str {
        &self.texts[name.0 as usize]
    }
}
