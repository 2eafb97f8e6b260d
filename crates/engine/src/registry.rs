//! What a program can run: its workflows by name and version. Checked once, at start-up, so that a
//! task which cannot get its state is refused before anything is claimed.

use std::sync::Arc;

use abide_core::text::nearest;
use thiserror::Error;

use crate::authoring::{
    AuthoringError, ErasedTask, StateMap, Task, TaskBuilder, TypeInfo, Workflow, WorkflowBuilder,
    WorkflowSpec,
};

/// The registered workflows and the tasks that durable functions may call.
///
/// ```
/// use abide::{Registry, State, StateMap, TaskError, workflow};
///
/// pub struct Prices;
///
/// #[workflow]
/// async fn checkout(prices: State<Prices>, order: u32) -> Result<(), TaskError> {
///     Ok(())
/// }
///
/// # fn main() {
/// let mut registry = Registry::new();
/// registry.register::<checkout>().expect("the first of its name");
/// assert!(registry.workflow("checkout", "1").is_some());
///
/// let error = registry.check(&StateMap::new()).expect_err("nobody brought prices");
/// assert!(error.to_string().starts_with("task `checkout` of workflow `checkout` takes `State<"));
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// In order of registration; a program has tens of workflows, not thousands.
    workflows: Vec<Arc<WorkflowSpec>>,
    /// Tasks outside of workflows, each as a workflow of its own.
    callable: Vec<Arc<WorkflowSpec>>,
}

/// Why a program's workflows were refused.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// A workflow is wrong in itself.
    #[error(transparent)]
    Workflow(#[from] AuthoringError),
    /// Two workflows share name and version.
    #[error(
        "workflow `{name}` version `{version}` is registered twice; give a changed workflow another version"
    )]
    DuplicateWorkflow {
        /// The name.
        name: String,
        /// The version.
        version: String,
    },
    /// Two tasks outside of workflows share an id.
    #[error("task `{task}` is registered twice")]
    DuplicateTask {
        /// The id.
        task: String,
    },
    /// A task takes state that nobody brought.
    #[error(
        "task `{task}` of workflow `{workflow}` takes `State<{type_name}>`, but the engine has no such state{}",
        other(.nearest)
    )]
    MissingState {
        /// The workflow.
        workflow: String,
        /// The task.
        task: String,
        /// The type it asks for.
        type_name: &'static str,
        /// A type whose name is near and that was brought.
        nearest: Option<&'static str>,
    },
    /// Nothing is registered under this name.
    #[error("no workflow `{name}` is registered{}", hint(.nearest))]
    UnknownWorkflow {
        /// The name.
        name: String,
        /// The registered name that was probably meant.
        nearest: Option<String>,
    },
}

fn hint(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|name| format!("; did you mean `{name}`?"))
        .unwrap_or_default()
}

fn other(nearest: &Option<&'static str>) -> String {
    nearest
        .map(|name| format!(", only `{name}`"))
        .unwrap_or_default()
}

impl Registry {
    /// A registry without workflows.
    pub fn new() -> Registry {
        Registry::default()
    }

    /// Adds the workflow `W`.
    pub fn register<W: Workflow>(&mut self) -> Result<(), RegistrationError> {
        self.add(W::spec()?)
    }

    /// Adds a workflow that a builder made. Other versions of the name may be there already.
    pub fn add(&mut self, spec: WorkflowSpec) -> Result<(), RegistrationError> {
        if self.workflow(&spec.name, &spec.version).is_some() {
            return Err(RegistrationError::DuplicateWorkflow {
                name: spec.name,
                version: spec.version,
            });
        }
        self.workflows.push(Arc::new(spec));
        Ok(())
    }

    /// Adds a task outside of workflows, for durable functions to call.
    pub fn register_task<T: Task>(&mut self) -> Result<(), RegistrationError> {
        self.add_callable(WorkflowBuilder::new(T::ID).add::<T>())
    }

    /// Adds a task that a builder made, for durable functions to call.
    pub fn add_task(&mut self, task: TaskBuilder) -> Result<(), RegistrationError> {
        self.add_callable(WorkflowBuilder::function(task))
    }

    fn add_callable(&mut self, workflow: WorkflowBuilder) -> Result<(), RegistrationError> {
        let spec = workflow.build()?;
        if self.callable.iter().any(|known| known.name == spec.name) {
            return Err(RegistrationError::DuplicateTask { task: spec.name });
        }
        self.callable.push(Arc::new(spec));
        Ok(())
    }

    /// Whether every task of every workflow finds the state it takes. Errors name the first that
    /// doesn't, and the type.
    pub fn check(&self, state: &StateMap) -> Result<(), RegistrationError> {
        let specs = self.workflows.iter().chain(&self.callable);
        for (spec, task) in specs.flat_map(|spec| spec.tasks.iter().map(move |task| (spec, task))) {
            for need in task.required_state().iter().filter(|need| !state.has(need)) {
                return Err(missing(spec, task.as_ref(), need, state));
            }
        }
        Ok(())
    }

    /// The workflow of this name and version.
    pub fn workflow(&self, name: &str, version: &str) -> Option<&Arc<WorkflowSpec>> {
        self.workflows
            .iter()
            .find(|spec| spec.name == name && spec.version == version)
    }

    /// The version of a workflow that was registered last: the one a start gets.
    pub fn latest(&self, name: &str) -> Result<&Arc<WorkflowSpec>, RegistrationError> {
        self.workflows
            .iter()
            .rfind(|spec| spec.name == name)
            .ok_or_else(|| {
                let names = self.workflows.iter().map(|spec| spec.name.as_str());
                let nearest = nearest(name, names).map(str::to_owned);
                RegistrationError::UnknownWorkflow {
                    name: name.to_owned(),
                    nearest,
                }
            })
    }

    /// A task of a workflow.
    pub fn task(&self, workflow: &str, version: &str, task: &str) -> Option<&Arc<dyn ErasedTask>> {
        self.workflow(workflow, version)?.task(task)
    }

    /// A task that was registered outside of workflows.
    pub fn callable(&self, task: &str) -> Option<&Arc<dyn ErasedTask>> {
        self.callable
            .iter()
            .find(|spec| spec.name == task)?
            .task(task)
    }

    /// Every workflow, in order of registration.
    pub fn workflows(&self) -> impl Iterator<Item = &Arc<WorkflowSpec>> {
        self.workflows.iter()
    }
}

fn missing(
    spec: &WorkflowSpec,
    task: &dyn ErasedTask,
    need: &TypeInfo,
    state: &StateMap,
) -> RegistrationError {
    RegistrationError::MissingState {
        workflow: spec.name.clone(),
        task: task.spec().id.clone(),
        type_name: need.name,
        nearest: nearest(need.name, state.names()),
    }
}
