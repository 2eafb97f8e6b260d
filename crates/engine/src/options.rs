//! What an engine can be told, with its defaults. Set by [`EngineBuilder`](crate::EngineBuilder),
//! where each is explained.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use abide_core::payload::DEFAULT_PAYLOAD_LIMIT_BYTES;

use crate::clock::{Clock, SystemClock};
use crate::error::EngineError;
use crate::random::Random;

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

impl Options {
    /// Refuses options that are out of range.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        const SHORTEST_LEASE: Duration = Duration::from_millis(300);
        const SHORTEST_POLL: Duration = Duration::from_millis(100);
        const MOST_TASKS: usize = 1_000_000;
        // Less would refuse what the engine itself records, such as the `null` of a step.
        const SMALLEST_PAYLOAD_LIMIT_BYTES: usize = 256;
        // A database takes up to 1 GB in a field, and several copies are in memory on the way there.
        const LARGEST_PAYLOAD_LIMIT_BYTES: usize = 256 * 1024 * 1024;
        let wrong = |what: String| Err(EngineError::Option(what));
        if self.max_concurrent_tasks == 0 {
            return wrong("max_concurrent_tasks is 0: no task would ever run".to_owned());
        }
        if self.max_concurrent_tasks > MOST_TASKS {
            let tasks = self.max_concurrent_tasks;
            return wrong(format!(
                "max_concurrent_tasks is {tasks}; the most is {MOST_TASKS}"
            ));
        }
        let limit = self.payload_limit_bytes;
        if !(SMALLEST_PAYLOAD_LIMIT_BYTES..=LARGEST_PAYLOAD_LIMIT_BYTES).contains(&limit) {
            return wrong(format!(
                "payload_limit is {limit}; it must be from {SMALLEST_PAYLOAD_LIMIT_BYTES} to {LARGEST_PAYLOAD_LIMIT_BYTES} bytes"
            ));
        }
        if self.lease < SHORTEST_LEASE {
            let lease = self.lease;
            return wrong(format!(
                "the lease is {lease:?}; it must be at least {SHORTEST_LEASE:?}"
            ));
        }
        if self.poll_interval < SHORTEST_POLL {
            let interval = self.poll_interval;
            return wrong(format!(
                "the poll interval is {interval:?}; it must be at least {SHORTEST_POLL:?}"
            ));
        }
        Ok(())
    }

    /// The generator of random numbers that they ask for.
    pub(crate) fn random(&self) -> Random {
        match self.seed {
            Some(seed) => Random::seeded(seed),
            None => Random::unforeseen(),
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
