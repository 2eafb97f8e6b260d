//! A task as its builder describes it. A builder does everything that the attribute does.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use abide_core::graph::TaskSpec;
use abide_core::trigger::Trigger;

use super::backoff::Backoff;
use super::box_future::BoxFuture;
use super::call::Call;
use super::erased::{ErasedTask, Invocation};
use super::handler::Handler;
use super::needs::Needs;
use super::produced::Produced;
use super::task_error::TaskError;
use super::type_info::TypeInfo;
use super::workflow_spec::NodePlan;
use crate::clock::us_of;

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
        self.spec.timeout_us = Some(us_of(timeout));
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

    pub(super) fn plan(&self) -> NodePlan {
        NodePlan {
            waits_for: self.waits_for().into_iter().map(str::to_owned).collect(),
            reads: self.needs.reads.clone(),
        }
    }

    pub(super) fn into_erased(self) -> Arc<dyn ErasedTask> {
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
