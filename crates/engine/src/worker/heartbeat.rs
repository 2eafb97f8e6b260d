//! The heartbeat: a thread of its own renews the worker's lease for as long as the process lives, so
//! that a busy or blocked runtime does not cost the worker its tasks. Tasks that keep a thread of the
//! runtime are named in the log. Only a runtime that has been blocked for as long as the option
//! `blocked_limit` says gives its lease up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use abide_core::ids::TaskKey;
use abide_store::StoreError;
use tokio::task::AbortHandle;

use super::Worker;
use super::identity::begin_anew;
use crate::error::EngineError;

/// Renewals per lease.
const PER_LEASE: u32 = 3;

/// A task that keeps its thread for longer than this is named.
const KEEPS_THREAD: Duration = Duration::from_secs(1);

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
        let limit = worker.options.blocked_limit.max(worker.options.lease);
        let beat = move || {
            let mut silence = Silence::new(Instant::now());
            let mut named = HashMap::new();
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let Some(worker) = weak.upgrade() else { return };
                if worker.store.hints().is_lost() {
                    return;
                }
                let now = Instant::now();
                name_blocking(&worker, now, &mut named);
                if silence.lasts(beats.load(Ordering::Relaxed), now) > limit {
                    tracing::error!(
                        ?limit,
                        "the runtime has been blocked for longer than `blocked_limit`: the worker's lease is not renewed",
                    );
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

/// How long the pulse has stood still.
struct Silence {
    last: u64,
    since: Instant,
}

impl Silence {
    fn new(now: Instant) -> Silence {
        Silence {
            last: 0,
            since: now,
        }
    }

    fn lasts(&mut self, beats: u64, now: Instant) -> Duration {
        if beats != self.last {
            self.last = beats;
            self.since = now;
        }
        now - self.since
    }
}

/// Warns of tasks that keep a thread of the runtime, once for each poll that does.
fn name_blocking(worker: &Worker, now: Instant, named: &mut HashMap<TaskKey, Instant>) {
    let mut blocking = HashMap::new();
    for attempt in worker.attempts.all() {
        let Some(since) = attempt.polled_since() else {
            continue;
        };
        let kept = now.saturating_duration_since(since);
        if kept < KEEPS_THREAD {
            continue;
        }
        if named.get(&attempt.key()) != Some(&since) {
            tracing::warn!(
                task = %attempt.key(),
                node = attempt.node(),
                instance = &*attempt.instance,
                "a task has kept a thread of the runtime for {kept:.1?} without an await; nothing else can run there: \
                 use tokio::task::spawn_blocking for blocking code",
            );
        }
        blocking.insert(attempt.key(), since);
    }
    *named = blocking;
}

fn renew(worker: &Worker, weak: &Weak<Worker>) {
    let id = worker.id();
    let lease = worker.options.lease;
    let renewed = worker.store.heartbeat_blocking(id, lease);
    if renewed.is_ok() && worker.reachability.heard(Instant::now(), lease) {
        worker.reconcile_soon();
    }
    match renewed {
        Ok(true) => {}
        Ok(false) => {
            let weak = Weak::clone(weak);
            worker.runtime.spawn(begin_anew(weak, id));
        }
        Err(StoreError::Closed) => {}
        Err(error) => {
            worker.reachability.lost();
            tracing::warn!(%error, "the worker's lease could not be renewed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_blocked_since_its_pulse_was_last_seen_to_move() {
        let begun = Instant::now();
        let at = |s| begun + Duration::from_secs(s);
        let mut silence = Silence::new(begun);
        assert_eq!(silence.lasts(1, at(1)), Duration::ZERO);
        assert_eq!(silence.lasts(1, at(9)), Duration::from_secs(8));
        assert_eq!(silence.lasts(1, at(600)), Duration::from_secs(599));
        assert_eq!(silence.lasts(2, at(601)), Duration::ZERO);
    }
}
