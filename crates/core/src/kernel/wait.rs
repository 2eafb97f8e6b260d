//! Waits: a task gives its slot away, is woken, or leaves its worker's memory. Recording a wait
//! looks into mailbox and clock under the task's row, so that what came just before is not missed.

use std::sync::Arc;

use crate::failure::Failure;
use crate::ids::TaskKey;
use crate::payload::Payload;
use crate::status::{ExecutionStatus, Phase};
use crate::step::{Operation, OperationResult, StepEnd, StepRecord, Wait};
use crate::timer::{LATEST, Timer, TimerKind};
use crate::transition::Cause;

use super::effects::SignalRead;
use super::need::Stop;
use super::request::{Answered, Await, Defer, Evict, Held, Resume, Watch};
use super::working::{Message, Working};

impl Working {
    pub(super) fn defer(&mut self, defer: &Defer) -> Result<Answered, Stop> {
        self.require_held(defer.held)?;
        let key = defer.held.key;
        self.give_back(key, &defer.given_back)?;
        if self.task(key)?.phase == Phase::Active && !self.is_stopping(key)? {
            let cause = Cause::worker(self.now, defer.held.worker);
            self.change_task(key, |task, log| task.defer(defer.wait.clone(), &cause, log))?;
        }
        self.answer(key, Vec::new())
    }

    pub(super) fn resume(&mut self, resume: &Resume) -> Result<Answered, Stop> {
        let Resume {
            held,
            always,
            next_order,
            ..
        } = *resume;
        self.require_held(held)?;
        self.give_back(held.key, &resume.given_back)?;
        let results = self.take_what_is_over(held.key, next_order)?;
        let go_on = always || !results.is_empty() || self.is_stopping(held.key)?;
        if go_on && self.task(held.key)?.phase == Phase::Deferred {
            let cause = Cause::worker(self.now, held.worker);
            self.change_task(held.key, |task, log| task.resume(&cause, log))?;
        }
        self.answer(held.key, results)
    }

    pub(super) fn await_operations(&mut self, request: &Await) -> Result<Answered, Stop> {
        let Held { key, worker, .. } = request.held;
        self.require_held(request.held)?;
        self.give_back(key, &request.given_back)?;
        self.record_waits(key, &request.operations)?;
        let results = self.take_what_is_over(key, request.next_order)?;
        if results.is_empty() && !self.is_stopping(key)? {
            let cause = Cause::worker(self.now, worker);
            let wait = describe(self.waits(key)?);
            if self.task(key)?.phase == Phase::Active {
                self.change_task(key, |task, log| task.defer(wait, &cause, log))?;
            }
            if request.evict {
                self.leave_memory(request.held, request.next_order)?;
            }
        }
        self.answer(key, results)
    }

    pub(super) fn watch(&mut self, watch: &Watch) -> Result<Answered, Stop> {
        let key = watch.held.key;
        self.require_held(watch.held)?;
        self.give_back(key, &watch.given_back)?;
        self.record_waits(key, &watch.operations)?;
        let results = self.take_what_is_over(key, watch.next_order)?;
        self.answer(key, results)
    }

    pub(super) fn evict(&mut self, evict: &Evict) -> Result<Answered, Stop> {
        let held = evict.held;
        self.require_held(held)?;
        if self.task(held.key)?.phase == Phase::Deferred {
            match self.is_stopping(held.key)? {
                // Nobody would be there to stop it before the grace period is over.
                true => {
                    let cause = Cause::worker(self.now, held.worker);
                    self.cancel_task(held.key, &cause)?;
                    self.end_if_done(held.key.execution)?;
                }
                false => self.leave_memory(held, evict.next_order)?,
            }
        }
        self.answer(held.key, Vec::new())
    }

    /// Deferred to Evicted; and on to Ready if what it waits for came meanwhile. A task without a
    /// recorded wait stays where it is: only its worker knows what it waits for.
    fn leave_memory(&mut self, held: Held, next_order: u32) -> Result<(), Stop> {
        let key = held.key;
        let waits = self.waits(key)?.to_vec();
        if waits.is_empty() {
            return Ok(());
        }
        let due_at = waits.iter().filter_map(|operation| operation.due_at).min();
        let next_order = (waits.len() == 1).then_some(next_order);
        let next_order = due_at.and(next_order);
        let cause = Cause::worker(self.now, held.worker);
        self.change_task(key, |task, log| task.evict(due_at, next_order, &cause, log))?;
        if self.is_any_over(key, &waits)? {
            let cause = Cause::engine(self.now);
            self.change_task(key, |task, log| task.wake(&cause, log))?;
            return self.queue(key);
        }
        if let Some(at) = due_at {
            self.add_timer(Timer::of_task(at, TimerKind::Wait, key, 0));
        }
        Ok(())
    }

    /// The time has come that an evicted task waits for: the end of the wait is recorded if it cannot be the end of
    /// any other, and the task is woken. Then the code finds the result when it runs, and need not ask for it.
    pub(super) fn end_wait(&mut self, key: TaskKey, cause: &Cause) -> Result<(), Stop> {
        if let Some(next_order) = self.task(key)?.next_order {
            self.take_what_is_over(key, next_order)?;
        }
        self.wake_task(key, cause)
    }

