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
        /// A type that was brought and was probably meant.
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

    /// Adds a task outside of workflows, for durable functions to call. That is checked, but nothing
    /// can call it yet.
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
        let mut tasks = specs.flat_map(|spec| spec.tasks.iter().map(move |task| (spec, task)));
        let unmet = tasks.find_map(|(spec, task)| {
            let need = task.required_state().iter().find(|need| !state.has(need))?;
            Some(missing(spec, task.as_ref(), need, state))
        });
        unmet.map_or(Ok(()), Err)
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
        nearest: state.names().find(|name| related(name, need.name)),
    }
}

/// Whether one type was probably meant as the other: it wraps it, or is called the same elsewhere.
fn related(one: &str, other: &str) -> bool {
    let last = |name: &'_ str| name.rsplit("::").next().map(str::to_owned);
    one.contains(other) || other.contains(one) || last(one) == last(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authoring::{State, TaskError};

    #[derive(Debug)]
    struct Disk;

    fn workflow(name: &str, version: &str) -> WorkflowSpec {
        let hash = TaskBuilder::new("hash", async |_: State<Disk>| Ok::<(), TaskError>(()));
        WorkflowBuilder::new(name)
            .version(version)
            .task(hash)
            .build()
            .expect("sound")
    }

    fn registry(workflows: &[(&str, &str)]) -> Registry {
        let mut registry = Registry::new();
        for (name, version) in workflows {
            registry.add(workflow(name, version)).expect("new");
        }
        registry
    }

    #[test]
    fn a_start_gets_the_version_registered_last() {
        let registry = registry(&[("ingest", "2"), ("ingest", "1"), ("other", "9")]);
        assert_eq!(registry.latest("ingest").expect("known").version, "1");
        assert!(registry.task("ingest", "2", "hash").is_some());
        assert!(registry.task("ingest", "3", "hash").is_none());
        assert!(registry.task("ingest", "2", "hush").is_none());
    }

    #[test]
    fn a_version_is_registered_once() {
        let error = registry(&[("ingest", "2")])
            .add(workflow("ingest", "2"))
            .expect_err("twice");
        assert_eq!(
            error.to_string(),
            "workflow `ingest` version `2` is registered twice; give a changed workflow another version"
        );
    }

    #[test]
    fn an_unknown_workflow_is_told_the_nearest_name() {
        let error = registry(&[("ingest", "1")])
            .latest("injest")
            .expect_err("misspelt");
        assert_eq!(
            error.to_string(),
            "no workflow `injest` is registered; did you mean `ingest`?"
        );
    }

    #[test]
    fn missing_state_names_task_and_type() {
        let registry = registry(&[("ingest", "1")]);
        let mut state = StateMap::new();
        state.insert(Arc::new(7_u8));
        let error = registry.check(&state).expect_err("no disk");
        assert_eq!(
            error.to_string(),
            "task `hash` of workflow `ingest` takes `State<abide::registry::tests::Disk>`, but the engine has no such state"
        );
        state.insert(Disk);
        registry.check(&state).expect("there it is");
    }

    #[test]
    fn state_behind_a_pointer_is_pointed_out() {
        let mut state = StateMap::new();
        state.insert(Arc::new(Disk));
        let error = registry(&[("ingest", "1")])
            .check(&state)
            .expect_err("a pointer to a disk");
        assert!(
            error
                .to_string()
                .contains("only `alloc::sync::Arc<abide::registry::tests::Disk>`"),
            "{error}"
        );
    }

    #[test]
    fn a_callable_task_needs_its_state_too() {
        let mut registry = Registry::new();
        registry
            .add_task(TaskBuilder::new("ship", async |_: State<Disk>| {
                Ok::<(), TaskError>(())
            }))
            .expect("new");
        assert!(registry.callable("ship").is_some());
        assert!(registry.check(&StateMap::new()).is_err());
        let again = registry.add_task(TaskBuilder::new("ship", async || Ok::<(), TaskError>(())));
        assert_eq!(
            again.expect_err("twice").to_string(),
            "task `ship` is registered twice"
        );
    }
}
