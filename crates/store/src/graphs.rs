//! Graphs in memory. They never change once stored, so a cached one is always right; those of
//! single executions are dropped, oldest first, when their nodes together are too many.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, VersionId};
use rustc_hash::FxHashMap;

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
