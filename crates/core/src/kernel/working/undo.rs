//! Taking back what a request did, when it stops half-way.

use std::sync::Arc;

use crate::execution::Execution;
use crate::ids::{ExecutionId, TaskKey, VersionId};
use crate::kernel::effects::{Mark, Row};
use crate::kernel::need::Stop;
use crate::payload::Payload;
use crate::step::Operation;
use crate::task::Task;

use super::journal::Recorded;
use super::{Latest, Message, Working};

/// An execution's signals of one name.
pub(super) type Address = (ExecutionId, Arc<str>);

/// What stood in the working set before a change.
pub(super) enum Undo {
    Execution(ExecutionId, Option<Row<Execution>>),
    Task(TaskKey, Option<Row<Task>>),
    Waits(TaskKey, Option<Vec<Operation>>),
    StepsAdded(TaskKey, i64),
    Step(TaskKey, u32, Option<Recorded>),
    SignalRead(TaskKey, u32, Option<Message>),
    /// A stored signal was taken out of its mailbox.
    TakenStored(Address, (i64, Payload)),
    /// A signal of this flush was taken out: up to which one they had been read.
    TakenSent(Address, i64),
    /// These numbers were put back into a mailbox.
    PutBack(Address, Vec<i64>),
    /// A signal was sent to a mailbox.
    Sent(Address),
    /// A task began to wait for a mailbox.
    Waiting(Address),
    SignalNumber((Arc<str>, Arc<str>), i64),
    Instance(Arc<str>, Option<Latest>),
    Fresh(TaskKey),
    /// A row of this priority was added to a queue: the first request before that added one.
    ReadyHead(VersionId, i16, Option<usize>),
}

impl Working {
    /// Runs one request: all of its changes stay, or none.
    pub(in crate::kernel) fn attempt<R>(
        &mut self,
        rule: impl FnOnce(&mut Working) -> Result<R, Stop>,
    ) -> Result<R, Stop> {
        self.begun = self.effects.mark(self.undo.len());
        let result = rule(self);
        match result {
            Ok(_) => self.undo.clear(),
            Err(_) => self.roll_back(self.begun),
        }
        result
    }

    /// Runs one request and takes back what it did.
    pub(in crate::kernel) fn rehearse<R>(
        &mut self,
        rule: impl FnOnce(&mut Working) -> Result<R, Stop>,
    ) -> Result<R, Stop> {
        self.begun = self.effects.mark(self.undo.len());
        let result = rule(self);
        self.roll_back(self.begun);
        result
    }

    /// Takes back what a request did before it panicked.
    pub fn forget_unfinished(&mut self) {
        self.roll_back(self.begun);
    }

    fn roll_back(&mut self, mark: Mark) {
        while self.undo.len() > mark.undo {
            let undo = self.undo.pop().expect("longer than the mark");
            self.take_back(undo);
        }
        self.effects.truncate(mark);
    }

    fn take_back(&mut self, undo: Undo) {
        match undo {
            Undo::Execution(id, row) => drop(self.executions.insert(id, row)),
            Undo::Task(key, row) => drop(self.tasks.insert(key, row)),
            Undo::Waits(key, waits) => self.journal(key).waits = waits,
            Undo::StepsAdded(key, added) => self.journal(key).added = added,
            Undo::Step(key, number, recorded) => {
                self.journal(key).steps.insert(number, recorded);
            }
            Undo::SignalRead(key, operation, signal) => {
                self.journal(key).reads.insert(operation, signal);
            }
            Undo::TakenStored(at, signal) => self.mailbox(at).unread.push_front(signal),
            Undo::TakenSent(at, read_to) => self.mailbox(at).read_to = read_to,
            Undo::PutBack(at, numbers) => {
                let unread = &mut self.mailbox(at).unread;
                unread.retain(|(number, _)| !numbers.contains(number));
            }
            Undo::Sent(at) => drop(self.mailbox(at).sent.pop()),
            Undo::Waiting(at) => drop(self.mailbox(at).waiting.pop()),
            Undo::SignalNumber(key, next) => drop(self.signal_numbers.insert(key, next)),
            Undo::Instance(instance, latest) => drop(self.instances.insert(instance, latest)),
            Undo::Fresh(key) => drop(self.fresh_changes.remove(&key)),
            Undo::ReadyHead(queue, priority, first) => {
                let fresh = &mut self.heads.entry(queue).or_default().fresh;
                match first {
                    Some(first) => drop(fresh.insert(priority, first)),
                    None => drop(fresh.remove(&priority)),
                }
            }
        }
    }
}
