//! The only place where events are made. A move is checked against the table, the row's version
//! rises by one for each event, and the events are appended to the log that the store writes in
//! the same transaction as the row.

use std::sync::Arc;

use crate::event::{Event, EventType};
use crate::ids::{ExecutionId, Timestamp, WorkerId};
use crate::table::By;

/// Why something changes, and who caused the change.
#[derive(Clone, Debug)]
pub struct Cause {
    /// The time of the change, before clamping to the stream's last event.
    pub at: Timestamp,
    /// The party, as the table knows it.
    pub by: By,
    /// The worker, if one is involved.
    pub worker: Option<WorkerId>,
    /// The actor, as history records it.
    pub actor: Option<Arc<str>>,
}

impl Cause {
    /// A change made by the engine's own rules.
    pub fn engine(at: Timestamp) -> Cause {
        Cause {
            at,
            by: By::Engine,
            worker: None,
            actor: None,
        }
    }

    /// A change made by a worker.
    pub fn worker(at: Timestamp, worker: WorkerId) -> Cause {
        Cause {
            at,
            by: By::Worker,
            worker: Some(worker),
            actor: None,
        }
    }

    /// A change requested by a named actor.
    pub fn actor(at: Timestamp, by: By, actor: Arc<str>) -> Cause {
        Cause {
            at,
            by,
            worker: None,
            actor: Some(actor),
        }
    }
}

/// The part of a row that its event stream needs: what an event takes from the row and what it
/// changes there.
pub(crate) struct Stream<'a> {
    pub(crate) execution: ExecutionId,
    pub(crate) task: u32,
    pub(crate) version: &'a mut u32,
    pub(crate) changed_at: &'a mut Timestamp,
    pub(crate) attempt: Option<u32>,
    pub(crate) epoch: Option<u32>,
}

/// One recorded move: the events that the table names for it, at a time that is never before the
/// stream's last event.
pub(crate) struct Transition<'a> {
    pub(crate) cause: &'a Cause,
    pub(crate) from: Option<&'static str>,
    pub(crate) to: &'static str,
}

impl Transition<'_> {
    /// Appends one event to the log and raises the row's version.
    pub(crate) fn record(
        &self,
        stream: &mut Stream<'_>,
        kind: EventType,
        data: Option<String>,
        log: &mut Vec<Event>,
    ) {
        *stream.version += 1;
        if self.cause.at > *stream.changed_at {
            *stream.changed_at = self.cause.at;
        }
        log.push(Event {
            execution: stream.execution,
            task: stream.task,
            n: *stream.version,
            kind,
            at: *stream.changed_at,
            worker: self.cause.worker,
            attempt: stream.attempt,
            epoch: stream.epoch,
            actor: self.cause.actor.clone(),
            from: self.from,
            to: self.to,
            data,
        });
    }
}
