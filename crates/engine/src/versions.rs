//! Workflow versions for a start: each is stored once, and found by its type from then on.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use abide_core::graph::Graph;
use abide_core::ids::VersionId;
use abide_store::{Store, Transaction};

use crate::authoring::{AuthoringError, Workflow, WorkflowKind, WorkflowSpec};
use crate::error::EngineError;
use crate::registry::Registry;

/// A workflow version that can be started.
#[derive(Clone)]
pub(crate) struct Startable {
    pub(crate) id: VersionId,
    pub(crate) graph: Arc<Graph>,
    pub(crate) spec: Arc<WorkflowSpec>,
}

/// How a workflow is named.
pub(crate) enum Asked {
    /// By its type, which contains its definition.
    Type(TypeId, fn() -> Result<WorkflowSpec, AuthoringError>),
    /// By the name under which it is registered.
    Name(String),
}

impl Asked {
    pub(crate) fn of<W: Workflow>() -> Asked {
        Asked::Type(TypeId::of::<W>(), W::spec)
    }
}

pub(crate) struct Versions {
    store: Store,
    registry: Arc<Registry>,
    /// Whether only registered workflows may be started.
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

    /// The version that is asked for. A new version is stored.
    pub(crate) async fn find(&self, asked: &Asked) -> Result<Startable, EngineError> {
        if let Some(known) = self.known(asked) {
            return Ok(known);
        }
        let spec = self.spec(asked)?;
        let (graph, kind) = (Arc::new(spec.graph.clone()), stored_kind(spec.kind));
        let stored = self
            .store
            .ensure_version(&spec.name, &spec.version, kind, Arc::clone(&graph));
        let id = stored.await?;
        let startable = Startable { id, graph, spec };
        self.keep(asked, &startable);
        Ok(startable)
    }

    /// Like [`Versions::find`], for a start inside a user's transaction. A version that is stored
    /// there is gone if the transaction is rolled back, so it is not remembered.
    pub(crate) async fn find_in<T: Transaction + ?Sized>(
        &self,
        transaction: &mut T,
        asked: &Asked,
    ) -> Result<Startable, EngineError> {
        if let Some(known) = self.known(asked) {
            return Ok(known);
        }
        let spec = self.spec(asked)?;
        let (graph, kind) = (Arc::new(spec.graph.clone()), stored_kind(spec.kind));
        let (name, version) = (&spec.name, &spec.version);
        let stored = self
            .store
            .version_in(transaction, name, version, kind, Arc::clone(&graph));
        let (id, stays) = stored.await?;
        let startable = Startable { id, graph, spec };
        if stays {
            self.keep(asked, &startable);
        }
        Ok(startable)
    }

    fn spec(&self, asked: &Asked) -> Result<Arc<WorkflowSpec>, EngineError> {
        let spec = match asked {
            Asked::Type(_, spec) => Arc::new(spec()?),
            Asked::Name(name) => Arc::clone(self.registry.latest(name)?),
        };
        let registered = self.registry.workflow(&spec.name, &spec.version);
        if self.registered_only && registered.is_none() {
            return Err(EngineError::NotRegistered(spec.name.clone()));
        }
        Ok(spec)
    }

    fn known(&self, asked: &Asked) -> Option<Startable> {
        match asked {
            Asked::Type(id, _) => self.by_type().get(id).cloned(),
            Asked::Name(name) => self.by_name().get(name).cloned(),
        }
    }

    fn keep(&self, asked: &Asked, startable: &Startable) {
        match asked {
            Asked::Type(id, _) => drop(self.by_type().insert(*id, startable.clone())),
            Asked::Name(name) => drop(self.by_name().insert(name.clone(), startable.clone())),
        }
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
