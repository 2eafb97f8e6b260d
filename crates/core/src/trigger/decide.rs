//! A rule applied to the endings of the dependencies: the decision and, if the node does not run,
//! the reason in words.
//!
//! Makes at most one pass over the dependencies, however many names a rule has. Asks for the
//! context only when a rule needs a comparison. The size of a reason is bounded.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::compare;
use super::ending::Ending;
use super::rule::Trigger;
use crate::graph::Graph;

/// Most entries that a [`SkipReason`] keeps of the values that the rule used.
pub const MAX_SAW: usize = 16;

/// Most bytes of a rule or value that a [`SkipReason`] shows.
const MAX_SHOWN_BYTES: usize = 500;

/// Whether a node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It becomes ready.
    Run,
    /// It does not become ready, and why.
    Skip(SkipReason),
}

/// Why a node was skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkipReason {
    /// The rule, as it is written in code. Long ones are cut.
    pub rule: String,
    /// What decided it, such as `hash: Failed`.
    pub because: String,
    /// Names and values that the rule used, at most [`MAX_SAW`]. Without a rule: the dependencies
    /// that did not complete.
    pub saw: Vec<(String, String)>,
}

/// Decides whether a node runs, once all its dependencies have ended.
///
/// `ending_of` returns how a dependency ended; it is called only for the node's own dependencies.
/// `context` returns the context that the node would see, and is called at most once.
///
/// ```
/// use abide_core::graph::{GraphBuilder, TaskSpec};
/// use abide_core::trigger::{Decision, Ending, decide};
///
/// let mut builder = GraphBuilder::new();
/// builder.task(TaskSpec::new("hash")).node("a", "hash").node("b", "hash").edge("a", "b");
/// let graph = builder.build()?;
/// let decision = decide(&graph, 2, &|_| Ending::Failed, &serde_json::Map::new);
/// let Decision::Skip(reason) = decision else { panic!() };
/// assert_eq!(reason.because, "a: Failed");
/// # Ok::<(), abide_core::graph::GraphError>(())
/// ```
pub fn decide(
    graph: &Graph,
    number: u32,
    ending_of: &dyn Fn(u32) -> Ending,
    context: &dyn Fn() -> Map<String, Value>,
) -> Decision {
    let view = View {
        graph,
        number,
        ending_of,
        context,
        loaded: OnceCell::new(),
        tallies: OnceCell::new(),
    };
    match &graph.task_of(number).trigger {
        None => view.every_dependency(),
        Some(rule) => view.by_rule(rule),
    }
}

/// What a rule can see from its node.
struct View<'a> {
    graph: &'a Graph,
    number: u32,
    ending_of: &'a dyn Fn(u32) -> Ending,
    context: &'a dyn Fn() -> Map<String, Value>,
    loaded: OnceCell<Map<String, Value>>,
    /// For each task index, how the task's nodes among the dependencies ended.
    tallies: OnceCell<HashMap<usize, Tally>>,
}

/// How the nodes of one name ended: for each ending the number of nodes, and the first node.
#[derive(Clone, Copy, Default)]
struct Tally([(u32, u32); Ending::ALL.len()]);

impl Tally {
    fn add(&mut self, node: u32, ending: Ending) {
        let (count, first) = &mut self.0[ending as usize];
        if *count == 0 {
            *first = node;
        }
        *count += 1;
    }

    /// The first node, in declared order, whose ending satisfies `wanted`.
    fn first(&self, wanted: impl Fn(Ending) -> bool) -> Option<(u32, Ending)> {
        let firsts = Ending::ALL.into_iter().filter(|ending| wanted(*ending));
        firsts
            .filter(|ending| self.0[*ending as usize].0 > 0)
            .map(|ending| (self.0[ending as usize].1, ending))
            .min()
    }
}

/// `Failed`, or for many nodes `98 Completed, 2 Failed`.
impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let total: u32 = self.0.iter().map(|(count, _)| count).sum();
        let mut separator = "";
        for (ending, (count, _)) in Ending::ALL.iter().zip(self.0) {
            match (count, total) {
                (0, _) => continue,
                (_, 1) => return write!(f, "{ending}"),
                _ => write!(f, "{separator}{count} {ending}")?,
            }
            separator = ", ";
        }
        Ok(())
    }
}

impl<'a> View<'a> {
    fn every_dependency(&self) -> Decision {
        let dependencies = self.graph.dependencies(self.number).iter();
        let endings = dependencies.map(|number| (*number, (self.ending_of)(*number)));
        let unmet = endings.filter(|(_, ending)| *ending != Ending::Completed);
        let saw: Vec<(String, String)> = unmet
            .take(MAX_SAW)
            .map(|(number, ending)| (self.graph.node_id(number).to_owned(), ending.to_string()))
            .collect();
        match saw.first() {
            None => Decision::Run,
            Some((node, ending)) => Decision::Skip(SkipReason {
                rule: "every dependency completed".to_owned(),
                because: format!("{node}: {ending}"),
                saw,
            }),
        }
    }

