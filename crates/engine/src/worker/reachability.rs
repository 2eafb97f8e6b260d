//! Since when this process has reached the database without a gap, as its heartbeats tell. A process that was
//! cut off cannot judge other workers: their leases may have ended only because the database was out of reach
//! for all of them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the heartbeats told.
pub(super) struct Reachability(Mutex<Told>);

struct Told {
    /// None while the last heartbeat failed.
    since: Option<Instant>,
    last: Instant,
}

impl Reachability {
    /// Begins as if a heartbeat was answered.
    pub(super) fn new(now: Instant) -> Reachability {
        Reachability(Mutex::new(Told {
            since: Some(now),
            last: now,
        }))
    }

    /// A heartbeat was answered. A silence longer than a lease counts as a loss. Returns whether
    /// the database is back after a loss.
    pub(super) fn heard(&self, now: Instant, lease: Duration) -> bool {
        let mut told = self.told();
        let is_back = told.since.is_none() || now - told.last > lease;
        if is_back {
            told.since = Some(now);
        }
        told.last = now;
        is_back
    }

    /// A heartbeat was not answered.
    pub(super) fn lost(&self) {
        self.told().since = None;
    }

    /// Whether the database was reachable for a whole lease: every live worker has renewed its own
    /// meanwhile.
    pub(super) fn is_steady(&self, now: Instant, lease: Duration) -> bool {
        let told = self.told();
        let lasts = told.since.is_some_and(|since| now - since >= lease);
        lasts && now - told.last <= lease
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(3);

    #[test]
    fn contact_that_was_lost_is_steady_a_lease_after_it_is_back() {
        let begun = Instant::now();
        let at = |s| begun + Duration::from_secs(s);
        let reachability = Reachability::new(begun);
        assert!(!reachability.is_steady(at(2), LEASE));
        reachability.heard(at(2), LEASE);
        assert!(reachability.is_steady(at(3), LEASE));
        reachability.lost();
        assert!(!reachability.is_steady(at(9), LEASE));
        reachability.heard(at(10), LEASE);
        reachability.heard(at(12), LEASE);
        assert!(!reachability.is_steady(at(12), LEASE));
        assert!(reachability.is_steady(at(13), LEASE));
    }

    #[test]
    fn a_heartbeat_that_took_longer_than_a_lease_begins_anew() {
        let begun = Instant::now();
        let at = |s| begun + Duration::from_secs(s);
        let reachability = Reachability::new(begun);
        assert!(
            !reachability.is_steady(at(4), LEASE),
            "nothing was heard for longer than a lease"
        );
        reachability.heard(at(4), LEASE);
        assert!(!reachability.is_steady(at(6), LEASE));
        reachability.heard(at(6), LEASE);
        assert!(reachability.is_steady(at(7), LEASE));
    }
}
