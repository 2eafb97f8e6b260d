//! A workflow's graph: its tasks, the nodes that run them, and the dependencies of each node.
//!
//! A graph is built once, checked as a whole, and never changes. Nodes are numbered from 1 in
//! declared order; everything else (ranks, dependents, lookups by name) is derived. Arrays are
//! flat, so that 100,000 nodes take a few megabytes and every walk is a loop. The state of a run is
//! deliberately absent.

mod builder;
mod check;
mod difference;
mod error;
mod limits;
mod order;
mod task_spec;
#[cfg(test)]
pub(crate) mod tests;
mod wire;

pub use builder::GraphBuilder;
pub use error::GraphError;
pub use limits::{MAX_EDGES, MAX_NODES};
pub use task_spec::{TaskSpec, Uses};

use order::{Csr, index, number};

/// A checked, immutable graph. Methods that take a node's number panic if the graph has no such node.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    tasks: Box<[TaskSpec]>,
    /// All node ids in one string; node `i` (from 0) ends at `id_ends[i]`.
    ids: Box<str>,
    id_ends: Box<[u32]>,
    /// For each node, its task's index.
    task_of: Box<[u32]>,
    priorities: Box<[i16]>,
    dependencies: Csr,
    dependents: Csr,
    nodes_of: Csr,
    topological: Box<[u32]>,
    /// For each node, its position in `topological`.
    ranks: Box<[u32]>,
    /// Node numbers sorted by id.
    by_id: Box<[u32]>,
    /// Task indexes sorted by id.
    tasks_by_id: Box<[u32]>,
    /// For each task, the names whose failure its rule catches, sorted.
    caught: Box<[Box<[String]>]>,
    output: Option<u32>,
}

impl Graph {
    /// The number of nodes, at least 1. Nodes are numbered `1..=len`.
    #[expect(clippy::len_without_is_empty, reason = "a graph is never empty")]
    pub fn len(&self) -> u32 {
        number(self.id_ends.len())
    }

    /// The numbers of all nodes, in declared order.
    pub fn numbers(&self) -> impl DoubleEndedIterator<Item = u32> + use<> {
        1..=self.len()
    }

    /// A node's id.
    pub fn node_id(&self, number: u32) -> &str {
        let start = match index(number) {
            0 => 0,
            later => self.id_ends[later - 1],
        };
        &self.ids[start as usize..self.id_ends[index(number)] as usize]
    }

    /// The task that a node runs.
    pub fn task_of(&self, number: u32) -> &TaskSpec {
        &self.tasks[self.task_index_of(number)]
    }

    /// The position of a node's task in [`Graph::tasks`].
    pub fn task_index_of(&self, number: u32) -> usize {
        self.task_of[index(number)] as usize
    }

    /// A node's priority: its own if it was given one, else its task's.
    pub fn priority_of(&self, number: u32) -> i16 {
        self.priorities[index(number)]
    }

    /// The nodes that a node waits for, each once, in declared order.
    pub fn dependencies(&self, number: u32) -> &[u32] {
        self.dependencies.row(index(number))
    }

    /// The nodes that wait for a node, each once, in declared order.
    pub fn dependents(&self, number: u32) -> &[u32] {
        self.dependents.row(index(number))
    }

    /// The number of edges; a repeated edge counts once.
    pub fn edge_count(&self) -> usize {
        self.dependencies.len()
    }

    /// The node with this id.
    pub fn number_of(&self, node_id: &str) -> Option<u32> {
        let at = self
            .by_id
            .binary_search_by(|number| self.node_id(*number).cmp(node_id));
        at.ok().map(|at| self.by_id[at])
    }

    /// The position of the task with this id in [`Graph::tasks`].
    pub fn task_index(&self, task_id: &str) -> Option<usize> {
        let at = self
            .tasks_by_id
            .binary_search_by(|task| self.tasks[*task as usize].id.as_str().cmp(task_id));
        at.ok().map(|at| self.tasks_by_id[at] as usize)
    }

    /// The nodes of the task with this id, in declared order; none if there is no such task.
    pub fn nodes_of(&self, task_id: &str) -> &[u32] {
        self.task_index(task_id)
            .map_or(&[], |task| self.nodes_of.row(task))
    }

    /// All nodes, each after its dependencies. If several nodes could come next, the one that was
    /// declared first does.
    pub fn topological(&self) -> &[u32] {
        &self.topological
    }

    /// The position of a node in [`Graph::topological`], from 0.
    pub fn rank(&self, number: u32) -> u32 {
        self.ranks[index(number)]
    }

    /// The nodes without dependencies, in declared order.
    pub fn roots(&self) -> impl Iterator<Item = u32> + '_ {
        self.numbers()
            .filter(|number| self.dependencies(*number).is_empty())
    }

    /// The node whose output is the execution's.
    pub fn output(&self) -> Option<u32> {
        self.output
    }

    /// The tasks, in declared order. Some may have no node.
    pub fn tasks(&self) -> &[TaskSpec] {
        &self.tasks
    }

    /// Whether the rule of a node's task names, in a positive position, the failure of `name`.
    pub(crate) fn catches_name(&self, handler: u32, name: &str) -> bool {
        self.caught[self.task_index_of(handler)]
            .binary_search_by(|caught| caught.as_str().cmp(name))
            .is_ok()
    }

    /// The node with this id, if a node depends on it.
    pub(crate) fn named_dependency(&self, node: u32, id: &str) -> Option<u32> {
        self.number_of(id)
            .filter(|named| self.dependencies(node).binary_search(named).is_ok())
    }
}
