//! What an engine can be told, with its defaults. Set by [`EngineBuilder`](crate::EngineBuilder),
//! where each is explained.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use abide_core::payload::DEFAULT_PAYLOAD_LIMIT_BYTES;

use crate::clock::{Clock, SystemClock};

#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) max_concurrent_tasks: usize,
    pub(crate) max_parked_tasks: usize,
    pub(crate) lease: Duration,
    pub(crate) blocked_limit: Duration,
    pub(crate) max_crashes: u32,
    pub(crate) shutdown_deadline: Duration,
    pub(crate) cancel_grace: Duration,
    pub(crate) payload_limit_bytes: usize,
    pub(crate) busy_timeout: Duration,
    pub(crate) file_mode: Option<u32>,
    pub(crate) history_retention: Option<Duration>,
    pub(crate) poll_interval: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            max_concurrent_tasks: 4,
            max_parked_tasks: 10_000,
            lease: Duration::from_secs(10),
            blocked_limit: Duration::from_secs(600),
            max_crashes: 5,
            shutdown_deadline: Duration::from_secs(30),
            cancel_grace: Duration::from_secs(30),
            payload_limit_bytes: DEFAULT_PAYLOAD_LIMIT_BYTES,
            busy_timeout: Duration::from_secs(5),
            file_mode: None,
            history_retention: None,
            poll_interval: Duration::from_secs(10),
            clock: Arc::new(SystemClock),
            seed: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("max_concurrent_tasks", &self.max_concurrent_tasks)
            .field("max_parked_tasks", &self.max_parked_tasks)
            .field("lease", &self.lease)
            .field("blocked_limit", &self.blocked_limit)
            .field("max_crashes", &self.max_crashes)
            .field("shutdown_deadline", &self.shutdown_deadline)
            .field("cancel_grace", &self.cancel_grace)
            .field("payload_limit_bytes", &self.payload_limit_bytes)
            .field("busy_timeout", &self.busy_timeout)
            .field("file_mode", &self.file_mode)
            .field("history_retention", &self.history_retention)
            .field("poll_interval", &self.poll_interval)
            .finish_non_exhaustive()
    }
}
