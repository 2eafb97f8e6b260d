//! The rules over many rows: what one request does to executions, tasks, outbox, timers, steps
//! and signals together. Pure: a store fills a [`Working`] set with the rows that a request
//! needs, [`apply`] changes it or refuses, and the store writes what changed, in one transaction.
//!
//! Invariant: a request leaves all of its changes or none; a request that misses rows says which
//! and can be run again.

mod act;
mod action;
mod ask;
mod cancel;
mod claim;
mod effects;
mod end;
mod finish;
mod fire;
mod give_back;
mod need;
mod offer;
mod outbox;
mod outbox_row;
mod propagate;
mod rank;
mod recover;
mod refusal;
mod request;
mod rerun;
mod signal;
mod start;
mod stop;
mod subject;
mod wait;
mod working;

pub use action::{Act, Acted, Action, Standing};
pub use ask::Ask;
pub use effects::{
    Change, Effects, ExecutionEnd, NewExecutionRow, NewTaskRow, Row, SignalRead, SignalWrite,
    StepChange, StepWrite, TaskEnd,
};
pub use need::{Need, Stop, TaskSet};
pub use offer::Offer;
pub use outbox_row::OutboxRow;
pub use refusal::{Refusal, not_allowed};
pub use request::*;
pub use rerun::{Rerun, Supersede, Superseded};
pub use subject::Subject;
pub use working::{ContextParts, Latest, Message, Working};

use crate::ids::TaskKey;
use crate::timer::TimerKind;

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
    /// What the request needs for sure, its subject included, so that a store can read it for many
    /// requests at once.
    pub fn needs(&self) -> Vec<Need> {
        let mut needs = self.own_needs();
        let (held, given_back) = match self {
            Request::Finish(finish) => (finish.held, &finish.given_back),
            Request::Defer(defer) => (defer.held, &defer.given_back),
            Request::Resume(resume) => (resume.held, &resume.given_back),
            Request::Await(request) => (request.held, &request.given_back),
            Request::Watch(watch) => (watch.held, &watch.given_back),
            Request::Record(record) => (record.held, &record.given_back),
            _ => return needs,
        };
        needs.extend(given_back.iter().flat_map(|one| one.needs(held.key)));
        needs
    }

    fn own_needs(&self) -> Vec<Need> {
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
            Request::Resume(Resume { held, .. }) | Request::Evict(Evict { held, .. }) => {
                let mut needs = of_task(held.key);
                needs.push(Need::Waits(held.key));
                needs
            }
            Request::Await(request) => {
                let mut needs = of_task(request.held.key);
                needs.push(Need::Waits(request.held.key));
                needs
            }
            Request::Watch(watch) => {
                let mut needs = of_task(watch.held.key);
                needs.push(Need::Waits(watch.held.key));
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
            Request::Act(act) => vec![act.subject.need()],
            Request::Fire(timer) if timer.task == 0 => vec![Need::Execution(timer.execution)],
            Request::Fire(timer) => {
                let mut needs = of_task(timer.key());
                if timer.kind == TimerKind::Wait {
                    needs.push(Need::Waits(timer.key()));
                }
                needs
            }
            Request::Recover(recover) => of_task(recover.key),
            Request::Inbox(inbox) => of_task(inbox.row.key),
            Request::Progress(progress) => of_task(progress.held.key),
        }
    }
}

impl Working {
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

    fn record(&mut self, record: &Record) -> Result<(), Stop> {
        self.require_held(record.held)?;
        self.give_back(record.held.key, &record.given_back)?;
        for step in &record.steps {
            self.add_step(record.held.key, step.clone())?;
        }
        Ok(())
    }

    fn progress(&mut self, progress: &Progress) -> Result<(), Stop> {
        self.require_held(progress.held)?;
        self.effects
            .progress
            .push((progress.held.key, progress.value.clone()));
        Ok(())
    }
}
