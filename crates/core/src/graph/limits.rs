//! How large graphs may be.

/// Most nodes a graph may have; also most tasks.
pub const MAX_NODES: usize = 100_000;

/// Most edges a graph may have.
pub const MAX_EDGES: usize = 4_000_000;
