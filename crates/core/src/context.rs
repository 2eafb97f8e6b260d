//! Context along the graph. Each task records what it changed. A dependent sees its ancestors'
//! changes, applied in topological order. So when branches of the graph join again, the result
//! never depends on timing, and a value that was only inherited never overwrites a sibling's
//! update.
//!
//! Contexts are checkpointed, because otherwise the last task of a chain would read the changes of
//! all others. A checkpoint at a node contains the context after that node. [`sources`] finds the
//! checkpoint to start from. [`chargeable`] and [`checkpoint_due`] decide when to write one, so
//! that all checkpoints together are never larger than all changes. The caller reads and writes the
//! checkpoints.

#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, HashSet};

use serde::de::Error as _;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::graph::Graph;
use crate::payload::Payload;

use walk::Walk;

/// The cost of reading one task's changes, in bytes, in addition to their length. Because of this
/// cost, checkpoints also become due on a chain of tasks that change nothing.
pub const SOURCE_COST: usize = 32;

/// The context with which an execution begins: its input, if the input is an object.
pub fn base(input: Option<&Payload>) -> Result<Map<String, Value>, serde_json::Error> {
    let value = input.map(|input| serde_json::from_str(input.as_str()));
    Ok(match value.transpose()? {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    })
}

/// What a task changed in its context: values set, and keys removed (`None`).
///
/// Stored as `{"set":{"a":1},"removed":["b"]}`, so that setting `null` differs from removing; an empty half
/// is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes(pub BTreeMap<String, Option<Value>>);

impl Changes {
    /// How deep the values are nested in the stored form.
    pub const LEVELS: usize = 2;

    /// What turns `before` into `after`: keys added or given another value, and keys removed.
    pub fn between(before: &Map<String, Value>, after: &Map<String, Value>) -> Self {
        let set = after
            .iter()
            .filter(|(key, value)| before.get(*key) != Some(*value))
            .map(|(key, value)| (key.clone(), Some(value.clone())));
        let gone = before.keys().filter(|key| !after.contains_key(*key));
        Self(set.chain(gone.map(|key| (key.clone(), None))).collect())
    }

    /// Records that a key was given a value.
    pub fn set(&mut self, key: impl Into<String>, value: Value) {
        self.0.insert(key.into(), Some(value));
    }

    /// Records that a key was removed.
    pub fn remove(&mut self, key: impl Into<String>) {
        self.0.insert(key.into(), None);
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The stored form.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("keys are strings")
    }

    /// Applies the task's changes to a context.
    pub fn apply(&self, context: &mut Map<String, Value>) {
        for (key, value) in &self.0 {
            match value {
                Some(value) => context.insert(key.clone(), value.clone()),
                None => context.remove(key),
            };
        }
    }
}

impl Serialize for Changes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let set: BTreeMap<&str, &Value> = self
            .0
            .iter()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_ref()?)))
            .collect();
        let gone = self.0.iter().filter(|(_, value)| value.is_none());
        let removed: Vec<&str> = gone.map(|(key, _)| key.as_str()).collect();
        let halves = usize::from(!set.is_empty()) + usize::from(!removed.is_empty());
        let mut object = serializer.serialize_struct("Changes", halves)?;
        if !set.is_empty() {
            object.serialize_field("set", &set)?;
        }
        if !removed.is_empty() {
            object.serialize_field("removed", &removed)?;
        }
        object.end()
    }
}

impl<'de> Deserialize<'de> for Changes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Stored {
            #[serde(default)]
            set: BTreeMap<String, Value>,
            #[serde(default)]
            removed: Vec<String>,
        }
        let Stored { set, removed } = Stored::deserialize(deserializer)?;
        let mut changes = Self(
            set.into_iter()
                .map(|(key, value)| (key, Some(value)))
                .collect(),
        );
        for key in removed {
            if let Some(Some(_)) = changes.0.get(&key) {
                return Err(D::Error::custom(format!("`{key}` is both set and removed")));
            }
            changes.remove(key);
        }
        Ok(changes)
    }
}

/// The context that results if `changes` are applied to `base` in the given order.
pub fn fold<'a>(
    base: Map<String, Value>,
    changes: impl IntoIterator<Item = &'a Changes>,
) -> Map<String, Value> {
    let mut context = base;
    for change in changes {
        change.apply(&mut context);
    }
    // Otherwise, if maps keep insertion order, equal contexts would differ as text.
    context.sort_keys();
    context
}

/// What to read to build the context that a task sees, without its own changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Start from this node's checkpoint; without one, from the execution's own context.
    pub checkpoint: Option<u32>,
    /// Then apply these nodes' changes, in this order.
    pub changes: Vec<u32>,
}

/// Finds what to read for the context that node `number` sees.
///
/// A checkpoint can replace everything before it only if it includes all of it: it is at an
/// ancestor `c`, and every ancestor of `number` before `c` in topological order is an ancestor of
/// `c` too. The latest such checkpoint is used. `has_checkpoint` is called once for each visited
/// ancestor.
///
/// The walk goes back from `number` and ends as soon as a usable checkpoint is found: on a chain,
/// at the first one. It visits all ancestors only if no checkpoint is usable.
pub fn sources(graph: &Graph, number: u32, has_checkpoint: &dyn Fn(u32) -> bool) -> Sources {
    let mut walk = Walk::new(graph, number, has_checkpoint);
    let checkpoint = walk.next();
    Sources {
        checkpoint,
        changes: walk.since(checkpoint),
    }
}

/// The nodes whose checkpoints `number` could use, latest first. For a caller that asks its store
/// about a few nodes at a time ("which of these has one?"). Lazy: on a chain, taking the first few
/// visits few nodes.
///
/// Pass the one found to [`sources`], as the only node that has a checkpoint.
pub fn candidates(graph: &Graph, number: u32) -> impl Iterator<Item = u32> + '_ {
    Walk::new(graph, number, &|_| true)
}

/// The nodes in `sources.changes` whose cost counts towards a checkpoint at `number`.
///
/// If every reader of a change counted its cost, a thousand tasks that inherit the same large value
/// would each find a checkpoint due. So the cost of a node passes to one heir only, its first
/// declared dependent, and from there to the next heir, until a checkpoint pays for it. So in any
/// graph all checkpoints together cost at most as much as all changes.
pub fn chargeable(
    graph: &Graph,
    number: u32,
    sources: &Sources,
    has_checkpoint: &dyn Fn(u32) -> bool,
) -> HashSet<u32> {
    let mut charged = HashSet::from([number]);
    // Backwards, so that a node's heir is decided before the node.
    for node in sources.changes.iter().rev() {
        let heir = graph.dependents(*node).first();
        if heir.is_some_and(|heir| charged.contains(heir)) && !has_checkpoint(*node) {
            charged.insert(*node);
        }
    }
    charged.remove(&number);
    charged
}

/// Whether a node that has just ended should record a checkpoint: if the checkpoint is no larger
/// than the changes that have been recorded since the last one.
///
/// `bytes_since_last` is the length of the node's own changes and of the changes of the
/// [`chargeable`] nodes, each plus [`SOURCE_COST`]. `checkpoint_bytes` is the length of the
/// checkpoint. Store it as [`Changes::between`] the execution's own context and the context after
/// the node: then inherited values that no task changed are not copied into it.
pub fn checkpoint_due(bytes_since_last: usize, checkpoint_bytes: usize) -> bool {
    checkpoint_bytes <= bytes_since_last
}
