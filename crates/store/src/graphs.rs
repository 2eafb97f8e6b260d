//! Graphs in memory. They never change once stored, so a cached one is always right; those of
//! single executions are dropped, oldest first, when their nodes together are too many.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, VersionId};
use rustc_hash::FxHashMap;

/// The most executions whose workflow version is remembered.
#[cfg(feature = "postgres")]
const KEPT_EXECUTIONS: usize = 10_000;

/// The most nodes of run-time graphs that are kept, over all executions.
const KEPT_NODES: u64 = 1_000_000;

#[derive(Debug, Default)]
pub(crate) struct GraphCache(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    versions: FxHashMap<VersionId, Arc<Graph>>,
    own: FxHashMap<ExecutionId, Arc<Graph>>,
    order: VecDeque<ExecutionId>,
    nodes: u64,
    /// The versions of executions, and these in the order in which they came.
    #[cfg(feature = "postgres")]
    of: FxHashMap<ExecutionId, VersionId>,
    #[cfg(feature = "postgres")]
    came: VecDeque<ExecutionId>,
}

impl GraphCache {
    pub(crate) fn get(&self, id: ExecutionId, version: VersionId, own: bool) -> Option<Arc<Graph>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if own {
            kept.own.get(&id).cloned()
        } else {
            kept.versions.get(&version).cloned()
        }
    }

    /// The graph of an execution that is known without reading its row.
    #[cfg(feature = "postgres")]
    pub(crate) fn of(&self, id: ExecutionId) -> Option<Arc<Graph>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_version = || kept.versions.get(kept.of.get(&id)?);
        kept.own.get(&id).or_else(of_version).cloned()
    }

    /// Remembers that an execution is of that version and has no graph of its own.
    #[cfg(feature = "postgres")]
    pub(crate) fn remember(&self, id: ExecutionId, version: VersionId) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.of.insert(id, version).is_some() {
            return;
        }
        kept.came.push_back(id);
        if kept.came.len() > KEPT_EXECUTIONS
            && let Some(oldest) = kept.came.pop_front()
        {
            kept.of.remove(&oldest);
        }
    }

    /// Keeps a graph, and answers the one that is kept.
    pub(crate) fn put(
        &self,
        id: ExecutionId,
        version: VersionId,
        own: bool,
        graph: Arc<Graph>,
    ) -> Arc<Graph> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !own {
            return kept.versions.entry(version).or_insert(graph).clone();
        }
        if let Some(known) = kept.own.get(&id) {
            return known.clone();
        }
        kept.nodes += u64::from(graph.len());
        kept.own.insert(id, graph.clone());
        kept.order.push_back(id);
        while kept.nodes > KEPT_NODES && kept.order.len() > 1 {
            let oldest = kept.order.pop_front().expect("more than one");
            if let Some(dropped) = kept.own.remove(&oldest) {
                kept.nodes -= u64::from(dropped.len());
            }
        }
        graph
    }
}
