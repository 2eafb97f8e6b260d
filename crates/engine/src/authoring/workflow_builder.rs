//! A workflow as its builder describes it. Mistakes are reported when the workflow is built, which
//! registration does. Each error names the mistake and the nearest valid name.

use std::time::Duration;

use abide_core::graph::{Graph, GraphBuilder, GraphError};
use abide_core::text::check_name;

use super::authoring_error::AuthoringError;
use super::task::{self, Task};
use super::task_builder::TaskBuilder;
use super::type_info::TypeInfo;
use super::workflow_spec::{WorkflowKind, WorkflowSpec};
use crate::clock::us_of;

/// Describes a workflow: its tasks and its options.
///
/// ```
/// use abide::{Input, TaskBuilder, TaskError, WorkflowBuilder};
///
/// let count = TaskBuilder::new("count", async |Input(text): Input<String>| {
///     Ok::<usize, TaskError>(text.split_whitespace().count())
/// });
/// let tell = TaskBuilder::new("tell", async || Ok::<(), TaskError>(())).after("count");
///
/// let spec = WorkflowBuilder::new("words").task(count).task(tell).output("count").build()?;
/// assert_eq!(spec.tasks.len(), 2);
/// # Ok::<(), abide::AuthoringError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a workflow does nothing until it is registered"]
pub struct WorkflowBuilder {
    name: String,
    version: String,
    kind: WorkflowKind,
    tasks: Vec<TaskBuilder>,
    mistake: Option<AuthoringError>,
    output: Option<String>,
    priority: i16,
    deadline_us: Option<i64>,
    tags: Vec<String>,
}

impl WorkflowBuilder {
    /// A workflow with this name, no tasks, version `1`, no deadline, priority 0 and no tags.
    pub fn new(name: impl Into<String>) -> WorkflowBuilder {
        WorkflowBuilder {
            name: name.into(),
            version: "1".to_owned(),
            kind: WorkflowKind::Graph,
            tasks: Vec::new(),
            mistake: None,
            output: None,
            priority: 0,
            deadline_us: None,
            tags: Vec::new(),
        }
    }

    /// A durable function: a workflow of this one task, named after it.
    ///
    /// ```
    /// use abide::{Input, TaskBuilder, TaskError, TaskHandle, WorkflowBuilder};
    ///
    /// async fn checkout(handle: &TaskHandle, Input(order): Input<u32>) -> Result<u32, TaskError> {
    ///     Ok(order)
    /// }
    ///
    /// let spec = WorkflowBuilder::function(TaskBuilder::new("checkout", checkout)).build()?;
    /// assert_eq!(spec.name, "checkout");
    /// # Ok::<(), abide::AuthoringError>(())
    /// ```
    pub fn function(task: TaskBuilder) -> WorkflowBuilder {
        let id = task.spec.id.clone();
        let workflow = WorkflowBuilder::new(&id).output(id).task(task);
        WorkflowBuilder {
            kind: WorkflowKind::Function,
            ..workflow
        }
    }

    /// Adds a task.
    pub fn task(mut self, task: TaskBuilder) -> WorkflowBuilder {
        self.tasks.push(task);
        self
    }

