//! The thread that watches the other workers. It goes by real time, so that a busy runtime does not delay recovery.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use abide_store::{Liveness, StoreError};

use super::Worker;
use super::identity::begin_anew;
use super::reachability::Reachability;
use crate::error::EngineError;

/// How often the locks of other workers are tried.
const LOCKS_EVERY: Duration = Duration::from_millis(150);

/// How often the heartbeats of other workers are read. A death is noticed within a lease and two looks: one reads the
/// last heartbeat, the other finds it unchanged.
const HEARTBEATS_EVERY: Duration = Duration::from_secs(1);

/// The fewest looks per lease: at heartbeats, or thorough ones for what locks don't show.
const PER_LEASE: u32 = 3;

/// The thread that looks.
pub(super) struct Lookout {
    stop: Sender<()>,
}

impl Lookout {
    pub(super) fn start(worker: &Arc<Worker>) -> Result<Lookout, EngineError> {
        let (stop, stopped) = channel::<()>();
        let lease = worker.options.lease;
        let liveness = worker.store.liveness();
        let weak = Arc::downgrade(worker);
        let watch = move || {
            let mut looks = Looks::new(liveness, lease, Instant::now());
            loop {
                // Jitter, so that processes that started together look at different times.
                let jitter = match weak.upgrade() {
                    Some(worker) => 0.5 + worker.random.unit() / 2.0,
                    None => return,
                };
                let pause = looks.every.mul_f64(jitter);
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                let Some(worker) = weak.upgrade() else { return };
                if worker.store.hints().is_lost() {
                    return;
                }
                if let Some(thorough) = looks.next(Instant::now(), &worker.reachability) {
                    look(&worker, thorough);
                }
            }
        };
        let spawned = thread::Builder::new()
            .name("abide-lookout".to_owned())
            .spawn(watch);
        spawned.map_err(|error| {
            EngineError::Option(format!(
                "no thread to look after other workers could be started: {error}"
            ))
        })?;
        Ok(Lookout { stop })
    }

    /// Stops looking.
    pub(super) fn stop(&self) {
        // An error means that the thread has ended already.
        self.stop.send(()).ok();
    }
}

/// When to look, and how.
struct Looks {
    liveness: Liveness,
    lease: Duration,
    every: Duration,
    thorough: Instant,
}

impl Looks {
    fn new(liveness: Liveness, lease: Duration, now: Instant) -> Looks {
        let by_lease = lease / PER_LEASE;
        Looks {
            liveness,
            lease,
            every: match liveness {
                Liveness::Locks => LOCKS_EVERY.min(by_lease),
                Liveness::Leases => HEARTBEATS_EVERY.min(by_lease),
            },
            thorough: now,
        }
    }

    /// Whether to look now, and whether thoroughly. A process that was stopped or cut off can't tell whether the
    /// others were too: they get a lease's time to renew theirs. Locks need no such wait.
    fn next(&mut self, now: Instant, reachability: &Reachability) -> Option<bool> {
        match self.liveness {
            Liveness::Leases => reachability.is_steady(now, self.lease).then_some(true),
            Liveness::Locks => {
                let thorough = now - self.thorough >= self.lease / PER_LEASE;
                if thorough {
                    self.thorough = now;
                }
                Some(thorough)
            }
        }
    }
}

fn look(worker: &Arc<Worker>, thorough: bool) {
    let id = worker.id();
    if worker.store.is_lost(id) {
        let weak = Arc::downgrade(worker);
        worker.runtime.spawn(begin_anew(weak, id));
    }
    match worker.store.someone_died(thorough) {
        Ok(true) => worker.death.notify_one(),
        Ok(false) | Err(StoreError::Closed) => {}
        Err(error) => tracing::warn!(%error, "can't tell whether all workers are alive"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(3);

    #[test]
    fn who_was_stopped_or_cut_off_declares_nobody_dead() {
        let begun = Instant::now();
        let reachability = Reachability::new(begun);
        let mut looks = Looks::new(Liveness::Leases, LEASE, begun);
        assert_eq!(looks.every, LEASE / 3);
        assert_eq!(looks.next(begun + LEASE, &reachability), Some(true));
        assert_eq!(
            looks.next(begun + LEASE * 3, &reachability),
            None,
            "it was stopped"
        );
        reachability.heard(begun + LEASE * 3, LEASE);
        assert_eq!(looks.next(begun + LEASE * 3, &reachability), None);
        reachability.lost();
        assert_eq!(
            looks.next(begun + LEASE * 4, &reachability),
            None,
            "it is cut off"
        );
        reachability.heard(begun + LEASE * 5, LEASE);
        assert_eq!(looks.next(begun + LEASE * 5, &reachability), None);
        reachability.heard(begun + LEASE * 6, LEASE);
        assert_eq!(looks.next(begun + LEASE * 6, &reachability), Some(true));
    }

    #[test]
    fn locks_are_tried_however_late_and_looked_behind_three_times_a_lease() {
        let begun = Instant::now();
        let reachability = Reachability::new(begun);
        let mut looks = Looks::new(Liveness::Locks, LEASE, begun);
        assert_eq!(looks.every, LOCKS_EVERY);
        assert_eq!(looks.next(begun + LEASE / 6, &reachability), Some(false));
        assert_eq!(looks.next(begun + LEASE / 3, &reachability), Some(true));
        assert_eq!(looks.next(begun + LEASE / 2, &reachability), Some(false));
        assert_eq!(looks.next(begun + LEASE * 9, &reachability), Some(true));
    }
}
