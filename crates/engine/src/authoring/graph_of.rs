//! Graphs built at run time: a node is an id, a task and an input. A task that takes an input is
//! a template with one node per `node(..)`; every other task has one node, called like it. Linear
//! in nodes and edges; mistakes are kept and returned by `build`, naming the node.

use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;
use std::ops::Range;

use abide_core::graph::{Graph, GraphBuilder, GraphError, MAX_EDGES, TaskSpec};
use abide_core::text::check_payload;
use serde::Serialize;

use super::authoring_error::AuthoringError;
use super::erased::WorkflowSpec;
use super::task::{PartOf, Workflow};

/// A graph for one execution of workflow `W`.
///
/// ```
/// use abide::{Outputs, TaskError, task, workflow};
///
/// #[workflow(output = total)]
/// mod sizes {
///     #[task]
///     pub async fn size(path: String) -> Result<u64, TaskError> {
///         Ok(std::fs::metadata(path)?.len())
///     }
///
///     #[task]
///     pub async fn total(sizes: Outputs<size>) -> Result<u64, TaskError> {
///         Ok(sizes.values().sum())
///     }
/// }
///
/// # fn main() -> Result<(), abide::AuthoringError> {
/// let mut graph = sizes::graph();
/// for path in ["/etc/hosts", "/etc/passwd"] {
///     graph = graph.node::<sizes::size>(path, &path.to_owned());
/// }
/// let built = graph.build()?;
/// assert_eq!(built.graph.len(), 3);
/// # Ok(())
/// # }
/// ```
///
/// - A task gets a node by itself, with its own id, unless it takes an input or you gave it nodes.
/// - A node waits for every node of each task its task waits for; but if an
///   [`edge`](GraphOf::edge) leads to it from nodes of such a task, only for those.
/// - Nodes are declared in the order of their tasks in the workflow, and within a task in the order
///   in which they were added.
#[must_use = "a graph does nothing until an execution is started with it"]
pub struct GraphOf<W> {
    spec: Result<WorkflowSpec, AuthoringError>,
    nodes: Vec<NewNode>,
    edges: Vec<(String, String)>,
    mistake: Option<AuthoringError>,
    workflow: PhantomData<fn() -> W>,
}

struct NewNode {
    id: String,
    task: String,
    priority: Option<i16>,
    input: Option<String>,
}

/// A checked graph with the inputs of its nodes.
#[derive(Clone, Debug)]
pub struct BuiltGraph {
    /// The graph.
    pub graph: Graph,
    /// The JSON texts of the nodes' inputs; node `n`'s is at `n - 1`. None: the node was given none.
    pub inputs: Vec<Option<String>>,
}

impl<W> GraphOf<W> {
    fn from_spec(spec: Result<WorkflowSpec, AuthoringError>) -> GraphOf<W> {
        GraphOf {
            spec,
            nodes: Vec::new(),
            edges: Vec::new(),
            mistake: None,
            workflow: PhantomData,
        }
    }

    /// Adds a node of `task` with an input, neither of which the compiler checks. The id must be
    /// new, the task one of the workflow's.
    pub fn add(
        self,
        id: impl Into<String>,
        task: impl Into<String>,
        input: &impl Serialize,
    ) -> GraphOf<W> {
        self.push(id.into(), task.into(), None, input)
    }

    /// Makes node `to` wait for node `from`, each given by its id.
    pub fn edge(mut self, from: impl Into<String>, to: impl Into<String>) -> GraphOf<W> {
        self.edges.push((from.into(), to.into()));
        self
    }

    fn push(
        mut self,
        id: String,
        task: String,
        priority: Option<i16>,
        input: &impl Serialize,
    ) -> GraphOf<W> {
        match self.encode(&id, input) {
            Ok(input) => self.nodes.push(NewNode {
                id,
                task,
                priority,
                input,
            }),
            Err(mistake) => {
                self.mistake.get_or_insert(mistake);
            }
        }
        self
    }

