//! What this program can run: the stored workflow versions whose tasks it knows, each of which is a
//! queue. Other queues are never read.

use std::collections::HashMap;
use std::sync::Arc;

use abide_core::ids::VersionId;
use abide_store::{Store, VersionInfo};

use crate::authoring::{ErasedTask, WorkflowSpec};
use crate::error::EngineError;
use crate::registry::Registry;
use crate::versions::stored_kind;

pub(super) struct Catalog {
    workflows: HashMap<VersionId, Arc<WorkflowSpec>>,
}

impl Catalog {
    /// Stores the registered versions, and finds earlier stored versions that this program can run
    /// too. Versions that it can't run are named in the log if they have open executions. A
    /// registered version that is stored with another graph is an error.
    pub(super) async fn open(store: &Store, registry: &Registry) -> Result<Catalog, EngineError> {
        for workflow in registry.workflows() {
            let kind = stored_kind(workflow.kind);
            let graph = Arc::new(workflow.graph.clone());
            store
                .ensure_version(&workflow.name, &workflow.version, kind, graph)
                .await?;
        }
        let mut workflows = HashMap::new();
        for version in store.versions().await? {
            match known(registry, &version) {
                Some(workflow) => {
                    workflows.insert(version.id, Arc::clone(workflow));
                }
                None if version.open_executions > 0 => tracing::warn!(
                    workflow = version.name,
                    version = version.version,
                    executions = version.open_executions,
                    "open executions wait for a program that registers this version of their \
                     workflow: register it here too, or run such a program beside this one",
                ),
                None => {}
            }
        }
        Ok(Catalog { workflows })
    }

    pub(super) fn queues(&self) -> Arc<[VersionId]> {
        let mut queues: Vec<VersionId> = self.workflows.keys().copied().collect();
        queues.sort_unstable();
        queues.into()
    }

    pub(super) fn name(&self, version: VersionId) -> Option<&str> {
        Some(&self.workflows.get(&version)?.name)
    }

    pub(super) fn task(&self, version: VersionId, task: &str) -> Option<&Arc<dyn ErasedTask>> {
        self.workflows.get(&version)?.task(task)
    }
}

/// The registered workflow that can run a stored version: the same name, version and form, with
/// all of its tasks. Options may have changed: the stored ones count.
fn known<'a>(registry: &'a Registry, version: &VersionInfo) -> Option<&'a Arc<WorkflowSpec>> {
    let workflow = registry.workflow(&version.name, &version.version)?;
    let same_form = stored_kind(workflow.kind) == version.kind;
    let mut tasks = version.graph.tasks().iter();
    let has_all = tasks.all(|task| workflow.task(&task.id).is_some());
    (same_form && has_all).then_some(workflow)
}
