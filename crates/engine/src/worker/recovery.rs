//! Looking after each other: whoever finds that a worker has died takes its tasks back, and a worker
//! that others took for dead begins anew.
//!
//! A thread of its own looks, by real time, so that a busy runtime leaves nobody's tasks behind.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use abide_core::ids::WorkerId;
use abide_store::{Liveness, Store, StoreError};

use super::Worker;
use super::launch::{next_worker_id, this_process};
use super::persist::Backoff;
use super::reachability::Reachability;
use crate::error::EngineError;
use crate::handle::operations::Sign;
use crate::options::Options;

/// How often the others' locks are tried.
const LOCKS_EVERY: Duration = Duration::from_millis(150);

/// How often the others' heartbeats are looked at: a death is noticed within a lease, one look that sees
/// the last heartbeat, and one that sees it still.
const HEARTBEATS_EVERY: Duration = Duration::from_secs(1);

/// Looks per lease at the least: at the others' heartbeats, or thoroughly at what locks don't show.
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
                // Processes that started together need not look together.
                let jitter = match weak.upgrade() {
                    Some(worker) => 0.5 + worker.random.unit() / 2.0,
                    None => return,
                };
                let pause = looks.every.mul_f64(jitter);
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                let Some(worker) = weak.upgrade() else { return };
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

    /// Looks no more.
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

    /// Whether to look now, and whether thoroughly. Who was stopped, or could not reach the database,
    /// doesn't know whether everybody was: they have a lease's time to show that they live. A lock
    /// needs no such patience.
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

/// What a starting worker could not do of what earlier processes left to it. It is tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Undone {
    recovery: bool,
    waking_for_code: bool,
}

/// Takes over what earlier processes left, as far as that goes.
pub(super) async fn take_over(store: &Store, options: &Options, id: WorkerId) -> Undone {
    // Where the others can't be judged yet, the lookout does that a lease's time from now.
    let recovered = match store.is_settled(options.lease).await {
        Ok(true) => recover(store, options, id).await,
        Ok(false) => true,
        Err(error) => {
            tracing::warn!(%error, "can't tell yet who of the others is alive");
            false
        }
    };
    Undone {
        recovery: !recovered && store.liveness() == Liveness::Locks,
        waking_for_code: !wake_for_code(store).await,
    }
}

/// Recovers what dead workers left. Answers whether that went well.
async fn recover(store: &Store, options: &Options, own: WorkerId) -> bool {
    match store.recover(options.max_crashes, own).await {
        Ok(recovered) => {
            if recovered.took_over() {
                tracing::info!(?recovered, "took over what earlier processes left");
            }
            true
        }
        Err(error) => {
            tracing::warn!(%error, "what earlier processes left was not recovered; trying again");
            false
        }
    }
}

/// Wakes what waits for other code. Answers whether that went well.
async fn wake_for_code(store: &Store) -> bool {
    match store.wake_for_code().await {
        Ok(0) => true,
        Ok(woken) => {
            tracing::info!(woken, "tasks that waited for other code try this one");
            true
        }
        Err(error) => {
            tracing::warn!(%error, "not all that waits for other code was woken; trying again");
            false
        }
    }
}

/// Does what the start left undone, then recovers what dead workers left, whenever one may have died;
/// runs until it is aborted. Whatever fails is tried again.
pub(super) async fn run(worker: Arc<Worker>, mut undone: Undone) {
    let (store, options) = (&worker.store, &worker.options);
    let mut backoff = Backoff::default();
    loop {
        if undone == Undone::default() {
            backoff.reset();
            worker.death.notified().await;
            undone.recovery = true;
        } else if undone.recovery {
            backoff.pause(&worker.random).await;
        } else {
            tokio::select! {
                () = worker.death.notified() => undone.recovery = true,
                () = backoff.pause(&worker.random) => {}
            }
        }
        if undone.recovery {
            let recovered = recover(store, options, worker.id()).await;
            // Whether leases may be judged again, the lookout says.
            undone.recovery = !recovered && store.liveness() == Liveness::Locks;
        }
        if undone.waking_for_code {
            undone.waking_for_code = !wake_for_code(store).await;
        }
    }
}

/// The worker was declared dead: whatever it ran is somebody else's now. It goes on under a new id.
pub(super) async fn begin_anew(worker: Weak<Worker>, lost: WorkerId) {
    let Some(worker) = worker.upgrade() else {
        return;
    };
    let Ok(alone) = worker.beginning_anew.try_lock() else {
        return;
    };
    let lease = worker.options.lease;
    // Whoever saw that may have looked at an id that was not recorded yet, or is past.
    let is_dead = async || {
        let store = &worker.store;
        store.is_lost(lost) || matches!(store.heartbeat(lost, lease).await, Ok(false))
    };
    if worker.id() != lost || !is_dead().await {
        return;
    }
    let mut id = next_worker_id(&worker.ids, &*worker.clock);
    worker.id.store(id.0, Ordering::Release);
    tracing::error!(%lost, "this worker was declared dead; it goes on under a new id");
    worker.store.leave_worker(lost);
    let of_lost = worker.attempts.all().into_iter();
    let of_lost: Vec<_> = of_lost
        .filter(|attempt| attempt.held.worker == lost)
        .collect();
    for attempt in &of_lost {
        attempt.stop(Sign::Lost);
    }
    let mut backoff = Backoff::default();
    while let Err(error) = worker.store.register_worker(this_process(id), lease).await {
        tracing::warn!(%error, "the worker could not be registered again; trying again");
        backoff.pause(&worker.random).await;
        // It may have been written all the same.
        id = next_worker_id(&worker.ids, &*worker.clock);
        worker.id.store(id.0, Ordering::Release);
    }
    if let Err(error) = worker.store.record_queues(id, &worker.queues).await {
        // Only verification misses it.
        tracing::warn!(%error, "what the worker knows was not recorded");
    }
    drop(alone);
    // Nothing was claimed under an id that was not known yet.
    worker.store.hints().work.notify_one();
    // Others may take them back before; but nobody here is in their way any more.
    for attempt in of_lost {
        attempt.left().await;
    }
    worker.death.notify_one();
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
