//! Which workers are dead, as this process has seen it: a worker is whose heartbeat has stood still for a
//! whole lease, by this process's monotonic clock. The database's clock has no say, since it may be set:
//! ahead, it would end all leases at once; back, it would end none for as long. A process that has just
//! come has seen nothing yet and waits for a lease.

use std::time::{Duration, Instant};

use abide_core::ids::{Timestamp, WorkerId};
use rustc_hash::FxHashMap;

/// A worker that has not ended, as its row has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) worker: WorkerId,
    /// Its last heartbeat. Here this is only a value that changes with each.
    pub(crate) heartbeat_at: Timestamp,
    /// How long the heartbeat is good for.
    pub(crate) length_us: i64,
}

/// What this process has seen of the others' heartbeats.
#[derive(Debug, Default)]
pub(super) struct Leases {
    seen: FxHashMap<WorkerId, Seen>,
}

#[derive(Debug)]
struct Seen {
    heartbeat_at: Timestamp,
    since: Instant,
}

impl Leases {
    /// Takes note of all workers that there are now. Answers those whose lease is over.
    pub(super) fn look(&mut self, leases: &[Lease], now: Instant) -> Vec<Lease> {
        let mut seen = FxHashMap::default();
        let mut over = Vec::new();
        for lease in leases {
            let since = match self.seen.get(&lease.worker) {
                Some(seen) if seen.heartbeat_at == lease.heartbeat_at => seen.since,
                _ => now,
            };
            let length = u64::try_from(lease.length_us).unwrap_or(0);
            if now - since >= Duration::from_micros(length) {
                over.push(*lease);
            }
            let heartbeat_at = lease.heartbeat_at;
            seen.insert(
                lease.worker,
                Seen {
                    heartbeat_at,
                    since,
                },
            );
        }
        self.seen = seen;
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(worker: i64, heartbeat_at: i64) -> Lease {
        Lease {
            worker: WorkerId(worker),
            heartbeat_at: Timestamp(heartbeat_at),
            length_us: 3_000_000,
        }
    }

    #[test]
    fn a_heartbeat_that_stands_still_for_a_lease_is_the_last_and_any_other_is_not() {
        let begun = Instant::now();
        let at = |s| begun + Duration::from_secs(s);
        let mut leases = Leases::default();
        assert_eq!(leases.look(&[lease(1, 10), lease(2, 10)], at(0)), []);
        assert_eq!(leases.look(&[lease(1, 10), lease(2, 11)], at(2)), []);
        let over = leases.look(&[lease(1, 10), lease(2, 11), lease(3, 0)], at(3));
        assert_eq!(over, [lease(1, 10)], "a new one is given its time");
        // Whatever way the clock was set that heartbeats are written by.
        assert_eq!(leases.look(&[lease(2, 1), lease(3, 99)], at(5)), []);
        assert_eq!(leases.look(&[lease(2, 1), lease(3, 99)], at(7)), []);
        let over = leases.look(&[lease(2, 1), lease(3, 99)], at(8));
        assert_eq!(over, [lease(2, 1), lease(3, 99)]);
    }

    #[test]
    fn a_worker_that_was_gone_for_a_while_is_a_new_one() {
        let begun = Instant::now();
        let mut leases = Leases::default();
        leases.look(&[lease(1, 10)], begun);
        leases.look(&[], begun + Duration::from_secs(1));
        let later = begun + Duration::from_secs(4);
        assert_eq!(leases.look(&[lease(1, 10)], later), []);
    }
}
