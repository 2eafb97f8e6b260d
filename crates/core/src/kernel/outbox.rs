//! The one queue: a Ready task goes to the outbox, at once or when its retry falls due, and a worker
//! finds there what it should look at.

use crate::graph::Graph;
use crate::ids::TaskKey;
use crate::timer::{Timer, TimerKind};

use super::need::Stop;
use super::offer::Offer;
use super::outbox_row::OutboxRow;
use super::working::Working;

impl Working {
    /// Queues a Ready task now, or when its retry falls due.
    pub(super) fn arm_retry(&mut self, key: TaskKey) -> Result<(), Stop> {
        match self.task(key)?.ready_at {
            Some(due) if due > self.now => {
                self.add_timer(Timer::of_task(due, TimerKind::Retry, key, 0));
                Ok(())
            }
            _ => self.queue(key),
        }
    }

    /// Puts a Ready task into the outbox, for anyone.
    pub(super) fn queue(&mut self, key: TaskKey) -> Result<(), Stop> {
        let row = self.outbox_row(key)?;
        self.add_to_outbox(row);
        Ok(())
    }

    /// The outbox row of a Ready task.
    pub(super) fn outbox_row(&self, key: TaskKey) -> Result<OutboxRow, Stop> {
        let execution = self.execution(key.execution)?;
        let graph = self.graph_of(execution)?;
        let task = self.task(key)?;
        Ok(OutboxRow {
            worker: None,
            queue: execution.workflow,
            priority: self.priority_of(&graph, key)?,
            ready_at: task.ready_at.unwrap_or(task.changed_at),
            key,
        })
    }

    /// A wake-up for the worker that holds the task. It needs no priority, since a worker takes all of its wake-ups at
    /// once.
    pub(super) fn notify_holder(&mut self, key: TaskKey) -> Result<(), Stop> {
        let worker = self.task(key)?.worker;
        let row = OutboxRow {
            worker,
            priority: 0,
            ready_at: self.now,
            ..self.outbox_row(key)?
        };
        self.add_to_outbox(row);
        Ok(())
    }

    pub(super) fn priority_of(&self, graph: &Graph, key: TaskKey) -> Result<i16, Stop> {
        Ok(self
            .execution(key.execution)?
            .priority
            .saturating_add(graph.priority_of(key.number)))
    }

    /// Never past a ready row of higher priority. It may go past rows of the same priority: most of them
    /// are being claimed already, and the worker's claims from the outbox left this slot free. Otherwise
    /// one burst through the outbox would send every later task through the outbox as well.
    pub(super) fn may_bypass_outbox(&self, offer: &Offer, priority: i16) -> Result<bool, Stop> {
        if offer.hop >= super::MAX_HOPS {
            return Ok(false);
        }
        let (head, alive) = match (self.ready_head(offer), self.worker_alive(offer.worker)) {
            (Ok(head), Ok(alive)) => (head, alive),
            // Both are read at once.
            (Err(Stop::Missing(mut needs)), Err(Stop::Missing(more))) => {
                needs.extend(more);
                return Err(Stop::Missing(needs));
            }
            (Err(stop), _) | (_, Err(stop)) => return Err(stop),
        };
        // Recovery does not come back to a worker that was declared dead: a task that it claimed now would be lost.
        let may = alive && head.is_none_or(|head| head <= priority);
        Ok(may && !self.added_above(offer, priority)?)
    }
}
