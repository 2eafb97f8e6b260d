//! Graphs built at run time. A node has an id, a task and an input. A task that takes an input is a
//! template with one node for each `node(..)`; every other task has one node with the task's id.
//! `build` returns the first mistake and names the node.

use std::fmt;
use std::marker::PhantomData;

use abide_core::graph::Graph;
use abide_core::text::check_payload;
use serde::Serialize;

use super::authoring_error::AuthoringError;
use super::placement::{NewNode, Placed};
use super::workflow::{PartOf, Workflow};
use super::workflow_spec::WorkflowSpec;

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
/// - A task without an input, and without nodes that you added, gets one node with the task's id.
/// - A node waits for every node of each task that its own task waits for. But if an
///   [`edge`](GraphOf::edge) leads to it from nodes of such a task, it waits only for those nodes
///   of that task.
/// - Nodes are declared in the order of their tasks in the workflow, and within a task in the order
///   in which you added them.
#[must_use = "a graph does nothing until an execution is started with it"]
pub struct GraphOf<W> {
    spec: Result<WorkflowSpec, AuthoringError>,
    nodes: Vec<NewNode>,
    edges: Vec<(String, String)>,
    mistake: Option<AuthoringError>,
    workflow: PhantomData<fn() -> W>,
}

impl<W> fmt::Debug for GraphOf<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workflow = self.spec.as_ref().map(|spec| &spec.name);
        f.debug_struct("GraphOf")
            .field("workflow", &workflow)
            .field("nodes", &self.nodes.len())
            .field("edges", &self.edges.len())
            .finish_non_exhaustive()
    }
}

/// A checked graph with the inputs of its nodes.
#[derive(Clone, Debug)]
pub struct BuiltGraph {
    /// The graph.
    pub graph: Graph,
    /// The JSON texts of the nodes' inputs; that of node `n` is at `n - 1`. None: the node has no
    /// input.
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

    /// Adds a node of `task` with an input, which the compiler cannot check. The id must be new,
    /// and the task must belong to the workflow.
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
    /// A graph without nodes, for a workflow from a builder, whose types are not known.
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
    /// A graph of `W` without nodes, as `module::graph()` returns it.
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
    /// Checks everything and builds the graph. Returns the first mistake.
    pub fn build(self) -> Result<BuiltGraph, AuthoringError> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let spec = self.spec?;
        let placed = Placed::new(&spec, self.nodes);
        let graph = placed.graph(&self.edges)?;
        let inputs = placed.into_inputs();
        Ok(BuiltGraph { graph, inputs })
    }
}
