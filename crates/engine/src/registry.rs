//! The workflows that a program can run, by name and version. They are checked once, at start-up,
//! so that a task without its state is refused before anything is claimed.

use std::sync::Arc;

use abide_core::text::nearest;
use thiserror::Error;

use crate::authoring::{AuthoringError, ErasedTask, StateMap, TypeInfo, Workflow, WorkflowSpec};

/// The registered workflows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    /// In order of registration. A program has tens of workflows, not thousands.
    workflows: Vec<Arc<WorkflowSpec>>,
}

/// Why a program's workflows were refused.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum RegistrationError {
    /// A workflow has a mistake.
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
    /// A task takes a state value that was not given to the engine.
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
        /// The similar type that was given instead, probably by mistake.
        nearest: Option<&'static str>,
    },
    /// No workflow is registered under this name.
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
    pub(crate) fn new() -> Registry {
        Registry::default()
    }

    /// Adds the workflow `W`.
    pub(crate) fn register<W: Workflow>(&mut self) -> Result<(), RegistrationError> {
        self.add(W::spec()?)
    }

    /// Adds a workflow that a builder made. Other versions of the same name may be registered
    /// already.
    pub(crate) fn add(&mut self, spec: WorkflowSpec) -> Result<(), RegistrationError> {
        if self.workflow(&spec.name, &spec.version).is_some() {
            return Err(RegistrationError::DuplicateWorkflow {
                name: spec.name,
                version: spec.version,
            });
        }
        self.workflows.push(Arc::new(spec));
        Ok(())
    }

    /// Checks that every task of every workflow finds the state that it takes. The error names the
    /// first task that does not, and the type.
    pub(crate) fn check(&self, state: &StateMap) -> Result<(), RegistrationError> {
        let specs = self.workflows.iter();
        let mut tasks = specs.flat_map(|spec| spec.tasks.iter().map(move |task| (spec, task)));
        let unmet = tasks.find_map(|(spec, task)| {
            let need = task.required_state().iter().find(|need| !state.has(need))?;
            Some(missing(spec, task.as_ref(), need, state))
        });
        unmet.map_or(Ok(()), Err)
    }

    /// The workflow of this name and version.
    pub(crate) fn workflow(&self, name: &str, version: &str) -> Option<&Arc<WorkflowSpec>> {
        self.workflows
            .iter()
            .find(|spec| spec.name == name && spec.version == version)
    }

    /// The version of a workflow that was registered last, which a start uses.
    pub(crate) fn latest(&self, name: &str) -> Result<&Arc<WorkflowSpec>, RegistrationError> {
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

    /// Every workflow, in order of registration.
    pub(crate) fn workflows(&self) -> impl Iterator<Item = &Arc<WorkflowSpec>> {
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

/// Whether one type was probably meant instead of the other: one wraps the other, or both have the
/// same short name.
fn related(one: &str, other: &str) -> bool {
    let last = |name: &'_ str| name.rsplit("::").next().map(str::to_owned);
    one.contains(other) || other.contains(one) || last(one) == last(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authoring::{State, TaskBuilder, TaskError, WorkflowBuilder};

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
        let second = registry.workflow("ingest", "2").expect("known");
        assert!(second.task("hash").is_some());
        assert!(second.task("hush").is_none());
        assert!(registry.workflow("ingest", "3").is_none());
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
}
