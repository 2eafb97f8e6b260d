//! What recovery finds.

use abide_core::ids::{ExecutionId, WorkerId};

/// What dead processes left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    /// Workers that are gone and have something to recover.
    pub(crate) dead: Vec<WorkerId>,
    /// Executions whose large graph was never finished: their process died, or another start won.
    pub(crate) unpublished: Vec<ExecutionId>,
}
