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
mod order;
#[cfg(test)]
pub(crate) mod tests;
mod wire;

use serde::{Deserialize, Serialize};

use crate::retry::RetryPolicy;
use crate::text::is_default;
use crate::trigger::Trigger;

pub use builder::GraphBuilder;
pub use error::GraphError;

use order::Csr;

/// Most nodes a graph may have; also most tasks.
pub const MAX_NODES: usize = 100_000;

/// Most edges a graph may have.
pub const MAX_EDGES: usize = 4_000_000;

/// One task of a workflow: the options that all its nodes share.
///
/// Stored as JSON with defaults left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskSpec {
    /// The name under which workers register the task's function.
    pub id: String,
    /// The rule that decides, once a node's dependencies have ended, whether the node runs.
    /// Default: it runs if all completed.
    #[serde(skip_serializing_if = "is_default")]
    pub trigger: Option<Trigger>,
    /// Whether and when a failed attempt is repeated. Default: never.
    #[serde(skip_serializing_if = "is_default")]
    pub retry: RetryPolicy,
    /// The longest active time of an attempt in microseconds, more than 0. Default: no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub timeout_us: Option<i64>,
    /// Ready tasks with a higher number run first. Default 0.
    #[serde(skip_serializing_if = "is_default")]
    pub priority: i16,
    /// What the task's function needs.
    #[serde(skip_serializing_if = "is_default")]
    pub uses: Uses,
}

impl TaskSpec {
    /// A task with defaults for everything but its id.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            ..Self::default()
        }
    }
}

/// What a task's function needs, so that nothing else is read or prepared for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Uses {
    /// The input of its node or of the execution.
    #[serde(skip_serializing_if = "is_default")]
    pub input: bool,
    /// The context with its ancestors' changes.
    #[serde(skip_serializing_if = "is_default")]
    pub context: bool,
    /// Its dependencies' outputs.
    #[serde(skip_serializing_if = "is_default")]
    pub outputs: bool,
    /// The handle for durable operations.
    #[serde(skip_serializing_if = "is_default")]
    pub handle: bool,
}

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

    /// The first difference between this graph and `recorded`, in words: in its tasks, nodes,
    /// dependencies, trigger rules or output. None if there is no such difference. Retries,
    /// timeouts, priorities, the needs of functions and the declared order may differ.
    pub fn difference_to(&self, recorded: &Graph) -> Option<String> {
        difference::first(self, recorded)
    }

    /// Compact, canonical JSON: equal graphs give equal text. The format carries a version.
    pub fn to_json(&self) -> String {
        wire::write(self)
    }

    /// Reads [`Graph::to_json`]'s text and checks it as [`GraphBuilder::build`] does.
    pub fn from_json(json: &str) -> Result<Self, GraphError> {
        wire::read(json)
    }

    /// Sixteen hexadecimal digits of the canonical JSON's SHA-256. Equal graphs have equal
    /// fingerprints, in whatever order their edges were declared.
    pub fn fingerprint(&self) -> String {
        wire::fingerprint(self)
    }
}

/// A node's index in the arrays.
fn index(number: u32) -> usize {
    (number as usize)
        .checked_sub(1)
        .expect("nodes are numbered from 1")
}

/// A count or position as the arrays store it. Limits keep all of them far below 2^32.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a graph's counts fit 32 bits")
}
