//! Builders do everything that the attributes do. Mistakes are reported when the workflow is built,
//! which registration does. Each error names the mistake and the nearest valid name.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use abide_core::graph::{Graph, GraphBuilder, GraphError, TaskSpec};
use abide_core::text::check_name;
use abide_core::trigger::Trigger;

use super::authoring_error::AuthoringError;
use super::backoff::Backoff;
use super::erased::{
    BoxFuture, ErasedTask, Invocation, NodePlan, Produced, TypeInfo, WorkflowKind, WorkflowSpec,
};
use super::extract::{Call, Needs};
use super::handler::Handler;
use super::task::Task;
use super::task_error::TaskError;

type Body = Arc<dyn Fn(Call) -> BoxFuture<'static, Result<Produced, TaskError>> + Send + Sync>;

/// Describes a task: its function and its options.
///
/// ```
/// use std::time::Duration;
/// use abide::{Backoff, Input, State, TaskBuilder, TaskError};
///
/// struct Disk;
///
/// let hash = TaskBuilder::new("hash", async |Input(path): Input<String>, disk: State<Disk>| {
///     let bytes = std::fs::read(path)?;
///     Ok::<usize, TaskError>(bytes.len())
/// })
/// .retries(3)
/// .backoff(Backoff::exponential(Duration::from_millis(100)).max(Duration::from_secs(5)))
/// .timeout(Duration::from_secs(30));
/// ```
///
/// The types of the function's parameters say what the task needs: see
/// [`Extract`](super::extract::Extract). `&mut Context<_>` and `&TaskHandle` come first. The
/// function may return any error that converts to a [`TaskError`]. If callers shall get the value
/// of an error back, wrap the error with [`TaskError::typed`].
#[derive(Clone)]
#[must_use = "a task does nothing until it is part of a workflow"]
pub struct TaskBuilder {
    pub(crate) spec: TaskSpec,
    pub(crate) dependencies: Vec<String>,
    pub(crate) needs: Needs,
    /// The type that it returns; unknown only for tasks whose parameters were given one by one.
    pub(crate) output: TypeInfo,
    body: Body,
}

impl TaskBuilder {
    /// A task with this id and function. Defaults: no retries, no timeout, priority 0, and the task
    /// runs if every dependency completed.
    pub fn new<Args, H: Handler<Args>>(id: impl Into<String>, function: H) -> TaskBuilder {
        let function = Arc::new(function);
        let run = move |call: Call| Arc::clone(&function).run(call);
        TaskBuilder::from_parts(
            id.into(),
            H::needs(),
            TypeInfo::of::<H::Output>(),
            Arc::new(run),
        )
    }

    pub(crate) fn from_parts(
        id: String,
        needs: Needs,
        output: TypeInfo,
        body: Body,
    ) -> TaskBuilder {
        let spec = TaskSpec {
            uses: needs.uses,
            ..TaskSpec::new(id)
        };
        let dependencies = Vec::new();
        TaskBuilder {
            spec,
            dependencies,
            needs,
            output,
            body,
        }
    }

    /// Makes the task wait for the task with this id. May be called several times.
    ///
    /// ```
    /// # use abide::{TaskBuilder, TaskError};
    /// let report = TaskBuilder::new("report", async || Ok::<(), TaskError>(())).after("hash").after("marker");
    /// ```
    pub fn after(mut self, task: impl Into<String>) -> TaskBuilder {
        self.dependencies.push(task.into());
        self
    }

    /// The rule that decides, once the task's dependencies have ended, whether the task runs.
    /// Default: it runs if every dependency completed.
    ///
    /// ```
    /// # use abide::{TaskBuilder, TaskError};
    /// use abide::trigger::{any, skipped, success};
    ///
    /// let report = TaskBuilder::new("report", async || Ok::<(), TaskError>(()))
    ///     .after("marker")
    ///     .trigger(any([success("marker"), skipped("marker")]));
    /// ```
    pub fn trigger(mut self, trigger: Trigger) -> TaskBuilder {
        self.spec.trigger = Some(trigger);
        self
    }

