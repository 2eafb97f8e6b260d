//! Workflow versions as starting one needs them: stored once, then known by type.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use abide_core::graph::Graph;
use abide_core::ids::VersionId;
use abide_store::Store;

use crate::authoring::{Workflow, WorkflowKind, WorkflowSpec};
use crate::error::EngineError;
use crate::registry::Registry;

/// A workflow version that can be started.
#[derive(Clone)]
pub(crate) struct Startable {
    pub(crate) id: VersionId,
    pub(crate) graph: Arc<Graph>,
    pub(crate) spec: Arc<WorkflowSpec>,
}

pub(crate) struct Versions {
    store: Store,
    registry: Arc<Registry>,
    /// Whether only what is registered may be started.
    registered_only: bool,
    by_type: Mutex<HashMap<TypeId, Startable>>,
    by_name: Mutex<HashMap<String, Startable>>,
}

impl Versions {
    pub(crate) fn new(store: Store, registry: Arc<Registry>, registered_only: bool) -> Versions {
        Versions {
            store,
            registry,
            registered_only,
            by_type: Mutex::default(),
            by_name: Mutex::default(),
        }
    }

    /// The version that `W` says it is.
    pub(crate) async fn of<W: Workflow>(&self) -> Result<Startable, EngineError> {
        if let Some(known) = self.by_type().get(&TypeId::of::<W>()) {
            return Ok(known.clone());
        }
        let startable = self.of_spec(Arc::new(W::spec()?)).await?;
        self.by_type().insert(TypeId::of::<W>(), startable.clone());
        Ok(startable)
    }

    /// The version of a registered workflow.
    pub(crate) async fn named(&self, name: String) -> Result<Startable, EngineError> {
        if let Some(known) = self.by_name().get(&name) {
            return Ok(known.clone());
        }
        let spec = Arc::clone(self.registry.latest(&name)?);
        let startable = self.of_spec(spec).await?;
        self.by_name().insert(name, startable.clone());
        Ok(startable)
    }

    async fn of_spec(&self, spec: Arc<WorkflowSpec>) -> Result<Startable, EngineError> {
        let registered = self.registry.workflow(&spec.name, &spec.version);
        if self.registered_only && registered.is_none() {
            return Err(EngineError::NotRegistered(spec.name.clone()));
        }
        let graph = Arc::new(spec.graph.clone());
        let kind = stored_kind(spec.kind);
        let stored = self
            .store
            .ensure_version(&spec.name, &spec.version, kind, Arc::clone(&graph));
        let id = stored.await?;
        Ok(Startable { id, graph, spec })
    }

    fn by_type(&self) -> MutexGuard<'_, HashMap<TypeId, Startable>> {
        self.by_type.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn by_name(&self) -> MutexGuard<'_, HashMap<String, Startable>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn stored_kind(kind: WorkflowKind) -> abide_store::WorkflowKind {
    match kind {
        WorkflowKind::Graph => abide_store::WorkflowKind::Graph,
        WorkflowKind::Function => abide_store::WorkflowKind::Function,
    }
}
