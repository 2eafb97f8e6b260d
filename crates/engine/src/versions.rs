//! Workflow versions as starting one needs them: stored once, then known by type.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

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
    known: Mutex<HashMap<TypeId, Startable>>,
}

impl Versions {
    pub(crate) fn new(store: Store, registry: Arc<Registry>, registered_only: bool) -> Versions {
        Versions {
            store,
            registry,
            registered_only,
            known: Mutex::default(),
        }
    }

    /// The version that `W` says it is.
    pub(crate) async fn of<W: Workflow>(&self) -> Result<Startable, EngineError> {
        if let Some(known) = self.lock().get(&TypeId::of::<W>()) {
            return Ok(known.clone());
        }
        let startable = self.of_spec(Arc::new(W::spec()?)).await?;
        self.lock().insert(TypeId::of::<W>(), startable.clone());
        Ok(startable)
    }

    /// The version that a workflow made by a builder is.
    pub(crate) async fn of_spec(&self, spec: Arc<WorkflowSpec>) -> Result<Startable, EngineError> {
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

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TypeId, Startable>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn stored_kind(kind: WorkflowKind) -> abide_store::WorkflowKind {
    match kind {
        WorkflowKind::Graph => abide_store::WorkflowKind::Graph,
        WorkflowKind::Function => abide_store::WorkflowKind::Function,
    }
}
