//! The heartbeat: a thread of its own renews the worker's lease, so that a busy runtime does not
//! cost it its tasks; and stops renewing when the runtime has been silent for so long that it must
//! be stuck.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use abide_store::StoreError;
use tokio::task::AbortHandle;

use super::Worker;
use super::recovery::begin_anew;
use crate::error::EngineError;

/// Renewals per lease.
const PER_LEASE: u32 = 3;

/// A runtime that has not run a task for so many leases is stuck.
const SILENT_LEASES: u32 = 3;

/// The thread, and the runtime's pulse that it watches.
pub(super) struct Heartbeat {
    stop: Sender<()>,
    pulse: AbortHandle,
}

impl Heartbeat {
    pub(super) fn start(worker: &Arc<Worker>) -> Result<Heartbeat, EngineError> {
        let every = worker.options.lease / PER_LEASE;
        let beats = Arc::new(AtomicU64::new(0));
        let pulse = tokio::spawn(pulse(every, Arc::clone(&beats))).abort_handle();
        let (stop, stopped) = channel::<()>();
        let weak = Arc::downgrade(worker);
        let beat = move || {
            let mut silence = Silence {
                beats,
                last: 0,
                missed: 0,
            };
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let Some(worker) = weak.upgrade() else { return };
                if silence.is_stuck() {
                    tracing::error!("the runtime is stuck: the worker's lease is not renewed");
                    continue;
                }
                renew(&worker, &weak);
            }
        };
        let spawned = thread::Builder::new()
            .name("abide-heartbeat".to_owned())
            .spawn(beat);
        spawned.map_err(|error| {
            EngineError::Option(format!(
                "no thread for the heartbeat could be started: {error}"
            ))
        })?;
        Ok(Heartbeat { stop, pulse })
    }

    /// Stops renewing.
    pub(super) fn stop(&self) {
        // An error means that the thread has ended already.
        self.stop.send(()).ok();
        self.pulse.abort();
    }
}

/// Shows that the runtime still runs tasks.
async fn pulse(every: Duration, beats: Arc<AtomicU64>) {
    loop {
        beats.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(every).await;
    }
}

struct Silence {
    beats: Arc<AtomicU64>,
    last: u64,
    missed: u32,
}

impl Silence {
    fn is_stuck(&mut self) -> bool {
        let beats = self.beats.load(Ordering::Relaxed);
        self.missed = if beats == self.last {
            self.missed + 1
        } else {
            0
        };
        self.last = beats;
        self.missed > SILENT_LEASES * PER_LEASE
    }
}

fn renew(worker: &Worker, weak: &Weak<Worker>) {
    let id = worker.id();
    let lease = worker.options.lease;
    match worker.store.heartbeat_blocking(id, lease) {
        Ok(true) => worker.contact.heard(Instant::now(), lease),
        Ok(false) => {
            worker.contact.heard(Instant::now(), lease);
            let weak = Weak::clone(weak);
            worker.runtime.spawn(begin_anew(weak, id));
        }
        Err(StoreError::Closed) => {}
        Err(error) => {
            worker.contact.lost();
            tracing::warn!(%error, "the worker's lease could not be renewed");
        }
    }
}
