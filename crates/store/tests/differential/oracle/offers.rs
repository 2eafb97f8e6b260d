//! Slots that come with a request. The promises say who may be claimed into them: what the very
//! request made ready, never past something of higher priority that was in the queue when the
//! transaction began or that a request before it in the same transaction put there, and among several
//! those of higher priority. They don't say which of several of the same priority. So the oracle takes
//! over whom the engine claimed, and asks for each task that was made ready whether that was right.

use std::collections::BTreeSet;

use abide_core::ids::TaskKey;
use abide_core::kernel::{MAX_HOPS, Offer};

use super::Queued;
use super::said::Said;

/// The offers of one transaction.
pub(super) struct Offers {
    /// What was in the queue at any time since the transaction began.
    seen: BTreeSet<Queued>,
    /// Whom the engine claimed for the request that is looked at.
    claimed: Vec<TaskKey>,
    /// What was not right.
    pub(super) complaints: Vec<String>,
}

/// A task that was made ready by a request with an offer.
struct Made<'a> {
    row: Queued,
    claimed: bool,
    /// What the same request made ready, itself included.
    beside: &'a [Queued],
    /// What was claimed of that.
    with: &'a [Queued],
    offer: &'a Offer,
}

impl Offers {
    /// Those of a transaction that begins with this queue.
    pub(super) fn new(queue: &[Queued]) -> Offers {
        Offers {
            seen: queue.iter().copied().collect(),
            claimed: Vec::new(),
            complaints: Vec::new(),
        }
    }

    pub(super) fn for_request(&mut self, engine: &Said) {
        self.claimed = engine.claimed().iter().map(|taken| taken.key).collect();
    }

    pub(super) fn look(&mut self, queue: &[Queued]) {
        self.seen.extend(queue);
    }

    /// Which of the tasks that a request made ready are claimed.
    pub(super) fn divide(&mut self, ready: &[Queued], offer: &Offer) -> Vec<TaskKey> {
        let with: Vec<Queued> = ready
            .iter()
            .filter(|row| self.claimed.contains(&row.key))
            .copied()
            .collect();
        for row in ready {
            let made = Made {
                row: *row,
                claimed: with.contains(row),
                beside: ready,
                with: &with,
                offer,
            };
            let complaint = self.complaint(&made);
            self.complaints.extend(complaint);
        }
        with.iter().map(|row| row.key).collect()
    }

    fn complaint(&self, made: &Made<'_>) -> Option<String> {
        let (row, slots) = (made.row, made.offer.slots as usize);
        let goes_first = self.seen.iter().find(|other| {
            let is_other = !made.beside.contains(other);
            is_other && made.offer.queues.contains(&other.queue) && other.rank < row.rank
        });
        if made.offer.hop >= MAX_HOPS {
            return made
                .claimed
                .then(|| format!("{row:?} was claimed although it is the outbox's turn"));
        }
        if made.claimed {
            if made.with.len() > slots {
                return Some(format!("{:?} were claimed into {slots} slots", made.with));
            }
            let passed = goes_first?;
            return Some(format!("{row:?} was claimed past {passed:?}"));
        }
        if made.with.len() == slots {
            let lower = made.with.iter().find(|other| other.rank > row.rank)?;
            return Some(format!("a slot went to {lower:?} instead of to {row:?}"));
        }
        goes_first
            .is_none()
            .then(|| format!("{row:?} was not claimed into a free slot"))
    }
}
