//! A runtime of the engine's own, with a single thread, for starts: they proceed even if the tasks keep every thread
//! of their runtime.

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::EngineError;

/// The runtime. Dropping this ends it without waiting.
pub(crate) struct OwnRuntime(Option<Runtime>, Handle);

impl OwnRuntime {
    pub(super) fn start() -> Result<OwnRuntime, EngineError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("abide-engine")
            .build();
        let runtime = runtime.map_err(|error| {
            EngineError::Option(format!(
                "no thread for the engine's own work could be started: {error}"
            ))
        })?;
        let handle = runtime.handle().clone();
        Ok(OwnRuntime(Some(runtime), handle))
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.1
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        // Dropping a runtime waits, which no thread of a runtime may do.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
