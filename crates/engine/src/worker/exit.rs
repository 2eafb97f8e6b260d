//! How an attempt left the memory of its worker.

use abide_core::failure::Failure;
use abide_core::kernel::Outcome;

use super::Worker;

/// See the module's documentation.
pub(super) enum Exit {
    /// With an outcome to record.
    Outcome(Outcome),
    /// Its waits are in the store.
    Evicted,
    /// The task is no longer this worker's.
    Lost,
}

impl Exit {
    pub(super) fn released(reason: &str) -> Exit {
        let reason = reason.to_owned();
        Exit::Outcome(Outcome::Released { reason })
    }

    pub(super) fn failed(failure: Failure, worker: &Worker) -> Exit {
        Exit::Outcome(failed(failure, worker))
    }
}

/// A failure after which the next attempt replays the whole record.
pub(super) fn failed(failure: Failure, worker: &Worker) -> Outcome {
    Outcome::Failed {
        failure: failure.recordable(worker.options.payload_limit_bytes),
        random: worker.random.unit(),
        rerun: None,
    }
}
