//! The driver's side of the operations: after each poll of the function, what comes next.

use std::task::Context;

use abide_core::failure::Failure;
use abide_core::ids::Timestamp;
use abide_core::kernel::Supersede;
use abide_core::step::{
    Operation, OperationResult, StepEnd, StepId, StepRecord, unread_difference,
};

use super::{End, Failed, MAX_FAILURES, Next, Operations, Stage, set_waker, wake};

impl Operations {
    /// Where to wake the driver.
    pub(crate) fn set_driver(&mut self, cx: &Context<'_>) {
        set_waker(&mut self.driver, cx);
    }

    /// The driver is about to poll the function.
    pub(crate) fn begin_poll(&mut self, cx: &Context<'_>) {
        self.set_driver(cx);
        self.polling = true;
        self.signs.stop_seen = self.signs.stop;
    }

    /// The function was polled and is done.
    pub(crate) fn end_poll(&mut self) {
        self.polling = false;
    }

    /// The function was polled and is not done: what comes next.
    pub(crate) fn next(&mut self) -> Next {
        self.polling = false;
        if self.signs.lost {
            return Next::Lost;
        }
        if self.signs.kill {
            return Next::Killed;
        }
        if let Some(difference) = self.difference.clone() {
            return Next::Differs(difference);
        }
        if !self.finished.is_empty() {
            return Next::Record(self.take_finished());
        }
        if self.active {
            self.next_active()
        } else {
            self.next_parked()
        }
    }

    fn next_active(&mut self) -> Next {
        if self.deliver() || self.signs.stop && !self.signs.stop_seen {
            return Next::Again;
        }
        let waits = self.is_waiting();
        let conditions = !self.conditions.is_empty();
        if self.running > 0 || !(waits || conditions) {
            return Next::Idle;
        }
        if self.signs.stop {
            // A condition hears of the stop by itself, at the latest when it is polled next.
            return if conditions {
                Next::Idle
            } else {
                Next::Cancelled
            };
        }
        // Whatever woke the task until now is covered by the look that recording a wait takes.
        self.signs.wake = false;
        Next::Suspend {
            operations: self.operations(),
            conditions,
        }
    }

    fn next_parked(&mut self) -> Next {
        if self.signs.stop && !self.signs.stop_seen {
            return Next::Again;
        }
        let waits = self.is_waiting();
        let wants_slot = self.conditions.iter().any(|condition| condition.wants_slot)
            || self
                .alive
                .values()
                .any(|alive| matches!(alive.stage, Stage::WantsSlot));
        let has_result = self.has_deliverable();
        let only_waits = waits && self.conditions.is_empty() && !wants_slot && !has_result;
        if self.signs.stop {
            return match only_waits {
                true => Next::Cancelled,
                false if wants_slot || has_result => Next::Resume { always: true },
                // What it does to clean up does not wait for a slot.
                false => Next::Idle,
            };
        }
        if self.signs.leave && !only_waits {
            return Next::Release;
        }
        if wants_slot || has_result || !waits && self.conditions.is_empty() {
            return Next::Resume { always: true };
        }
        if waits && !self.is_awaited() {
            self.signs.wake = false;
            return Next::Renew(self.operations());
        }
        if waits && std::mem::take(&mut self.signs.wake) {
            return Next::Resume { always: false };
        }
        if only_waits && (self.signs.evict || self.signs.leave) {
            return Next::Evict;
        }
        Next::Idle
    }

    /// The place that the next recorded result gets.
    pub(crate) fn next_order(&self) -> u32 {
        self.order
    }

    /// Steps were recorded: their results can be handed out.
    pub(crate) fn recorded(&mut self, steps: Vec<StepRecord>) {
        for step in steps {
            let end = match step.end {
                StepEnd::Done(payload) => Ok(payload),
                StepEnd::Failed(failure) => Err(failure),
                StepEnd::Waiting { .. } => continue,
            };
            self.results.push_back((step.id.number, end));
        }
    }

    /// Waits were recorded, and these are over.
    pub(crate) fn answered(&mut self, results: Vec<OperationResult>) {
        self.order += results.len() as u32;
        for OperationResult { number, payload } in results {
            self.set_stage(number, Stage::Ended);
            self.results.push_back((number, Ok(payload)));
        }
    }

    /// The store knows that the task waits for these.
    pub(crate) fn awaits(&mut self, operations: &[Operation]) {
        let numbers = operations.iter().map(|operation| operation.id.number);
        self.awaited = numbers.collect();
    }

