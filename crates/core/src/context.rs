//! Context along the graph: each task records what it changed, a dependent sees the fold of its ancestors'
//! changes in topological order. So a diamond's result never depends on timing, and a value that was only
//! inherited never overwrites a sibling's update.
//!
//! Folds are checkpointed, or a chain's last task would read every other's changes. A checkpoint at a node
//! says what the context is after it. [`sources`] finds the checkpoint to start from; [`chargeable`] and
//! [`checkpoint_due`] say when to write one, so that all checkpoints together are never larger than all
//! changes. Reading and writing them is the caller's.

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

/// What reading one task's changes costs, counted in bytes on top of their length. It makes checkpoints
/// due on a chain of tasks that change nothing, too.
pub const SOURCE_COST: usize = 32;

/// The context that an execution begins with: its input, if that is an object.
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

    /// Does to a context what the task did.
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

/// The context that `changes`, applied in the order given, make of `base`.
pub fn fold<'a>(
    base: Map<String, Value>,
    changes: impl IntoIterator<Item = &'a Changes>,
) -> Map<String, Value> {
    let mut context = base;
    for change in changes {
        change.apply(&mut context);
    }
    // Where maps keep insertion order, equal contexts would else differ as text.
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
/// A checkpoint may stand in for all that came before it only if it accounts for all of it: it is at an
/// ancestor `c`, and every ancestor of `number` before `c` in topological order is an ancestor of `c` too.
/// The latest such checkpoint is used. `has_checkpoint` is asked once about each ancestor looked at.
///
/// The walk goes back from `number` and ends as soon as a checkpoint is known to do: on a chain, at the
/// first. It looks at all ancestors only where no checkpoint serves.
pub fn sources(graph: &Graph, number: u32, has_checkpoint: &dyn Fn(u32) -> bool) -> Sources {
    let mut walk = Walk::new(graph, number, has_checkpoint);
    let checkpoint = walk.next();
    Sources {
        checkpoint,
        changes: walk.since(checkpoint),
    }
}

/// The nodes whose checkpoint could serve `number`, latest first, for a caller that would rather ask its
/// store about some at a time ("which of these has one?") than know beforehand. Lazy: on a chain, taking
/// the first few looks at few nodes.
///
/// Pass the one found to [`sources`], as the only node that has a checkpoint.
pub fn candidates(graph: &Graph, number: u32) -> impl Iterator<Item = u32> + '_ {
    Walk::new(graph, number, &|_| true)
}

/// Those of `sources.changes` whose cost counts towards a checkpoint at `number`.
///
/// If every reader of a change counted it, a thousand tasks that inherit the same large value would each
/// find a checkpoint due. So a node's cost is passed on to one heir only, its first declared dependent, and
/// from there on, until a checkpoint pays for it. All checkpoints together thus cost at most what all
/// changes did, in any graph.
pub fn chargeable(
    graph: &Graph,
    number: u32,
    sources: &Sources,
    has_checkpoint: &dyn Fn(u32) -> bool,
) -> HashSet<u32> {
    let mut charged = HashSet::from([number]);
    // Backwards, so that a node's heir has been decided on before it.
    for node in sources.changes.iter().rev() {
        let heir = graph.dependents(*node).first();
        if heir.is_some_and(|heir| charged.contains(heir)) && !has_checkpoint(*node) {
            charged.insert(*node);
        }
    }
    charged.remove(&number);
    charged
}

/// Whether a node that just ended should record a checkpoint: when it is no larger than what has been
/// recorded since the last.
///
/// `bytes_since_last` is the length of the node's own changes and of those of [`chargeable`] nodes, each with
/// [`SOURCE_COST`] added. `checkpoint_bytes` is the length of the checkpoint, best stored as
/// [`Changes::between`] the execution's own context and the context after the node: an inherited value
/// that nobody touched then isn't copied into it.
pub fn checkpoint_due(bytes_since_last: usize, checkpoint_bytes: usize) -> bool {
    checkpoint_bytes <= bytes_since_last
}