    /// Wakes an evicted task.
    pub(super) fn wake_task(&mut self, key: TaskKey, cause: &Cause) -> Result<(), Stop> {
        self.disarm_wait(key)?;
        self.change_task(key, |task, log| task.wake(cause, log))?;
        self.queue(key)
    }

    /// Adds waits that are not recorded yet, withdraws those that nobody waits for any more.
    fn record_waits(&mut self, key: TaskKey, operations: &[Operation]) -> Result<(), Stop> {
        let numbers: Vec<u32> = operations
            .iter()
            .map(|operation| operation.id.number)
            .collect();
        let (mut waits, withdrawn): (Vec<_>, Vec<_>) = self
            .waits(key)?
            .iter()
            .cloned()
            .partition(|recorded| numbers.contains(&recorded.id.number));
        for operation in withdrawn {
            self.withdraw_wait(key, operation.id.number);
        }
        for operation in operations {
            if waits
                .iter()
                .any(|recorded| recorded.id.number == operation.id.number)
            {
                continue;
            }
            let due_at = operation.due_at.map(|at| at.min(LATEST));
            let id = operation.id.clone();
            waits.push(Operation {
                id: id.clone(),
                due_at,
            });
            let end = StepEnd::Waiting { due_at };
            self.add_step(key, StepRecord { id, end, order: 0 })?;
            if let Some(Wait::Message(name)) = operation.wait() {
                self.add_waiter(key, name.into());
            }
        }
        waits.sort_by_key(|operation| operation.id.number);
        self.set_waits(key, waits);
        Ok(())
    }

    /// Records the results of the task's waits that are over, and answers them.
    fn take_what_is_over(
        &mut self,
        key: TaskKey,
        next_order: u32,
    ) -> Result<Vec<OperationResult>, Stop> {
        let mut results = Vec::new();
        let mut waits = Vec::new();
        for operation in self.waits(key)?.to_vec() {
            let Some(result) = self.take_if_over(key, &operation)? else {
                waits.push(operation);
                continue;
            };
            let order = next_order + results.len() as u32;
            let (number, id) = (operation.id.number, operation.id);
            let end = match result.clone() {
                Ok(payload) => StepEnd::Done(payload),
                Err(failure) => StepEnd::Failed(failure),
            };
            self.answer_wait(key, StepRecord { id, end, order });
            results.push(OperationResult { number, result });
        }
        if !results.is_empty() {
            self.set_waits(key, waits);
        }
        Ok(results)
    }

    /// What a wait gives, if it is over; what it waited for is used up with that.
    fn take_if_over(
        &mut self,
        key: TaskKey,
        operation: &Operation,
    ) -> Result<Option<Result<Payload, Failure>>, Stop> {
        Ok(match operation.wait() {
            None => None,
            Some(Wait::Until(due)) => (due <= self.now).then(|| Ok(nothing())),
            Some(Wait::Message(name)) => {
                let message = self.take_message(key, operation.id.number, name.into())?;
                message.map(Ok)
            }
        })
    }

    /// Takes the oldest message out of a mailbox, for an operation of a task.
    fn take_message(
        &mut self,
        key: TaskKey,
        operation: u32,
        name: Arc<str>,
    ) -> Result<Option<Payload>, Stop> {
        let Some((number, payload)) = self.read_signal(key.execution, &name)? else {
            return Ok(None);
        };
        let message = Message {
            name: name.clone(),
            number,
            payload: payload.clone(),
        };
        self.set_signal_read(key, operation, Some(message));
        let instance = self.execution(key.execution)?.instance.clone();
        self.effects.signals_read.push(SignalRead {
            instance,
            name,
            number,
            by: Some((key, operation)),
        });
        Ok(Some(payload))
    }

    fn is_any_over(&self, key: TaskKey, waits: &[Operation]) -> Result<bool, Stop> {
        for operation in waits {
            let over = match operation.wait() {
                None => false,
                Some(Wait::Until(due)) => due <= self.now,
                Some(Wait::Message(name)) => {
                    self.unread_signal(key.execution, &name.into())?.is_some()
                }
            };
            if over {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_stopping(&self, key: TaskKey) -> Result<bool, Stop> {
        Ok(self.execution(key.execution)?.status == ExecutionStatus::Cancelling)
    }

    fn answer(&self, key: TaskKey, results: Vec<OperationResult>) -> Result<Answered, Stop> {
        let cancelling = self.is_stopping(key)?;
        Ok(Answered {
            results,
            phase: self.task(key)?.phase,
            cancelling,
        })
    }
}

/// What a wait for a time gives.
fn nothing() -> Payload {
    Payload::from_json("null")
}

fn describe(waits: &[Operation]) -> String {
    const SHOWN: usize = 3;
    let mut words: Vec<String> = waits
        .iter()
        .take(SHOWN)
        .map(|operation| format!("{} `{}`", operation.id.kind, operation.id.name))
        .collect();
    if waits.len() > SHOWN {
        words.push(format!("{} more", waits.len() - SHOWN));
    }
    words.join(", ")
}