    /// The slot is about to be given away.
    pub(crate) fn park(&mut self) {
        self.active = false;
    }

    /// The task holds its slot again.
    pub(crate) fn activate(&mut self) {
        self.active = true;
        self.signs.evict = false;
        for condition in &mut self.conditions {
            wake(&mut condition.waker);
        }
        for alive in self.alive.values_mut() {
            if matches!(alive.stage, Stage::WantsSlot) {
                wake(&mut alive.waker);
            }
        }
    }

    /// The function is gone: operations that others still hold, in tasks it spawned, end with an
    /// error rather than never.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for alive in self.alive.values_mut() {
            wake(&mut alive.waker);
        }
    }

    /// Whether a parked task could do without its future: all it waits for is in the store.
    pub(crate) fn is_evictable(&self) -> bool {
        self.conditions.is_empty() && self.is_waiting()
    }

    /// When the first of the waits is over, if that is a matter of time.
    pub(crate) fn due_at(&self) -> Option<Timestamp> {
        self.waiting()
            .filter_map(|operation| operation.due_at)
            .min()
    }

    /// How the code differed from the record.
    pub(crate) fn difference(&self) -> Option<String> {
        self.difference.clone()
    }

    /// How a function that returned differs from the record: there is more in it than it asked
    /// for.
    pub(crate) fn unread(&self) -> Option<String> {
        let unread = self.recorded.range(self.number..);
        let unread: Vec<StepId> = unread.map(|(_, recorded)| recorded.id.clone()).collect();
        unread_difference(&unread)
    }

    /// What of the record the next attempt runs again, when this one ended with `failure`: the
    /// operation that gave this very error; or else the one that gave the last error, unless the
    /// function had gone on from there.
    pub(crate) fn supersede(&self, failure: &Failure) -> Option<Supersede> {
        let same = self
            .failures
            .iter()
            .rev()
            .find(|failed| failed.failure == *failure);
        let last = self.failures.last().filter(|_| !self.moved_on);
        same.or(last).map(|failed| Supersede {
            failed: failed.number,
            from: failed.from,
        })
    }

    fn take_finished(&mut self) -> Vec<StepRecord> {
        let finished = std::mem::take(&mut self.finished);
        let record = |(number, end): (u32, End)| {
            let order = self.order;
            self.order += 1;
            StepRecord {
                id: self.alive[&number].id.clone(),
                end: end.map_or_else(StepEnd::Failed, StepEnd::Done),
                order,
            }
        };
        finished.into_iter().map(record).collect()
    }

    /// Hands the next result to the function. A result that nobody waits for any more was not
    /// delivered in the run that recorded it either.
    fn deliver(&mut self) -> bool {
        if !self.has_deliverable() {
            return false;
        }
        let Some((number, end)) = self.results.pop_front() else {
            return false;
        };
        let from = self.number;
        match &end {
            Err(failure) => {
                if self.failures.len() == MAX_FAILURES {
                    self.failures.remove(0);
                }
                self.failures.push(Failed {
                    number,
                    from,
                    failure: failure.clone(),
                });
                self.moved_on = false;
            }
            Ok(_) => {
                let last = self.failures.last();
                self.moved_on |= last.is_some_and(|failed| number >= failed.from);
            }
        }
        if let Some(alive) = self.alive.get_mut(&number) {
            alive.stage = Stage::Ready(end);
            wake(&mut alive.waker);
        }
        true
    }

    /// Whether the first of the results can be handed out, once those that nobody waits for any
    /// more are gone. The first one may have to wait until the function builds its operation.
    fn has_deliverable(&mut self) -> bool {
        while let Some((number, _)) = self.results.front() {
            match self.alive.get(number) {
                Some(alive) => return !matches!(alive.stage, Stage::Built),
                None if *number >= self.number => return false,
                None => drop(self.results.pop_front()),
            }
        }
        false
    }

    fn waiting(&self) -> impl Iterator<Item = &Operation> {
        self.alive.values().filter_map(|alive| match &alive.stage {
            Stage::Waits(operation) => Some(operation),
            _ => None,
        })
    }

    fn is_waiting(&self) -> bool {
        self.waiting().next().is_some()
    }

    fn operations(&self) -> Vec<Operation> {
        self.waiting().cloned().collect()
    }

    fn is_awaited(&self) -> bool {
        let now = self.waiting().map(|operation| &operation.id.number);
        now.eq(&self.awaited)
    }
}
