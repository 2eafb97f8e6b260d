//! The only constructor of a [`Graph`]. Graphs built in code and graphs read from a store are
//! checked here, and every mistake that numbers can express is found.

use std::collections::{HashMap, HashSet};

use super::order::{self, Csr};
use super::{Graph, GraphError, MAX_EDGES, MAX_NODES, TaskSpec, number};
use crate::text::{NameError, check_name, nearest};

/// A graph whose names are numbers already, unchecked.
pub(super) struct Parts {
    pub(super) tasks: Vec<TaskSpec>,
    pub(super) ids: Ids,
    /// For each node the index of its task, which exists.
    pub(super) task_of: Vec<u32>,
    pub(super) priorities: Vec<Option<i16>>,
    /// (dependency, dependent), both existing nodes.
    pub(super) edges: Vec<(u32, u32)>,
    /// An existing node.
    pub(super) output: Option<u32>,
}

/// Node ids, each a valid name, in one string.
#[derive(Default)]
pub(super) struct Ids {
    text: String,
    ends: Vec<u32>,
}

impl Ids {
    pub(super) fn push(&mut self, id: &str) -> Result<(), NameError> {
        check_name("node id", id)?;
        self.text.push_str(id);
        self.ends.push(number(self.text.len()));
        Ok(())
    }
}

/// Checks the limits before memory for that many items is allocated.
pub(super) fn check_counts(tasks: usize, nodes: usize, edges: usize) -> Result<(), GraphError> {
    match () {
        () if nodes == 0 => Err(GraphError::Empty),
        () if nodes > MAX_NODES => Err(GraphError::TooManyNodes { nodes }),
        () if tasks > MAX_NODES => Err(GraphError::TooManyTasks { tasks }),
        () if edges > MAX_EDGES => Err(GraphError::TooManyEdges { edges }),
        () => Ok(()),
    }
}

impl Parts {
    /// Derives the indexes and checks ids, tasks, edges and rules.
    pub(super) fn assemble(mut self) -> Result<Graph, GraphError> {
        let nodes = self.task_of.len();
        check_counts(self.tasks.len(), nodes, self.edges.len())?;
        self.tasks.iter_mut().try_for_each(check_task)?;
        let (dependencies, dependents) = order::adjacency(nodes, &self.edges);
        let ordered = order::topological(&dependencies, &dependents);
        let (topological, cycle) = match ordered {
            Ok(order) => (order, Vec::new()),
            Err(cycle) => (Box::default(), cycle),
        };
        let graph = Graph {
            ranks: order::ranks(&topological),
            topological,
            dependencies,
            dependents,
            nodes_of: Csr::group(self.tasks.len(), || {
                let numbers = 1..=number(nodes);
                self.task_of.iter().map(|task| *task as usize).zip(numbers)
            }),
            by_id: Box::default(),
            tasks_by_id: Box::default(),
            caught: self.tasks.iter().map(caught).collect(),
            priorities: self.resolve_priorities(),
            ids: self.ids.text.into(),
            id_ends: self.ids.ends.into(),
            task_of: self.task_of.into(),
            tasks: self.tasks.into(),
            output: self.output,
        }
        .indexed()?;
        graph.check_cycle(&self.edges, &cycle)?;
        graph.check_triggers()?;
        Ok(graph)
    }

    fn resolve_priorities(&self) -> Box<[i16]> {
        let given = self.priorities.iter().zip(&self.task_of);
        given
            .map(|(own, task)| own.unwrap_or(self.tasks[*task as usize].priority))
            .collect()
    }
}

/// Checks one task by itself, and brings the values in its rule into canonical form.
fn check_task(task: &mut TaskSpec) -> Result<(), GraphError> {
    check_name("task id", &task.id)?;
    task.retry.check().map_err(|source| GraphError::Retry {
        task: task.id.clone(),
        source,
    })?;
    if let Some(timeout_us) = task.timeout_us.filter(|timeout_us| *timeout_us <= 0) {
        return Err(GraphError::Timeout {
            task: task.id.clone(),
            timeout_us,
        });
    }
    let Some(rule) = &mut task.trigger else {
        return Ok(());
    };
    if !rule.is_shallow() {
        return Err(GraphError::TooDeep {
            task: task.id.clone(),
        });
    }
    rule.sort_values();
    Ok(())
}

