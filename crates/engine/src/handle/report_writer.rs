//! What the progress of a worker's tasks is written with, apart from the worker, so that attempts need
//! not know it.

use std::sync::Arc;
use std::time::Duration;

use abide_core::kernel::Progress;
use abide_store::{ApplyError, Store};
use tokio::runtime::Handle;

use crate::clock::Clock;

/// Time between two writes of a task's progress.
const INTERVAL: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub(crate) struct ReportWriter {
    store: Store,
    clock: Arc<dyn Clock>,
    runtime: Handle,
}

impl ReportWriter {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>, runtime: Handle) -> ReportWriter {
        ReportWriter {
            store,
            clock,
            runtime,
        }
    }

    /// Runs the writing of one attempt's reports on the runtime of the worker.
    pub(super) fn spawn(&self, writing: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(writing);
    }

    pub(super) async fn write(&self, progress: Progress) -> Result<(), ApplyError> {
        self.store.apply(progress).await
    }

    /// Waits until another report may be written.
    pub(super) async fn pause(&self) {
        self.clock.sleep(INTERVAL).await;
    }
}
