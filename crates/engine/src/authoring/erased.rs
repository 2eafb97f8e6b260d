//! The form in which the runtime gets tasks and workflows: without their types. Values are passed
//! as JSON text. A task sees nothing of the store, and the runtime sees nothing of the user's
//! types.

use std::any::{TypeId, type_name};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use abide_core::context::Changes;
use abide_core::graph::{Graph, TaskSpec};
use abide_core::trigger::Ending;
use serde_json::{Map, Value};

use super::extract::Read;
use super::state::StateMap;
use super::task_error::TaskError;
use crate::handle::TaskHandle;

/// A future that can move between threads, on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A type, and its name for messages. Two are equal if their types are.
#[derive(Clone, Copy, Debug)]
pub struct TypeInfo {
    /// Which type.
    pub id: TypeId,
    /// Its full name.
    pub name: &'static str,
}

impl TypeInfo {
    /// The type `T` and its name.
    pub fn of<T: 'static>() -> TypeInfo {
        TypeInfo {
            id: TypeId::of::<T>(),
            name: type_name::<T>(),
        }
    }
}

impl PartialEq for TypeInfo {
    fn eq(&self, other: &TypeInfo) -> bool {
        self.id == other.id
    }
}

impl Eq for TypeInfo {}

/// One task of a registered workflow, without its types.
pub trait ErasedTask: Send + Sync + 'static {
    /// The task's id, rules and options, and what it reads ([`TaskSpec::uses`]). The runtime puts
    /// only what the task reads into an [`Invocation`].
    fn spec(&self) -> &TaskSpec;

    /// The types of shared state that the task takes. Registration refuses the task unless all of
    /// them were given.
    fn required_state(&self) -> &[TypeInfo];

    /// Runs one attempt. The future is the user's code: it may panic, never end, or be dropped at
    /// any `await`.
    fn call(&self, invocation: Invocation) -> BoxFuture<'static, Result<Produced, TaskError>>;
}

/// Everything an attempt is given.
pub struct Invocation {
    /// The input's JSON text; none means `null`.
    pub input: Option<Arc<str>>,
    /// The combined changes of the ancestors, if the task uses the context.
    pub context: Option<Map<String, Value>>,
    /// How each direct dependency ended and its output, in declared order, if the task uses
    /// outputs.
    pub outputs: Vec<DependencyOutput>,
    /// The shared state of the engine.
    pub state: Arc<StateMap>,
    /// The handle for durable operations.
    pub handle: TaskHandle,
}

/// A direct dependency that has ended.
#[derive(Clone, Debug)]
pub struct DependencyOutput {
    /// The id of its node.
    pub node: Arc<str>,
    /// The id of its task.
    pub task: Arc<str>,
    /// How it ended.
    pub ending: Ending,
    /// The JSON text of its output if it completed; none means `null`.
    pub output: Option<Arc<str>>,
}

/// The results of a successful attempt.
#[derive(Debug, Default)]
pub struct Produced {
    /// The output's JSON text; none means `null`.
    pub output: Option<String>,
    /// The task's changes to the context; none if it does not use the context or changed nothing.
    pub changes: Option<Changes>,
}

/// A registered workflow, without its types.
#[derive(Clone)]
pub struct WorkflowSpec {
    /// The name by which the workflow is started.
    pub name: String,
    /// The version that executions are pinned to.
    pub version: String,
    /// A declared graph or a durable function.
    pub kind: WorkflowKind,
    /// The graph with one node per task, whose ids are the tasks' ids.
    pub graph: Graph,
    /// Every task, in declared order.
    pub tasks: Vec<Arc<dyn ErasedTask>>,
    /// The task whose output is the execution's result.
    pub output: Option<String>,
    /// The type of the input for a start without a graph: the input type that all tasks share, or
    /// `()` if no task takes an input. None if tasks take inputs of different types; such a
    /// workflow must be started with a graph that has an input for each node.
    pub input: Option<TypeInfo>,
    /// The type of the execution's result.
    pub output_type: TypeInfo,
    /// The executions' priority, unless a start sets another one; higher first.
    pub priority: i16,
    /// The longest wall-clock time from an execution's start to its end, in microseconds.
    pub deadline_us: Option<i64>,
    /// The executions' tags. A start may add more.
    pub tags: Vec<String>,
    /// For each task, the rules for its nodes in a graph built at run time.
    pub(crate) plan: Vec<NodePlan>,
}

/// The rules by which a task gets nodes in a graph built at run time.
#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    /// Every task it waits for.
    pub(crate) waits_for: Vec<String>,
    /// The tasks whose outputs it takes, and from how many nodes.
    pub(crate) reads: Vec<Read>,
}

/// The two forms of a workflow. Both are graphs; the second has exactly one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkflowKind {
    /// Declared tasks.
    Graph,
    /// One durable function.
    Function,
}

impl WorkflowSpec {
    /// The task with this id.
    pub fn task(&self, id: &str) -> Option<&Arc<dyn ErasedTask>> {
        self.graph.task_index(id).map(|at| &self.tasks[at])
    }

    /// The position in [`tasks`](WorkflowSpec::tasks) of the task of a checked name.
    pub(crate) fn place(&self, task: &str) -> usize {
        self.graph
            .task_index(task)
            .expect("the workflow's graph was checked, so its names are tasks")
    }
}

impl fmt::Debug for WorkflowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tasks: Vec<_> = self.tasks.iter().map(|task| task.spec()).collect();
        f.debug_struct("WorkflowSpec")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("kind", &self.kind)
            .field("tasks", &tasks)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}
