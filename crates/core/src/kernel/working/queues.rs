//! What comes and goes as keys alone: rows of the outbox and timers; and the head of each queue,
//! which a claim that bypasses the outbox must not pass.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::ids::{VersionId, WorkerId};
use crate::kernel::effects::Change;
use crate::kernel::need::{Need, Stop};
use crate::kernel::offer::Offer;
use crate::kernel::outbox_row::OutboxRow;
use crate::timer::Timer;

use super::Working;
use super::undo::Undo;

/// The highest priority that is ready in one queue.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// As stored, once that was read. It counts also after this flush has claimed its row, since the
    /// rows behind it were not read.
    pub(super) stored: Option<Option<i16>>,
    /// Of the rows that this flush added: each priority with the first request that added one, by its
    /// place in the flush.
    pub(super) fresh: BTreeMap<i16, usize>,
}

impl Working {
    pub(in crate::kernel) fn worker_alive(&self, id: WorkerId) -> Result<bool, Stop> {
        self.workers
            .get(&id)
            .copied()
            .ok_or_else(|| Need::Worker(id).into())
    }

    /// The highest priority that was ready in the queues of an offer when the flush began.
    pub(in crate::kernel) fn ready_head(&self, offer: &Offer) -> Result<Option<i16>, Stop> {
        let mut highest = None;
        for queue in offer.queues.iter() {
            let stored = self.heads.get(queue).and_then(|head| head.stored);
            let missing = || Need::ReadyHead(offer.queues.clone());
            highest = highest.max(stored.ok_or_else(missing)?);
        }
        Ok(highest)
    }

    /// Whether this request, or one before it in the flush, added something of a higher priority to the
    /// queues of an offer. What a later request added does not count, although that request may have run
    /// already: so the answer does not depend on how many rounds of reading each of them takes.
    pub(in crate::kernel) fn added_above(
        &self,
        offer: &Offer,
        priority: i16,
    ) -> Result<bool, Stop> {
        if self.is_ahead {
            // Nothing is missing but the requests before this one.
            return Err(Stop::Missing(Vec::new()));
        }
        let above = (Bound::Excluded(priority), Bound::Unbounded);
        let heads = offer
            .queues
            .iter()
            .filter_map(|queue| self.heads.get(queue));
        let mut firsts = heads.flat_map(|head| head.fresh.range(above).map(|(_, first)| *first));
        Ok(firsts.any(|first| first <= self.place))
    }

    /// Those of these queues whose stored head was not read yet.
    pub fn unread_heads(&self, queues: &[VersionId]) -> impl Iterator<Item = VersionId> {
        let is_unread = |queue: &VersionId| {
            let head = self.heads.get(queue);
            head.is_none_or(|head| head.stored.is_none())
        };
        queues.iter().copied().filter(is_unread)
    }

    pub(in crate::kernel) fn add_to_outbox(&mut self, row: OutboxRow) {
        if row.worker.is_none() {
            let head = self.heads.entry(row.queue).or_default();
            let first = head.fresh.get(&row.priority).copied();
            if first.is_none_or(|first| first > self.place) {
                let undo = Undo::ReadyHead(row.queue, row.priority, first);
                self.undo.push(undo);
                head.fresh.insert(row.priority, self.place);
            }
        }
        self.effects.outbox.push(Change::Add(row));
    }

    pub(in crate::kernel) fn remove_from_outbox(&mut self, row: OutboxRow) {
        self.effects.outbox.push(Change::Remove(row));
    }

    pub(in crate::kernel) fn add_timer(&mut self, timer: Timer) {
        self.effects.timers.push(Change::Add(timer));
    }

    pub(in crate::kernel) fn remove_timer(&mut self, timer: Timer) {
        self.effects.timers.push(Change::Remove(timer));
    }
}