    fn encode(&self, node: &str, input: &impl Serialize) -> Result<Option<String>, AuthoringError> {
        let (workflow, node) = (|| self.name().to_owned(), || node.to_owned());
        let json = serde_json::to_string(input).map_err(|error| AuthoringError::Input {
            workflow: workflow(),
            node: node(),
            reason: error.to_string(),
        })?;
        check_payload(&json).map_err(|source| AuthoringError::InputText {
            workflow: workflow(),
            node: node(),
            source,
        })?;
        Ok((json != "null").then_some(json))
    }

    fn name(&self) -> &str {
        self.spec.as_ref().map_or("", |spec| &spec.name)
    }
}

impl GraphOf<()> {
    /// A graph without nodes yet, for a workflow made by a builder, which has no types.
    ///
    /// ```
    /// use abide::{GraphOf, Input, TaskBuilder, TaskError, WorkflowBuilder};
    ///
    /// let size = TaskBuilder::new("size", async |Input(path): Input<String>| {
    ///     Ok::<_, TaskError>(std::fs::metadata(path)?.len())
    /// });
    /// let spec = WorkflowBuilder::new("sizes").task(size).build()?;
    /// let built = GraphOf::spec(&spec).add("hosts", "size", &"/etc/hosts").build()?;
    /// assert_eq!(built.inputs, [Some(r#""/etc/hosts""#.to_owned())]);
    /// # Ok::<(), abide::AuthoringError>(())
    /// ```
    pub fn spec(spec: &WorkflowSpec) -> GraphOf<()> {
        GraphOf::from_spec(Ok(spec.clone()))
    }
}

impl<W: Workflow> GraphOf<W> {
    /// A graph of `W` without nodes yet; what `module::graph()` returns.
    pub fn new() -> GraphOf<W> {
        GraphOf::from_spec(W::spec())
    }

    /// Adds a node that runs task `T` on `input`. The id must be new.
    pub fn node<T: PartOf<W>>(self, id: impl Into<String>, input: &T::Input) -> GraphOf<W> {
        self.push(id.into(), T::ID.to_owned(), None, input)
    }

    /// Adds a node whose priority differs from its task's.
    pub fn node_with_priority<T: PartOf<W>>(
        self,
        id: impl Into<String>,
        input: &T::Input,
        priority: i16,
    ) -> GraphOf<W> {
        self.push(id.into(), T::ID.to_owned(), Some(priority), input)
    }
}

impl<W: Workflow> Default for GraphOf<W> {
    fn default() -> GraphOf<W> {
        GraphOf::new()
    }
}

impl<W> GraphOf<W> {
    /// Checks everything and builds the graph; the first mistake found is returned.
    pub fn build(self) -> Result<BuiltGraph, AuthoringError> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let spec = self.spec?;
        let placed = Placed::new(&spec, self.nodes);
        let chosen = placed.chosen(&self.edges);
        placed.check_single_outputs(&chosen)?;
        let graph = placed.graph(&chosen, &self.edges)?;
        let inputs = placed.nodes.into_iter().map(|node| node.input).collect();
        Ok(BuiltGraph { graph, inputs })
    }
}

/// The nodes in declared order, those that tasks get by themselves included.
struct Placed<'a> {
    spec: &'a WorkflowSpec,
    /// Ordered by task. Nodes of tasks that the workflow doesn't have stand at the end, where the
    /// graph's own check finds them.
    nodes: Vec<NewNode>,
    /// For each task of the workflow, where in `nodes` its nodes are.
    of_task: Vec<Range<usize>>,
}

/// How many edges were given by hand to a node (the first number) from nodes of a task (the second).
type Chosen = HashMap<(usize, usize), usize>;

impl<'a> Placed<'a> {
    fn new(spec: &'a WorkflowSpec, given: Vec<NewNode>) -> Placed<'a> {
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
            if let Some(task) = self.of_task.iter().position(|nodes| nodes.contains(&from)) {
                *chosen.entry((to, task)).or_default() += 1;
            }
        }
        chosen
    }

    /// Every node with every task all of whose nodes it waits for.
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

    fn graph(&self, chosen: &Chosen, edges: &[(String, String)]) -> Result<Graph, AuthoringError> {
        self.assemble(chosen, edges)?
            .build()
            .map_err(|source| self.refused(source))
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
