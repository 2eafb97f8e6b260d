//! The form in which the runtime gets a workflow: without its types.

use std::fmt;
use std::sync::Arc;

use abide_core::graph::Graph;

use super::erased::ErasedTask;
use super::needs::Read;
use super::type_info::TypeInfo;

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