    /// How many attempts may follow after the first attempt fails. Default 0.
    pub fn retries(mut self, retries: u32) -> TaskBuilder {
        self.spec.retry.retries = retries;
        self
    }

    /// How the wait before a retry grows. Default: exponential from 100 ms, doubling, without a
    /// longest wait.
    pub fn backoff(mut self, backoff: Backoff) -> TaskBuilder {
        (self.spec.retry.backoff, self.spec.retry.max_delay_us) = backoff.into_parts();
        self
    }

    /// The random share of each wait, from 0 to 1: a wait `d` lies between `d * (1 - jitter)` and
    /// `d`. Default 0.
    pub fn jitter(mut self, jitter: f64) -> TaskBuilder {
        self.spec.retry.jitter = jitter;
        self
    }

    /// The kinds of error that are retried. Default: all.
    ///
    /// ```
    /// # use abide::{TaskBuilder, TaskError};
    /// let read = TaskBuilder::new("read", async || Ok::<_, TaskError>(std::fs::read("/etc/hosts")?))
    ///     .retries(5)
    ///     .retry_if(["io::Interrupted", "io::TimedOut"]);
    /// ```
    pub fn retry_if<K: Into<String>>(mut self, kinds: impl IntoIterator<Item = K>) -> TaskBuilder {
        self.spec
            .retry
            .retry_if
            .extend(kinds.into_iter().map(Into::into));
        self
    }

    /// The longest active time of one attempt. Time that the task waits on its handle does not
    /// count. Default: no limit.
    pub fn timeout(mut self, timeout: Duration) -> TaskBuilder {
        self.spec.timeout_us = Some(micros(timeout));
        self
    }

    /// The task's priority: ready tasks with a higher number run first. Default 0.
    pub fn priority(mut self, priority: i16) -> TaskBuilder {
        self.spec.priority = priority;
        self
    }

    /// Every task that this task waits for, each once: the named ones and those whose outputs it
    /// takes.
    pub(crate) fn waits_for(&self) -> Vec<&str> {
        let read = self.needs.reads.iter().map(|read| read.task.as_str());
        let mut seen = HashSet::new();
        self.dependencies
            .iter()
            .map(String::as_str)
            .chain(read)
            .filter(|task| seen.insert(*task))
            .collect()
    }

    fn plan(&self) -> NodePlan {
        NodePlan {
            waits_for: self.waits_for().into_iter().map(str::to_owned).collect(),
            reads: self.needs.reads.clone(),
        }
    }

    fn into_erased(self) -> Arc<dyn ErasedTask> {
        let name = Arc::from(&*self.spec.id);
        Arc::new(BuiltTask {
            spec: self.spec,
            state: self.needs.state,
            name,
            body: self.body,
        })
    }
}

impl fmt::Debug for TaskBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waits_for = self.waits_for();
        f.debug_struct("TaskBuilder")
            .field("spec", &self.spec)
            .field("waits_for", &waits_for)
            .finish_non_exhaustive()
    }
}

/// A task as the runtime sees it.
struct BuiltTask {
    spec: TaskSpec,
    state: Vec<TypeInfo>,
    name: Arc<str>,
    body: Body,
}

impl ErasedTask for BuiltTask {
    fn spec(&self) -> &TaskSpec {
        &self.spec
    }

    fn required_state(&self) -> &[TypeInfo] {
        &self.state
    }

    fn call(&self, invocation: Invocation) -> BoxFuture<'static, Result<Produced, TaskError>> {
        (self.body)(Call::new(Arc::clone(&self.name), invocation))
    }
}

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
        if let Err(mistake) = AuthoringError::check_task::<T>(&task) {
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
        self.deadline_us = Some(micros(deadline));
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

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
