//! Mistakes in a graph. Each error names the mistake and, if there is one, the nearest valid name.

use thiserror::Error;

use super::limits::{MAX_EDGES, MAX_NODES};
use crate::retry::RetryError;
use crate::text::NameError;
use crate::trigger::{MAX_DEPTH, MAX_VALUE_DEPTH};

/// How many nodes of a cycle an error's text shows.
const SHOWN: usize = 8;

/// Why a graph was refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum GraphError {
    /// There is no node.
    #[error("the graph has no nodes")]
    Empty,
    /// There are more nodes than [`MAX_NODES`].
    #[error("the graph has {nodes} nodes; the limit is {MAX_NODES}")]
    TooManyNodes {
        /// How many.
        nodes: usize,
    },
    /// There are more tasks than [`MAX_NODES`].
    #[error("the graph has {tasks} tasks; the limit is {MAX_NODES}")]
    TooManyTasks {
        /// How many.
        tasks: usize,
    },
    /// There are more edges than [`MAX_EDGES`].
    #[error("the graph has {edges} edges; the limit is {MAX_EDGES}")]
    TooManyEdges {
        /// How many.
        edges: usize,
    },
    /// A node or task id isn't a valid name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Two tasks share an id.
    #[error("task `{task}` is declared twice")]
    DuplicateTask {
        /// The id.
        task: String,
    },
    /// Two nodes share an id.
    #[error("node `{node}` is declared twice")]
    DuplicateNode {
        /// The id.
        node: String,
    },
    /// A node runs a task that isn't declared.
    #[error("node `{node}` runs task `{task}`, which isn't declared{}", hint(.nearest))]
    UnknownTask {
        /// The node.
        node: String,
        /// The task it names.
        task: String,
        /// The declared task that was probably meant.
        nearest: Option<String>,
    },
    /// A node depends on a node that isn't declared.
    #[error("node `{node}` depends on `{dependency}`, which isn't declared{}", hint(.nearest))]
    UnknownDependency {
        /// The node that waits.
        node: String,
        /// The dependency that it names.
        dependency: String,
        /// The declared node that was probably meant.
        nearest: Option<String>,
    },
    /// An edge leads to a node that isn't declared.
    #[error("the edge from `{dependency}` leads to `{node}`, which isn't declared{}", hint(.nearest))]
    UnknownDependent {
        /// The missing node.
        node: String,
        /// The node where the edge starts.
        dependency: String,
        /// The declared node that was probably meant.
        nearest: Option<String>,
    },
    /// A node depends on itself.
    #[error("node `{node}` depends on itself")]
    SelfDependency {
        /// The node.
        node: String,
    },
    /// Nodes wait for each other.
    #[error("the graph has a cycle: {}", round(.path))]
    Cycle {
        /// The nodes on the cycle, each a dependency of the next and the last of the first.
        path: Vec<String>,
    },
    /// A trigger rule names something that is not among a node's dependencies.
    #[error("the trigger of node `{node}` names `{name}`, which is not among its dependencies{}", hint(.nearest))]
    UnknownName {
        /// The node whose rule it is.
        node: String,
        /// The name.
        name: String,
        /// The dependency that was probably meant.
        nearest: Option<String>,
    },
    /// A name in a trigger rule could be a node, or a task with other nodes.
    #[error(
        "the trigger of node `{node}` names `{name}`, which is both a node and a task with other nodes among its dependencies; rename one"
    )]
    AmbiguousName {
        /// The node whose rule it is.
        node: String,
        /// The name.
        name: String,
    },
    /// A trigger rule is nested deeper than [`MAX_DEPTH`], or a value in it than [`MAX_VALUE_DEPTH`].
    #[error(
        "the trigger of task `{task}` is nested too deeply; the limit is {MAX_DEPTH} rules and {MAX_VALUE_DEPTH} levels of a value"
    )]
    TooDeep {
        /// The task.
        task: String,
    },
    /// The output names a node that isn't declared.
    #[error("the output is node `{node}`, which isn't declared{}", hint(.nearest))]
    UnknownOutput {
        /// The name.
        node: String,
        /// The declared node that was probably meant.
        nearest: Option<String>,
    },
    /// A task's retry policy has a number that is out of range.
    #[error("the retry policy of task `{task}` is wrong: {source}")]
    Retry {
        /// The task.
        task: String,
        /// What is wrong.
        source: RetryError,
    },
    /// A task's timeout isn't positive.
    #[error("the timeout of task `{task}` is {timeout_us} microseconds; it must be more than 0")]
    Timeout {
        /// The task.
        task: String,
        /// The timeout.
        timeout_us: i64,
    },
    /// The stored graph has a format that this version does not read.
    #[error("the graph is stored in format {version}; this version of Abide reads format 1")]
    Version {
        /// The format's version.
        version: u64,
    },
    /// The stored text is not a graph.
    #[error("the stored graph is malformed: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
}

fn hint(nearest: &Option<String>) -> String {
    match nearest {
        None => String::new(),
        Some(name) => format!("; did you mean `{name}`?"),
    }
}

/// `a -> b -> a`, with the middle of a long cycle left out.
fn round(path: &[String]) -> String {
    let mut shown: Vec<String> = path.iter().take(SHOWN).cloned().collect();
    if path.len() > SHOWN {
        shown.push(format!("({} more)", path.len() - SHOWN));
    }
    shown.extend(path.first().cloned());
    shown.join(" -> ")
}
