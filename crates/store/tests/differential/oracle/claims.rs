//! Claims: tasks from the queue, tasks into slots that came with a request, words from the inbox.

use abide_core::event::EventType;
use abide_core::ids::{ExecutionId, TaskKey, WorkerId};
use abide_core::kernel::{Notice, Offer, Request};
use abide_core::status::{ExecutionStatus, Phase};

use crate::fixture::Ask;

use super::offers::Offers;
use super::said::{Said, Taken};
use super::state::{Told, Who};
use super::{Note, Oracle, Queued};

/// The slots that an end leaves to the queue.
fn offer_to_fill(ask: &Ask) -> Option<&Offer> {
    let Ask::Apply(request) = ask else {
        return None;
    };
    match &**request {
        Request::Finish(finish) => finish.offer.as_ref().filter(|offer| offer.fills),
        _ => None,
    }
}

impl Oracle {
    /// A worker claims what is still as it was found, and empties its inbox.
    pub(super) fn claim<'a>(
        &mut self,
        worker: WorkerId,
        rows: impl Iterator<Item = &'a Queued>,
        inbox: impl Iterator<Item = &'a Note>,
    ) -> Said {
        let notices = inbox.map(|note| self.read(note)).collect();
        let rows: Vec<&Queued> = rows.collect();
        let mut claimed = Vec::new();
        for row in rows {
            if self.is_queued(row) {
                claimed.push(self.take(row.key, worker, 1));
            }
        }
        Said::Claims { claimed, notices }
    }

    /// Whether it is in the queue since the same time, whatever its priority is now.
    fn is_queued(&self, row: &Queued) -> bool {
        let queue = self.queue();
        let mut of_task = queue.iter().filter(|now| now.key == row.key);
        of_task.any(|now| now.ready_at == row.ready_at)
    }

    fn read(&mut self, note: &Note) -> Notice {
        self.inbox.remove(note);
        let held = |node: &super::Node| node.phase.is_held() && node.worker == Some(note.worker);
        match self.find(note.key) {
            Some((run, node)) if held(node) => match run.is_stopping() {
                true => Notice::Stop(note.key),
                false => Notice::Wake(note.key),
            },
            _ => Notice::Lost(note.key),
        }
    }

    /// What a request made ready is claimed into the slots that came with it, if it may.
    pub(super) fn hand_out(
        &mut self,
        id: ExecutionId,
        ready: &[u32],
        offer: Option<&Offer>,
        offers: &mut Offers,
    ) -> Vec<Taken> {
        let Some(offer) = offer else {
            return Vec::new();
        };
        let made_ready = |row: &Queued| row.key.execution == id && ready.contains(&row.key.number);
        let mut rows = self.queue();
        rows.retain(made_ready);
        let mut claimed: Vec<Taken> = offers
            .divide(&rows, offer)
            .into_iter()
            .map(|key| self.take(key, offer.worker, offer.hop + 1))
            .collect();
        claimed.sort_by_key(|taken| taken.key);
        claimed
    }

    /// What is still as it was found goes into the slots that recorded ends left, first come, first served.
    pub(super) fn fill(&mut self, asks: &[Ask], said: &mut [Said], left: &[Queued]) {
        let offers: Vec<Option<&Offer>> = asks.iter().map(offer_to_fill).collect();
        let slots: usize = offers.iter().flatten().map(|it| it.slots as usize).sum();
        let of_queues = |row: &&Queued| {
            let mut offers = offers.iter().flatten();
            offers.any(|offer| offer.queues.contains(&row.queue))
        };
        for row in left.iter().filter(of_queues).take(slots) {
            let mut ends = offers.iter().zip(said.iter_mut());
            let found = ends.find_map(|(offer, said)| match said {
                Said::Finished {
                    recorded: true,
                    claimed,
                    ..
                } => offer
                    .filter(|offer| claimed.len() < offer.slots as usize)
                    .map(|offer| (offer, claimed)),
                _ => None,
            });
            if let Some((offer, claimed)) = found
                && self.is_queued(row)
            {
                claimed.push(self.take(row.key, offer.worker, 1));
                claimed.sort_by_key(|taken| taken.key);
            }
        }
    }

    /// A worker takes a task: the first one starts the execution.
    fn take(&mut self, key: TaskKey, worker: WorkerId, hop: u8) -> Taken {
        let now = self.now;
        let run = self.run(key.execution);
        if run.status == ExecutionStatus::Pending {
            let kind = EventType::ExecutionStarted;
            run.becomes(
                ExecutionStatus::Running,
                kind,
                Told::Nothing,
                Who::worker(worker),
                now,
            );
        }
        let priority = run.priority_of(key.number);
        let node = run.node_mut(key.number);
        node.epoch += 1;
        let from = node.phase;
        node.phase = Phase::Active;
        node.worker = Some(worker);
        for kind in [EventType::TaskClaimed, EventType::TaskStarted] {
            node.happened(kind, Some(from), Told::Nothing, Who::worker(worker), now);
        }
        let (epoch, attempt, phase) = (node.epoch, node.attempt, node.phase);
        Taken {
            key,
            worker: Some(worker),
            epoch,
            attempt,
            phase,
            instance: run.instance.clone(),
            workflow: run.workflow,
            priority,
            deadline_at: run.deadline_at,
            input: None,
            hop,
        }
    }
}
