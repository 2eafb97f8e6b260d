//! Which failures a rule catches.

use crate::graph::Graph;

/// Whether `handler`, which completed, has caught the failure of `failed` because its rule names
/// that failure.
///
/// The rule names the failure if it contains `failed(name)` inside an even number of `none`, with
/// the dependency's own id or its task's id. Only the text of the rule counts, not which part of it
/// held:
///
/// - `any(success(x), failed(x))` catches: its author has provided for the failure.
/// - `none(failed(x))` does not: it requires that there is no failure.
/// - `none(success(x))`, `all()` and rules on the context alone do not: they can hold after a
///   failure, but do not name it.
pub fn catches(graph: &Graph, handler: u32, failed: u32) -> bool {
    graph.dependencies(handler).binary_search(&failed).is_ok()
        && (graph.catches_name(handler, graph.node_id(failed))
            || graph.catches_name(handler, &graph.task_of(failed).id))
}
