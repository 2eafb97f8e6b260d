//! Signals that the code did not take. A wait is answered, and its signal read, before the function
//! sees the answer; if the function drops the future first, as `select!` does with a loser, the
//! signal goes back to its mailbox, first in line, with the next request of the task.
//!
//! Invariant: a signal is read by at most one operation, and counts as read for good only if the
//! code took it.

use crate::ids::TaskKey;
use crate::transition::Cause;

use super::Need;
use super::effects::{SignalRead, StepChange};
use super::need::Stop;
use super::request::GivenBack;
use super::working::{Message, Working};

impl Working {
    /// Gives signals back that operations of the task were answered with. An operation that has
    /// read nothing has given its signal back already.
    pub(super) fn give_back(&mut self, key: TaskKey, given_back: &[GivenBack]) -> Result<(), Stop> {
        self.require_reads(key, given_back)?;
        for GivenBack { operations, heirs } in given_back {
            let mut signals = Vec::new();
            for &operation in operations {
                if let Some(signal) = self.signal_read(key, operation)?.cloned() {
                    signals.push(signal);
                    self.set_signal_read(key, operation, None);
                    self.give_back_step(key, operation);
                }
            }
            if signals.is_empty() {
                continue;
            }
            let mut answered = Vec::new();
            for &heir in heirs {
                if let Some(signal) = self.signal_read(key, heir)?.cloned() {
                    signals.push(signal);
                    answered.push(heir);
                }
            }
            signals.sort_unstable_by_key(|signal| signal.number);
            let youngest = signals.split_off(answered.len());
            for (heir, signal) in answered.into_iter().zip(signals) {
                self.hand_over(key, heir, signal)?;
            }
            self.put_back(key, youngest)?;
        }
        Ok(())
    }

    /// That all the operations and their signals are loaded, or all that is missing.
    fn require_reads(&self, key: TaskKey, given_back: &[GivenBack]) -> Result<(), Stop> {
        let needs = given_back.iter().flat_map(|one| one.needs(key));
        let missing: Vec<Need> = needs.filter(|need| !self.has(need)).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Stop::Missing(missing)),
        }
    }

    /// A signal becomes the answer of an operation that had a younger one.
    fn hand_over(&mut self, key: TaskKey, heir: u32, signal: Message) -> Result<(), Stop> {
        if self.signal_read(key, heir)? == Some(&signal) {
            return Ok(());
        }
        let change = StepChange::HandOver(key, heir, signal.payload.clone());
        self.effects.steps.push(change);
        self.note_reader(key, &signal, Some(heir))?;
        self.set_signal_read(key, heir, Some(signal));
        Ok(())
    }

    /// Signals become the oldest of their mailbox again. Other tasks may wait for them.
    fn put_back(&mut self, key: TaskKey, signals: Vec<Message>) -> Result<(), Stop> {
        let Some(name) = signals.first().map(|signal| signal.name.clone()) else {
            return Ok(());
        };
        self.unread_signal(key.execution, &name)?;
        let mut waiters = self.known_waiters(key.execution, &name)?;
        // The task itself looks with this request, or with the one by which it waits next.
        waiters.retain(|waiter| *waiter != key);
        for signal in &signals {
            self.note_reader(key, signal, None)?;
        }
        self.unread_again(key.execution, name, signals);
        let cause = Cause::engine(self.now);
        self.wake_waiters(waiters, &cause)
    }

    fn note_reader(
        &mut self,
        key: TaskKey,
        signal: &Message,
        operation: Option<u32>,
    ) -> Result<(), Stop> {
        let read = SignalRead {
            instance: self.execution(key.execution)?.instance.clone(),
            name: signal.name.clone(),
            number: signal.number,
            by: operation.map(|operation| (key, operation)),
        };
        self.effects.signals_read.push(read);
        Ok(())
    }
}

impl GivenBack {
    /// What giving back reads.
    pub(super) fn needs(&self, key: TaskKey) -> impl Iterator<Item = Need> {
        let operations = self.operations.iter();
        let steps = operations.map(move |operation| Need::Step(key, *operation));
        let all = self.operations.iter().chain(&self.heirs);
        steps.chain(all.map(move |operation| Need::SignalRead(key, *operation)))
    }
}
