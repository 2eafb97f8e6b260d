//! The driver's side of the operations: after each poll of the function, what comes next.

use std::task::{Context, Waker};

use abide_core::failure::Failure;
use abide_core::ids::Timestamp;
use abide_core::kernel::{Rerun, Supersede, Superseded};
use abide_core::step::{
    Operation, OperationResult, StepEnd, StepId, StepKind, StepRecord, unread_difference,
};

use super::{
    AfterFailure, Failed, MAX_FAILURES, Next, OperationEnd, Operations, Stage, set_waker, wake,
};

/// The operations that are remembered as done, the latest by number: some of them may prove to be
/// signals that the function did not take.
const MAX_DONE: usize = 64;

/// The most operations that the event of a retry tells of.
const MAX_TOLD: usize = 64;

/// The most of an operation's error that the event of a retry tells, in bytes.
const MAX_TOLD_BYTES: usize = 500;

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
        // The operations that it dropped last do not count as done.
        self.settle_dropped();
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
        self.settle_dropped();
        if let Some(difference) = self.difference.clone() {
            return Next::Differs(difference);
        }
        if self.offer_passed_over() {
            return Next::Again;
        }
        if !self.finished.is_empty() {
            let finished = self.take_finished();
            return self.record(finished);
        }
        if self.active {
            self.next_active()
        } else {
            self.next_parked()
        }
    }

    fn next_active(&mut self) -> Next {
        if self.deliver() || self.signs.stop && !self.signs.stop_seen || self.allow_looks() {
            return Next::Again;
        }
        if self.give_turns() {
            return Next::Again;
        }
        let waits = self.is_waiting();
        let conditions = !self.conditions.is_empty();
        if self.running > 0 {
            return self.next_running();
        }
        if !(waits || conditions) {
            return self.idle();
        }
        if self.signs.stop {
            // A condition sees the stop by itself, at the latest when it is polled next.
            return if conditions {
                Next::Idle
            } else {
                Next::Cancelled
            };
        }
        // Recording a wait also checks whether it is over, so earlier wake-ups are covered.
        self.signs.wake = false;
        Next::Suspend {
            operations: self.operations(),
            conditions,
        }
    }

    /// A step runs, so that the task keeps its slot. The waits of other branches are recorded all
    /// the same, and checked when they may be over.
    fn next_running(&mut self) -> Next {
        if !self.is_waiting() {
            return self.idle();
        }
        if !self.is_awaited() {
            self.signs.wake = false;
            return Next::Watch(self.operations());
        }
        match std::mem::take(&mut self.signs.wake) {
            true => Next::Resume { always: false },
            false => self.idle(),
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
                .any(|alive| matches!(alive.stage, Stage::WantsTurn));
        let has_result = self.has_deliverable();
        if !has_result && self.allow_looks() {
            return Next::Again;
        }
        let only_waits = waits && self.conditions.is_empty() && !wants_slot && !has_result;
        if self.signs.stop {
            return match only_waits {
                true => Next::Cancelled,
                false if wants_slot || has_result => Next::Resume { always: true },
                // A function that cleans up does not wait for a slot.
                false => Next::Idle,
            };
        }
        if self.signs.leave && !only_waits {
            return Next::Release;
        }
        if !self.given_back.is_empty() && waits {
            self.signs.wake = false;
            return Next::Renew(self.operations());
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
        self.idle()
    }

    /// Nothing is to be done, but signals that the function did not take go back at once.
    fn idle(&mut self) -> Next {
        match self.given_back.is_empty() {
            true => Next::Idle,
            false => self.record(Vec::new()),
        }
    }

    fn record(&mut self, steps: Vec<StepRecord>) -> Next {
        // A signal that goes back may answer another wait of the task, which a record does not check.
        self.signs.wake |= !self.given_back.is_empty();
        Next::Record(steps)
    }

    /// The place that the next recorded result gets.
    pub(crate) fn next_order(&self) -> u32 {
        self.order
    }

    /// Steps were recorded: their results can be handed out.
    pub(crate) fn recorded(&mut self, steps: Vec<StepRecord>) {
        for step in steps {
            let number = step.id.number;
            let end = match step.end {
                StepEnd::Done(payload) => {
                    self.note_done(step.id);
                    Ok(payload)
                }
                StepEnd::Failed(failure) => Err(failure),
                StepEnd::Waiting { .. } | StepEnd::GivenBack => continue,
            };
            self.results.push_back((number, end));
        }
    }

    /// Waits were recorded, and these are over.
    pub(crate) fn answered(&mut self, results: Vec<OperationResult>) {
        self.order += results.len() as u32;
        self.may_look = false;
        for OperationResult { number, result } in results {
            self.results.push_back((number, result));
            self.set_stage(number, Stage::Ended);
            self.note_if_dropped(number);
        }
    }

    /// The store knows that the task waits for these.
    pub(crate) fn awaits(&mut self, operations: &[Operation]) {
        let ids = operations.iter().map(|operation| operation.id.clone());
        self.awaited = ids.collect();
        self.watched = true;
    }

    /// The slot is about to be given away.
    pub(crate) fn park(&mut self) {
        self.active = false;
    }

    /// The task holds its slot again.
    pub(crate) fn activate(&mut self) {
        self.active = true;
        self.signs.evict = false;
        // Once a step runs, the driver keeps time only for waits that are recorded again.
        self.watched &= self.running > 0;
        for condition in &mut self.conditions {
            wake(&mut condition.waker);
        }
        for alive in self.alive.values_mut() {
            if matches!(alive.stage, Stage::WantsTurn) {
                wake(&mut alive.waker);
            }
        }
    }

    /// No result can be handed out now: steps that wait behind results begin. Returns whether there
    /// are any.
    fn give_turns(&mut self) -> bool {
        let mut given = false;
        for alive in self.alive.values_mut() {
            if matches!(alive.stage, Stage::WantsTurn) {
                alive.stage = Stage::HasTurn;
                wake(&mut alive.waker);
                given = true;
            }
        }
        given
    }

    /// The function is gone: operations that its spawned tasks still hold end with an error.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for alive in self.alive.values_mut() {
            wake(&mut alive.waker);
        }
    }

    /// Whether the future of a parked task may be dropped: all of its waits are in the store.
    pub(crate) fn is_evictable(&self) -> bool {
        self.conditions.is_empty() && self.is_waiting()
    }

    /// When the first of the waits is due, if one has a due time.
    pub(crate) fn due_at(&self) -> Option<Timestamp> {
        self.waiting()
            .filter_map(|operation| operation.due_at)
            .min()
    }

    /// When the first of the waits beside a running step is due. Without a running step the
    /// function is about to end, to wait, or to run one.
    pub(crate) fn watched_due_at(&self) -> Option<Timestamp> {
        (self.running > 0).then(|| self.due_at()).flatten()
    }

    /// How the code differed from the record.
    pub(crate) fn difference(&self) -> Option<String> {
        self.difference.clone()
    }

    /// How a function that returned differs from the record: the record has more operations than it
    /// built.
    pub(crate) fn unread(&self) -> Option<String> {
        let unread = self.recorded.range(self.number..);
        let unread: Vec<StepId> = unread.map(|(_, recorded)| recorded.id.clone()).collect();
        unread_difference(&unread)
    }

    /// What becomes of the record after this attempt ended with `failure`. The next attempt runs
    /// the operation again that gave this very error; or else the one that gave the last error,
    /// unless the function had gone on since.
    pub(crate) fn after(&self, failure: &Failure) -> AfterFailure {
        let same = self
            .failures
            .iter()
            .rev()
            .find(|failed| failed.failure.is_same_error(failure));
        let last = self.failures.last();
        let last = last.filter(|failed| !self.moved_on && failed.from == self.number);
        let Some(failed) = same.or(last) else {
            return AfterFailure::Keep;
        };
        match self.done.last_key_value() {
            Some((number, done)) if *number >= failed.from => {
                AfterFailure::WentOn(went_on(&failed.id, done))
            }
            _ => AfterFailure::Rerun(self.rerun(failed)),
        }
    }

    fn rerun(&self, failed: &Failed) -> Rerun {
        let supersede = Supersede {
            failed: failed.id.number,
            from: failed.from,
        };
        let failures = self.failures.iter();
        let failures = failures.map(|failed| (&failed.id, Some(&failed.failure)));
        let slept = self.slept.iter().map(|id| (id, None));
        let counts = |number| number != supersede.failed && number < supersede.from;
        let gone = failures.chain(slept).filter(|(id, _)| !counts(id.number));
        let mut operations: Vec<Superseded> = gone.map(superseded).collect();
        operations.sort_by_key(|operation| operation.number);
        operations.truncate(MAX_TOLD);
        Rerun {
            supersede,
            operations,
        }
    }

    /// An operation did something that another attempt must not forget.
    pub(super) fn note_done(&mut self, id: StepId) {
        if id.kind == StepKind::Sleep {
            return;
        }
        self.done.entry(id.number).or_insert(id);
        if self.done.len() > MAX_DONE {
            self.done.pop_first();
        }
    }

    fn take_finished(&mut self) -> Vec<StepRecord> {
        let finished = std::mem::take(&mut self.finished);
        let record = |(number, end): (u32, OperationEnd)| {
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

    /// No result can be handed out: conditions may be checked. Returns whether one waits for that.
    fn allow_looks(&mut self) -> bool {
        self.may_look = true;
        let looks = std::mem::take(&mut self.looks);
        let any = !looks.is_empty();
        looks.into_iter().for_each(Waker::wake);
        any
    }

    /// Hands the next result to the function. A result whose future is gone was not handed out in
    /// the run that recorded it either.
    fn deliver(&mut self) -> bool {
        if !self.has_deliverable() {
            return false;
        }
        let Some((number, end)) = self.results.pop_front() else {
            return false;
        };
        if let Some(alive) = self.alive.get_mut(&number) {
            alive.stage = Stage::Ready;
            wake(&mut alive.waker);
            self.ready.push_back((number, end));
            self.may_look = false;
        }
        true
    }

    /// The function takes the end of an operation. Notes what `after` decides by if the attempt
    /// fails.
    pub(super) fn note_end(&mut self, id: StepId, failure: Option<Failure>) {
        if let Some(failure) = failure {
            if self.failures.len() == MAX_FAILURES {
                self.failures.remove(0);
            }
            let from = self.number;
            self.failures.push(Failed { id, from, failure });
            self.moved_on = false;
            return;
        }
        if let Some(last) = self.failures.last() {
            self.moved_on |= id.number >= last.from;
            if id.kind == StepKind::Sleep && self.slept.len() < MAX_TOLD {
                self.slept.push(id.clone());
            }
        }
        self.note_done(id);
    }

    /// Whether the first of the results can be handed out, once results whose futures are gone are
    /// dropped. The first may have to wait until the function builds its operation.
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
        self.watched && now.eq(self.awaited.iter().map(|id| &id.number))
    }
}

fn superseded((id, failure): (&StepId, Option<&Failure>)) -> Superseded {
    let words = |failure: &Failure| {
        let mut words = failure.to_string();
        words.truncate(words.floor_char_boundary(MAX_TOLD_BYTES));
        words
    };
    Superseded {
        number: id.number,
        kind: id.kind,
        name: id.name.clone(),
        error: failure.map(words),
    }
}

fn went_on(failed: &StepId, done: &StepId) -> String {
    format!(
        "after {failed} had failed, the function went on with {done}. Another attempt would run {failed} again as if \
         that had not happened. To have {failed} retried, return its error at once, or try again in the function or \
         in the step's body; to undo what came before, do so in a step's body that ends with the error"
    )
}