    fn by_rule(&self, rule: &Trigger) -> Decision {
        match self.holds(rule) {
            true => Decision::Run,
            false => Decision::Skip(SkipReason {
                rule: shown(rule.to_string()),
                because: self.because(rule, false),
                saw: self.saw(rule),
            }),
        }
    }

    /// Whether a rule holds. Rules are nested at most [`super::MAX_DEPTH`] deep.
    fn holds(&self, rule: &Trigger) -> bool {
        match rule {
            Trigger::All(parts) => parts.iter().all(|part| self.holds(part)),
            Trigger::Any(parts) => parts.iter().any(|part| self.holds(part)),
            Trigger::None(parts) => !parts.iter().any(|part| self.holds(part)),
            Trigger::Success(name) => {
                let unmet = self.tally(name).first(|ending| ending != Ending::Completed);
                unmet.is_none()
            }
            Trigger::Failed(name) => self.tally(name).first(Ending::is_failure).is_some(),
            Trigger::Skipped(name) => {
                let skipped = self.tally(name).first(|ending| ending == Ending::Skipped);
                skipped.is_some()
            }
            Trigger::Context { key, op, value } => compare::holds(self.value(key), *op, value),
        }
    }

    /// Why `rule` has the result `outcome`: the first part that alone decides it, followed down to
    /// a leaf.
    fn because(&self, rule: &Trigger, outcome: bool) -> String {
        let (parts, decisive) = match rule {
            Trigger::All(parts) => (parts, false),
            Trigger::Any(parts) | Trigger::None(parts) => (parts, true),
            leaf => return self.because_leaf(leaf, outcome),
        };
        // If no part decides alone, all parts together do; the first represents them.
        let decider = parts.iter().find(|part| self.holds(part) == decisive);
        match (decider, parts.first()) {
            (Some(part), _) => self.because(part, decisive),
            (None, Some(part)) => self.because(part, !decisive),
            (None, None) => format!("{rule}: {outcome}"),
        }
    }

    fn because_leaf(&self, leaf: &Trigger, outcome: bool) -> String {
        let node = match (leaf, outcome) {
            (Trigger::Success(name), false) => {
                self.tally(name).first(|ending| ending != Ending::Completed)
            }
            (Trigger::Failed(name), true) => self.tally(name).first(Ending::is_failure),
            (Trigger::Skipped(name), true) => {
                self.tally(name).first(|ending| ending == Ending::Skipped)
            }
            _ => None,
        };
        match node {
            Some((number, ending)) => format!("{}: {ending}", self.graph.node_id(number)),
            None => {
                let (name, seen) = self.seen(leaf).unwrap_or_default();
                format!("{name}: {seen}")
            }
        }
    }

    /// The first names and values of a rule, each once.
    fn saw(&self, rule: &Trigger) -> Vec<(String, String)> {
        let mut names = HashSet::new();
        let leaves = rule.parts().filter_map(|(part, _)| self.seen(part));
        leaves
            .filter(|(name, _)| names.insert(name.clone()))
            .take(MAX_SAW)
            .collect()
    }

    /// The name or key that a rule without parts uses, and its value.
    fn seen(&self, leaf: &Trigger) -> Option<(String, String)> {
        match leaf {
            Trigger::All(_) | Trigger::Any(_) | Trigger::None(_) => None,
            Trigger::Success(name) | Trigger::Failed(name) | Trigger::Skipped(name) => {
                Some((name.clone(), self.tally(name).to_string()))
            }
            Trigger::Context { key, .. } => {
                let value = self.value(key).map(ToString::to_string);
                let value = value.map_or_else(|| "missing".to_owned(), shown);
                Some((format!("context({key})"), value))
            }
        }
    }

    fn value(&self, key: &str) -> Option<&Value> {
        compare::lookup(self.loaded.get_or_init(self.context), key)
    }

    /// How the nodes of a name ended. All names in a checked graph's rules are among the node's
    /// dependencies.
    fn tally(&self, name: &str) -> Tally {
        if let Some(node) = self.graph.named_dependency(self.number, name) {
            let mut tally = Tally::default();
            tally.add(node, (self.ending_of)(node));
            return tally;
        }
        let tallies = self.tallies.get_or_init(|| self.count());
        let task = self.graph.task_index(name);
        task.and_then(|task| tallies.get(&task).copied())
            .expect("a graph's rules name dependencies")
    }

    fn count(&self) -> HashMap<usize, Tally> {
        let mut tallies: HashMap<usize, Tally> = HashMap::new();
        for number in self.graph.dependencies(self.number) {
            let task = self.graph.task_index_of(*number);
            let tally = tallies.entry(task).or_default();
            tally.add(*number, (self.ending_of)(*number));
        }
        tallies
    }
}

/// Cuts a long text.
fn shown(mut text: String) -> String {
    if text.len() > MAX_SHOWN_BYTES {
        text.truncate(text.floor_char_boundary(MAX_SHOWN_BYTES));
        text.push_str("...");
    }
    text
}
