//! Slots that come with a request. The promises say who may be claimed into them: what the very
//! request made ready, never past something in the queue of higher priority, and among several those of
//! higher priority. They don't say in which order the requests of a transaction that are about
//! different executions take effect. So the oracle takes over whom the engine claimed, and at the end
//! of the transaction asks for each task that was made ready whether that was right.

use std::collections::BTreeSet;

use abide_core::ids::TaskKey;
use abide_core::kernel::{MAX_HOPS, Offer};

use super::Queued;
use super::said::Said;

/// The offers of one transaction.
pub(super) struct Offers {
    /// The queue when the transaction began.
    before: Vec<Queued>,
    /// What was in it at any time since.
    seen: BTreeSet<Queued>,
    /// Whom the engine claimed for the request that is looked at.
    claimed: Vec<TaskKey>,
    made: Vec<Made>,
}

/// A task that was made ready by a request with an offer.
struct Made {
    row: Queued,
    claimed: bool,
    /// What the same request made ready, itself included.
    beside: Vec<TaskKey>,
    /// What was claimed of that.
    with: Vec<Queued>,
    offer: Offer,
}

impl Offers {
    pub(super) fn new(before: Vec<Queued>) -> Offers {
        Offers {
            seen: before.iter().copied().collect(),
            before,
            claimed: Vec::new(),
            made: Vec::new(),
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
            self.made.push(Made {
                row: *row,
                claimed: with.contains(row),
                beside: ready.iter().map(|row| row.key).collect(),
                with: with.clone(),
                offer: offer.clone(),
            });
        }
        with.iter().map(|row| row.key).collect()
    }

    /// What was not right.
    pub(super) fn complaints(&self) -> Vec<String> {
        let complaints = self.made.iter().filter_map(|made| self.complaint(made));
        complaints.collect()
    }

    fn complaint(&self, made: &Made) -> Option<String> {
        let (row, slots) = (made.row, made.offer.slots as usize);
        let beside = |other: &Queued| made.beside.contains(&other.key);
        let goes_first =
            |other: &&Queued| made.offer.queues.contains(&other.queue) && other.rank < row.rank;
        if made.offer.hop >= MAX_HOPS {
            return made
                .claimed
                .then(|| format!("{row:?} was claimed although it is the outbox's turn"));
        }
        if made.claimed {
            if made.with.len() > slots {
                return Some(format!("{:?} were claimed into {slots} slots", made.with));
            }
            let passed = self.before.iter().find(goes_first)?;
            return Some(format!("{row:?} was claimed past {passed:?}"));
        }
        if made.with.len() == slots {
            let lower = made.with.iter().find(|other| other.rank > row.rank)?;
            return Some(format!("a slot went to {lower:?} instead of to {row:?}"));
        }
        let others = self.seen.iter().filter(|other| !beside(other));
        match others.chain(&self.before).any(|other| goes_first(&other)) {
            true => None,
            false => Some(format!("{row:?} was not claimed into a free slot")),
        }
    }
}
