//! What an engine can be told, with its defaults. Set by [`EngineBuilder`](crate::EngineBuilder),
//! where each is explained.

use std::sync::Arc;
use std::time::Duration;

use abide_core::payload::DEFAULT_PAYLOAD_LIMIT_BYTES;

use crate::clock::{Clock, SystemClock};

#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) max_concurrent_tasks: usize,
    pub(crate) max_parked_tasks: usize,
    pub(crate) lease: Duration,
    pub(crate) max_crashes: u32,
    pub(crate) shutdown_deadline: Duration,
    pub(crate) cancel_grace: Duration,
    pub(crate) payload_limit_bytes: usize,
    pub(crate) busy_timeout: Duration,
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
            max_crashes: 3,
            shutdown_deadline: Duration::from_secs(30),
            cancel_grace: Duration::from_secs(30),
            payload_limit_bytes: DEFAULT_PAYLOAD_LIMIT_BYTES,
            busy_timeout: Duration::from_secs(5),
            history_retention: None,
            poll_interval: Duration::from_secs(10),
            clock: Arc::new(SystemClock),
            seed: None,
        }
    }
}
