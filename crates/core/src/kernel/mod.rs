//! The rules over many rows: what one request does to executions, tasks, outbox, timers, steps
//! and signals together. Pure: a store fills a [`Working`] set with the rows that a request
//! needs, [`apply`] changes it or refuses, and the store writes what changed, in one transaction.
//!
//! Invariant: a request leaves all of its changes or none; a request that misses rows says which
//! and can be run again.

mod claim;
mod effects;
mod finish;
mod fire;
mod loaded;
mod need;
mod propagate;
mod recover;
mod request;
mod signal;
mod start;
mod stop;
mod wait;
mod working;

pub use effects::{
    Change, Effects, Ended, NewExecutionRow, NewTaskRow, Row, SignalRead, SignalWrite, StepChange,
    StepWrite, TaskEnd,
};
pub use need::{Need, Stop};
pub use request::*;
pub use working::{ContextParts, Latest, Working};

use crate::ids::TaskKey;

/// The most claims in a row that may bypass the outbox.
pub const MAX_HOPS: u8 = 16;

/// The most tasks that one request creates, decides or cancels; what is beyond goes on in a
/// transaction of its own, from a timer that is due at once.
pub const PIECE: u32 = 4096;

/// Applies one request to the working set.
pub fn apply(working: &mut Working, request: &Request) -> Result<Reply, Stop> {
    working.attempt(|w| w.handle(request))
}

/// What a request would stop for if it were applied now. The working set stays as it is.
pub fn rehearse(working: &mut Working, request: &Request) -> Vec<Need> {
    match working.rehearse(|w| w.handle(request)) {
        Err(Stop::Missing(needs)) => needs,
        Ok(_) | Err(Stop::Refused(_)) => Vec::new(),
    }
}

impl Request {
    /// What the request needs for sure, so that a store can read it for many requests at once;
    /// first of all, what the request is about: an instance or an execution.
    pub fn needs(&self) -> Vec<Need> {
        fn of_task(key: TaskKey) -> Vec<Need> {
            vec![Need::Execution(key.execution), Need::Task(key)]
        }
        match self {
            Request::Start(start) => {
                let mut needs = vec![Need::Instance(start.instance.clone())];
                if let Some(offer) = &start.offer {
                    needs.push(Need::ReadyHead(offer.queues.clone()));
                    needs.push(Need::Worker(offer.worker));
                }
                needs
            }
            Request::AddTasks(piece) => vec![Need::Execution(piece.execution)],
            Request::Publish(publish) => vec![Need::Execution(publish.execution)],
            Request::Claim(claim) => of_task(claim.key),
            Request::Finish(finish) => of_task(finish.held.key),
            Request::Defer(defer) => of_task(defer.held.key),
            Request::Resume(Resume { held, .. }) | Request::Evict(held) => {
                let mut needs = of_task(held.key);
                needs.push(Need::Waits(held.key));
                needs
            }
            Request::Await(request) => {
                let mut needs = of_task(request.held.key);
                needs.push(Need::Waits(request.held.key));
                needs
            }
            Request::Record(record) => {
                let mut needs = of_task(record.held.key);
                let numbers = record.steps.iter().map(|step| step.id.number);
                needs.extend(numbers.map(|number| Need::Step(record.held.key, number)));
                needs
            }
            Request::Signal(signal) => vec![
                Need::Instance(signal.instance.clone()),
                Need::SignalNumber(signal.instance.clone(), signal.name.clone()),
            ],
            Request::Cancel(cancel) => vec![Need::Execution(cancel.execution)],
            Request::Fire(timer) if timer.task == 0 => vec![Need::Execution(timer.execution)],
            Request::Fire(timer) => of_task(timer.key()),
            Request::Recover(recover) => of_task(recover.key),
            Request::Inbox(inbox) => of_task(inbox.row.key),
            Request::Progress(progress) => of_task(progress.held.key),
        }
    }
}

impl Working {
    fn handle(&mut self, request: &Request) -> Result<Reply, Stop> {
        match request {
            Request::Start(start) => self.start(start),
            Request::AddTasks(piece) => self.add_tasks(piece),
            Request::Publish(publish) => self.publish(publish),
            Request::Claim(claim) => self.claim(claim),
            Request::Finish(finish) => self.finish(finish),
            Request::Defer(defer) => self.defer(defer),
            Request::Resume(resume) => self.resume(resume),
            Request::Await(request) => self.await_operations(request),
            Request::Evict(held) => self.evict(*held),
            Request::Record(record) => self.record(record),
            Request::Signal(signal) => self.signal(signal),
            Request::Cancel(cancel) => self.cancel(cancel),
            Request::Fire(timer) => self.fire(*timer),
            Request::Recover(recover) => self.recover(recover),
            Request::Inbox(inbox) => self.inbox(inbox),
            Request::Progress(progress) => self.progress(progress),
        }
    }

    /// That the sender still holds the task.
    fn require_held(&self, held: Held) -> Result<(), Stop> {
        if self.is_held(held)? {
            Ok(())
        } else {
            Err(Refusal::LeaseLost {
                key: held.key,
                epoch: held.epoch,
            }
            .into())
        }
    }

    fn is_held(&self, held: Held) -> Result<bool, Stop> {
        let task = self.find_task(held.key)?;
        Ok(task.is_some_and(|task| {
            task.phase.is_held() && task.epoch == held.epoch && task.worker == Some(held.worker)
        }))
    }

    fn record(&mut self, record: &Record) -> Result<Reply, Stop> {
        self.require_held(record.held)?;
        for step in &record.steps {
            self.add_step(record.held.key, step.clone())?;
        }
        Ok(Reply::Done)
    }

    fn progress(&mut self, progress: &Progress) -> Result<Reply, Stop> {
        self.require_held(progress.held)?;
        self.effects
            .progress
            .push((progress.held.key, progress.value.clone()));
        Ok(Reply::Done)
    }
}
