//! The stored form of a graph, format 1: `{"v":1,"tasks":[..],"nodes":[["a",0],["b",1,[1]]],"output":2}`.
//!
//! A node is a row: its id, its task's index, the numbers of its dependencies, and its priority if
//! it differs from its task's. Values at the end of a row that equal the default are left out.
//! Everything that follows from these is derived again when the graph is read. A change of this
//! format that alters the meaning of a graph raises the version.

use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::check::{Ids, Parts, check_counts};
use super::{Graph, GraphError, TaskSpec};

const VERSION: u64 = 1;

/// Bytes of the digest that a fingerprint shows.
const FINGERPRINT_BYTES: usize = 8;

impl Graph {
    /// Compact, canonical JSON: equal graphs give equal text. The format carries a version.
    pub fn to_json(&self) -> String {
        write(self)
    }

    /// Reads [`Graph::to_json`]'s text and checks it as [`GraphBuilder::build`](super::GraphBuilder::build) does.
    pub fn from_json(json: &str) -> Result<Self, GraphError> {
        read(json)
    }

    /// Sixteen hexadecimal digits of the canonical JSON's SHA-256. Equal graphs have equal
    /// fingerprints; the order in which edges were declared makes no difference.
    pub fn fingerprint(&self) -> String {
        fingerprint(self)
    }
}

fn write(graph: &Graph) -> String {
    let stored = Written {
        v: VERSION,
        tasks: &graph.tasks,
        nodes: Nodes(graph),
        output: graph.output,
    };
    serde_json::to_string(&stored).expect("a graph is strings, finite numbers and JSON values")
}

fn fingerprint(graph: &Graph) -> String {
    let digest = Sha256::digest(write(graph));
    digest[..FINGERPRINT_BYTES]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn read(json: &str) -> Result<Graph, GraphError> {
    let malformed = |error: serde_json::Error| GraphError::Malformed {
        reason: error.to_string(),
    };
    let Version { v } = serde_json::from_str(json).map_err(malformed)?;
    if v != VERSION {
        return Err(GraphError::Version { version: v });
    }
    let read: Read = serde_json::from_str(json).map_err(malformed)?;
    read.into_parts()?.assemble()
}

#[derive(Serialize)]
struct Written<'a> {
    v: u64,
    tasks: &'a [TaskSpec],
    nodes: Nodes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<u32>,
}

struct Nodes<'a>(&'a Graph);

impl Serialize for Nodes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.numbers().map(|number| Row(self.0, number)))
    }
}

struct Row<'a>(&'a Graph, u32);

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(graph, number) = *self;
        let dependencies = graph.dependencies(number);
        let priority = graph.priority_of(number);
        let own_priority = priority != graph.task_of(number).priority;
        let mut row = serializer.serialize_seq(None)?;
        row.serialize_element(graph.node_id(number))?;
        row.serialize_element(&graph.task_index_of(number))?;
        if !dependencies.is_empty() || own_priority {
            row.serialize_element(dependencies)?;
        }
        if own_priority {
            row.serialize_element(&priority)?;
        }
        row.end()
    }
}

#[derive(Deserialize)]
struct Version {
    v: u64,
}

#[derive(Deserialize)]
struct Read {
    tasks: Vec<TaskSpec>,
    nodes: Vec<Node>,
    output: Option<u32>,
}

struct Node {
    id: String,
    task: u32,
    dependencies: Vec<u32>,
    priority: Option<i16>,
}

impl Read {
    /// Checks that every number refers to an existing item.
    fn into_parts(self) -> Result<Parts, GraphError> {
        let malformed = |reason| Err(GraphError::Malformed { reason });
        let nodes = self.nodes.len();
        let edges = self.nodes.iter().map(|node| node.dependencies.len()).sum();
        check_counts(self.tasks.len(), nodes, edges)?;
        let exists = |number: u32| (1..=nodes).contains(&(number as usize));
        let mut ids = Ids::default();
        let mut pairs = Vec::with_capacity(edges);
        for (node, to) in self.nodes.iter().zip(1..) {
            ids.push(&node.id)?;
            if node.task as usize >= self.tasks.len() {
                return malformed(format!("node `{}` runs task number {}", node.id, node.task));
            }
            for from in &node.dependencies {
                if !exists(*from) {
                    return malformed(format!("node `{}` depends on number {from}", node.id));
                }
                pairs.push((*from, to));
            }
        }
        if let Some(output) = self.output.filter(|output| !exists(*output)) {
            return malformed(format!("the output is number {output}"));
        }
        Ok(Parts {
            ids,
            task_of: self.nodes.iter().map(|node| node.task).collect(),
            priorities: self.nodes.iter().map(|node| node.priority).collect(),
            edges: pairs,
            output: self.output,
            tasks: self.tasks,
        })
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a node: [id, task, dependencies, priority]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut row: A) -> Result<Node, A::Error> {
        let node = Node {
            id: row
                .next_element()?
                .ok_or_else(|| A::Error::invalid_length(0, &self))?,
            task: row
                .next_element()?
                .ok_or_else(|| A::Error::invalid_length(1, &self))?,
            dependencies: row.next_element()?.unwrap_or_default(),
            priority: row.next_element()?,
        };
        // The reader itself refuses a row with further values.
        Ok(node)
    }
}