    /// Adds the task of a `#[task]` function by its type, or a type that implements [`Task`].
    ///
    /// ```
    /// use abide::{TaskError, WorkflowBuilder, task};
    ///
    /// #[task]
    /// pub async fn greet(name: String) -> Result<String, TaskError> {
    ///     Ok(format!("Hello, {name}!"))
    /// }
    ///
    /// # fn main() -> Result<(), abide::AuthoringError> {
    /// let spec = WorkflowBuilder::new("greeting").add::<greet>().output("greet").build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn add<T: Task>(mut self) -> WorkflowBuilder {
        let task = T::builder();
        if let Err(mistake) = task::check::<T>(&task) {
            self.mistake.get_or_insert(mistake);
        }
        self.task(task)
    }

    /// The version that new executions are pinned to. Give a workflow with a changed graph another
    /// version. Default `1`.
    pub fn version(mut self, version: impl Into<String>) -> WorkflowBuilder {
        self.version = version.into();
        self
    }

    /// The task whose output is the execution's result. Default: none; the result is then `()`.
    pub fn output(mut self, task: impl Into<String>) -> WorkflowBuilder {
        self.output = Some(task.into());
        self
    }

    /// The priority of the workflow's executions, unless a start sets another one: higher first.
    /// Default 0.
    pub fn priority(mut self, priority: i16) -> WorkflowBuilder {
        self.priority = priority;
        self
    }

    /// The longest wall-clock time from an execution's start to its end. Default: no limit.
    pub fn deadline(mut self, deadline: Duration) -> WorkflowBuilder {
        self.deadline_us = Some(us_of(deadline));
        self
    }

    /// Adds a tag to every execution.
    pub fn tag(mut self, tag: impl Into<String>) -> WorkflowBuilder {
        self.tags.push(tag.into());
        self
    }
}

impl WorkflowBuilder {
    /// Checks everything and builds the workflow. Returns the first mistake.
    ///
    /// ```
    /// # use abide::{TaskBuilder, TaskError, WorkflowBuilder};
    /// let report = TaskBuilder::new("report", async || Ok::<(), TaskError>(())).after("hsah");
    /// let hash = TaskBuilder::new("hash", async || Ok::<(), TaskError>(()));
    /// let error = WorkflowBuilder::new("ingest").task(hash).task(report).build().expect_err("no such task");
    /// assert_eq!(
    ///     error.to_string(),
    ///     "workflow `ingest`: node `report` depends on `hsah`, which isn't declared; did you mean `hash`?",
    /// );
    /// ```
    pub fn build(self) -> Result<WorkflowSpec, AuthoringError> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        check_name("workflow name", &self.name)?;
        check_name("workflow version", &self.version)?;
        self.tags
            .iter()
            .try_for_each(|tag| check_name("tag", tag))?;
        if let (WorkflowKind::Function, Some(task)) = (self.kind, self.tasks.get(1)) {
            return Err(AuthoringError::FunctionWithTasks {
                workflow: self.name,
                task: task.spec.id.clone(),
            });
        }
        let graph = self
            .static_graph()
            .map_err(|source| AuthoringError::Graph {
                workflow: self.name.clone(),
                source,
            })?;
        Ok(WorkflowSpec {
            input: common_input(&self.tasks),
            output_type: self.output_type(),
            plan: self.tasks.iter().map(TaskBuilder::plan).collect(),
            tasks: self
                .tasks
                .into_iter()
                .map(TaskBuilder::into_erased)
                .collect(),
            name: self.name,
            version: self.version,
            kind: self.kind,
            graph,
            output: self.output,
            priority: self.priority,
            deadline_us: self.deadline_us,
            tags: self.tags,
        })
    }

    /// A graph with one node for each task. The node's id is the task's id.
    fn static_graph(&self) -> Result<Graph, GraphError> {
        let mut graph = GraphBuilder::new();
        for task in &self.tasks {
            graph
                .task(task.spec.clone())
                .node(&*task.spec.id, &task.spec.id);
            for dependency in task.waits_for() {
                graph.edge(dependency, &task.spec.id);
            }
        }
        if let Some(output) = &self.output {
            graph.output(output);
        }
        graph.build()
    }

    fn output_type(&self) -> TypeInfo {
        let output = self
            .output
            .as_ref()
            .and_then(|output| self.tasks.iter().find(|task| task.spec.id == *output));
        output.map_or(TypeInfo::of::<()>(), |task| task.output)
    }
}

/// The input that all tasks with an input share: `()` if there are none, nothing if they differ.
fn common_input(tasks: &[TaskBuilder]) -> Option<TypeInfo> {
    let mut inputs = tasks.iter().filter_map(|task| task.needs.input);
    let first = inputs.next().unwrap_or(TypeInfo::of::<()>());
    inputs.all(|input| input == first).then_some(first)
}