/// The names whose failure a task's rule catches, sorted.
fn caught(task: &TaskSpec) -> Box<[String]> {
    let rule = task.trigger.as_ref();
    let mut names: Vec<String> =
        rule.map_or_else(Vec::new, |rule| rule.caught().map(str::to_owned).collect());
    names.sort_unstable();
    names.dedup();
    names.into()
}

impl Graph {
    /// Sorts nodes and tasks by id, and finds ids that are declared twice.
    fn indexed(mut self) -> Result<Self, GraphError> {
        let mut by_id: Vec<u32> = self.numbers().collect();
        by_id.sort_by(|a, b| self.node_id(*a).cmp(self.node_id(*b)));
        if let Some(node) = twice(by_id.iter().map(|number| self.node_id(*number))) {
            return Err(GraphError::DuplicateNode { node });
        }
        let task_id = |task: &u32| self.tasks[*task as usize].id.as_str();
        let mut tasks_by_id: Vec<u32> = (0..number(self.tasks.len())).collect();
        tasks_by_id.sort_by(|a, b| task_id(a).cmp(task_id(b)));
        if let Some(task) = twice(tasks_by_id.iter().map(task_id)) {
            return Err(GraphError::DuplicateTask { task });
        }
        self.by_id = by_id.into();
        self.tasks_by_id = tasks_by_id.into();
        Ok(self)
    }

    /// Names the nodes of a cycle. A cycle of one node has a simpler error.
    fn check_cycle(&self, edges: &[(u32, u32)], cycle: &[u32]) -> Result<(), GraphError> {
        let id = |number: u32| self.node_id(number).to_owned();
        if cycle.is_empty() {
            return Ok(());
        }
        match edges.iter().find(|(from, to)| from == to) {
            Some((node, _)) => Err(GraphError::SelfDependency { node: id(*node) }),
            None => Err(GraphError::Cycle {
                path: cycle.iter().map(|number| id(*number)).collect(),
            }),
        }
    }

    /// Checks that every name in a rule is a dependency of every node the rule is for.
    fn check_triggers(&self) -> Result<(), GraphError> {
        for (task, spec) in self.tasks.iter().enumerate() {
            let Some(rule) = &spec.trigger else { continue };
            // A name that is repeated in a rule is looked up once for each node.
            let mut seen = HashSet::new();
            let names: Vec<&str> = rule.names().filter(|name| seen.insert(*name)).collect();
            for node in self.nodes_of.row(task) {
                self.check_names(*node, &names)?;
            }
        }
        Ok(())
    }

    fn check_names(&self, node: u32, names: &[&str]) -> Result<(), GraphError> {
        let dependencies = self.dependencies(node).iter();
        // For each task among the dependencies: one of its nodes, and whether it is the only one.
        let mut tasks = HashMap::new();
        for dependency in dependencies {
            tasks
                .entry(self.task_index_of(*dependency))
                .and_modify(|(_, only)| *only = false)
                .or_insert((*dependency, true));
        }
        for name in names {
            let named_node = self.named_dependency(node, name);
            let named_task = self.task_index(name).and_then(|task| tasks.get(&task));
            match (named_node, named_task) {
                (Some(dependency), Some((first, only))) if !only || *first != dependency => {
                    return Err(GraphError::AmbiguousName {
                        node: self.node_id(node).to_owned(),
                        name: (*name).to_owned(),
                    });
                }
                (None, None) => return Err(self.unknown_name(node, name)),
                _ => {}
            }
        }
        Ok(())
    }

    fn unknown_name(&self, node: u32, name: &str) -> GraphError {
        let dependencies = self.dependencies(node).iter();
        let candidates = dependencies
            .flat_map(|dependency| [self.node_id(*dependency), &self.task_of(*dependency).id]);
        GraphError::UnknownName {
            node: self.node_id(node).to_owned(),
            name: name.to_owned(),
            nearest: nearest(name, candidates).map(str::to_owned),
        }
    }
}

/// The first of sorted names that occurs twice.
fn twice<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    let pairs = names.clone().zip(names.skip(1));
    pairs
        .into_iter()
        .find(|(a, b)| a == b)
        .map(|(name, _)| name.to_owned())
}
