//! The durable operations of one attempt: where the function's futures and the worker's driver
//! meet. The function builds operations and waits for their results; the driver, after each poll
//! of the function, asks [`Operations::next`] what to write. No clock, no store, no `await` here.
//!
//! Invariants: an operation's number is given when it is built. Results reach the function one at
//! a time, in the order in which they were recorded, and only once they are recorded; so that a
//! replay meets the same decisions, also in branches that run concurrently.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll, Waker};

use abide_core::failure::Failure;
use abide_core::ids::Timestamp;
use abide_core::kernel::Supersede;
use abide_core::payload::Payload;
use abide_core::step::{
    Operation, OperationResult, StepEnd, StepId, StepKind, StepRecord, unread_difference,
};

/// How an operation ended.
pub(crate) type End = Result<Payload, Failure>;

/// Failures kept to tell which operation's error ended the attempt.
const MAX_FAILURES: usize = 64;

/// What the driver does next.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Nothing, until something wakes it.
    Idle,
    /// Poll the function again: a result was handed to it, or it has to hear of something.
    Again,
    /// Stop: the code does not match the record.
    Differs(String),
    /// Record these finished steps.
    Record(Vec<StepRecord>),
    /// Everything waits: record the waits and give the slot away. `conditions` are polled in
    /// memory as well.
    Suspend {
        operations: Vec<Operation>,
        conditions: bool,
    },
    /// The parked task waits for something else than is recorded.
    Renew(Vec<Operation>),
    /// Get a slot and go on; unless `always`, only if a wait is over.
    Resume { always: bool },
    /// Leave memory: too many tasks are parked, or the worker shuts down.
    Evict,
    /// Give the parked task back: the worker shuts down.
    Release,
    /// Its execution stops, and it does nothing but wait.
    Cancelled,
    /// The lease is lost.
    Lost,
    /// The shutdown's deadline passed.
    Killed,
}

/// What others tell the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// A wait may be over.
    Wake,
    /// The execution stops.
    Stop,
    /// Too many tasks are parked.
    Evict,
    /// The worker shuts down: don't stay parked.
    Leave,
    /// The lease is lost.
    Lost,
    /// The shutdown's deadline passed.
    Kill,
}

#[derive(Debug)]
enum Stage {
    /// Not polled yet.
    Built,
    /// Waits for a signal or a time.
    Waits(Operation),
    /// A step that waits for the slot.
    WantsSlot,
    /// A step whose body runs.
    Runs,
    /// Its result is recorded, or will be.
    Ended,
    /// Its result is here.
    Ready(End),
}

#[derive(Debug)]
struct Alive {
    id: StepId,
    stage: Stage,
    waker: Option<Waker>,
}

/// What an earlier run recorded of an operation.
#[derive(Debug)]
struct Recorded {
    id: StepId,
    /// For one that still waits: until when.
    waits_until: Option<Option<Timestamp>>,
}

#[derive(Debug)]
struct Failed {
    number: u32,
    /// The next number when its error was seen.
    from: u32,
    failure: Failure,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Operations {
    /// The driver polls the function right now, and will look afterwards anyway.
    polling: bool,
    driver: Option<Waker>,
    /// The task holds its slot.
    active: bool,
    signs: Signs,
    /// The number that the next operation gets.
    number: u32,
    recorded: BTreeMap<u32, Recorded>,
    /// Operations whose futures exist.
    alive: BTreeMap<u32, Alive>,
    /// Step bodies that run.
    running: u32,
    /// Steps that finished and are not recorded yet.
    finished: Vec<(u32, End)>,
    /// The place that the next result gets.
    order: u32,
    /// Recorded results that the function has not had.
    results: VecDeque<(u32, End)>,
    /// The waits that the store knows of.
    awaited: Vec<u32>,
    conditions: Vec<Condition>,
    condition: u32,
    failures: Vec<Failed>,
    /// A result came through since the last failure, from an operation begun after it.
    moved_on: bool,
    difference: Option<String>,
}

#[derive(Debug, Default)]
struct Signs {
    wake: bool,
    stop: bool,
    /// The function was polled since it was told to stop.
    stop_seen: bool,
    evict: bool,
    leave: bool,
    lost: bool,
    kill: bool,
}

#[derive(Debug)]
struct Condition {
    id: u32,
    wants_slot: bool,
    waker: Option<Waker>,
}

impl Operations {
    /// The operations of an attempt that runs for the first time.
    pub(crate) fn new() -> Operations {
        Operations {
            polling: false,
            driver: None,
            active: true,
            signs: Signs::default(),
            number: 1,
            recorded: BTreeMap::new(),
            alive: BTreeMap::new(),
            running: 0,
            finished: Vec::new(),
            order: 1,
            results: VecDeque::new(),
            awaited: Vec::new(),
            conditions: Vec::new(),
            condition: 0,
            failures: Vec::new(),
            moved_on: false,
            difference: None,
        }
    }

    /// Brings what earlier runs recorded. Called before the function is.
    pub(crate) fn load(&mut self, records: Vec<StepRecord>) {
        let mut ended = Vec::new();
        for StepRecord { id, end, order } in records {
            let number = id.number;
            let waits_until = match end {
                StepEnd::Waiting { due_at } => Some(due_at),
                StepEnd::Done(payload) => {
                    ended.push((order, number, Ok(payload)));
                    None
                }
                StepEnd::Failed(failure) => {
                    ended.push((order, number, Err(failure)));
                    None
                }
            };
            self.recorded.insert(number, Recorded { id, waits_until });
        }
        ended.sort_by_key(|(order, ..)| *order);
        self.order = ended.last().map_or(1, |(order, ..)| order + 1);
        self.results = ended
            .into_iter()
            .map(|(_, number, end)| (number, end))
            .collect();
    }

    // ---- the function's side ----

    /// A new operation gets its number, and is compared with what is recorded there.
    pub(crate) fn build(&mut self, kind: StepKind, name: &str) -> u32 {
        let number = self.number;
        self.number += 1;
        let id = StepId {
            number,
            kind,
            name: name.to_owned(),
            fingerprint: None,
        };
        if let Some(recorded) = self.recorded.get(&number) {
            let difference = id.difference(&recorded.id);
            self.difference = self.difference.take().or(difference);
        }
        let alive = Alive {
            id,
            stage: Stage::Built,
            waker: None,
        };
        self.alive.insert(number, alive);
        number
    }

    /// Polls a wait. When it is polled first it begins: `due_at` says when it ends, unless an
    /// earlier run recorded that.
    pub(crate) fn poll_wait(
        &mut self,
        number: u32,
        due_at: impl FnOnce() -> Option<Timestamp>,
        cx: &Context<'_>,
    ) -> Poll<End> {
        if self.is_built(number) {
            let stage = match self.recorded.get(&number) {
                Some(Recorded {
                    waits_until: None, ..
                }) => Stage::Ended,
                Some(Recorded {
                    waits_until: Some(due_at),
                    ..
                }) => self.waits(number, *due_at),
                None => self.waits(number, due_at()),
            };
            self.set_stage(number, stage);
        }
        self.poll_end(number, cx)
    }

    /// Polls a step that has not begun: true, its body is to run now; false, its result is
    /// recorded.
    pub(crate) fn poll_turn(&mut self, number: u32, cx: &Context<'_>) -> Poll<bool> {
        if self.is_built(number) && self.recorded.contains_key(&number) {
            self.set_stage(number, Stage::Ended);
            self.wake_driver();
            return Poll::Ready(false);
        }
        if self.active && self.difference.is_none() {
            self.running += 1;
            self.set_stage(number, Stage::Runs);
            return Poll::Ready(true);
        }
        self.set_stage(number, Stage::WantsSlot);
        self.set_waker(number, cx);
        Poll::Pending
    }

    /// A step's body ended.
    pub(crate) fn finish(&mut self, number: u32, end: End) {
        self.running -= 1;
        self.set_stage(number, Stage::Ended);
        self.finished.push((number, end));
        self.wake_driver();
    }

    /// Polls for an operation's result.
    pub(crate) fn poll_end(&mut self, number: u32, cx: &Context<'_>) -> Poll<End> {
        let is_ready = |alive: &Alive| matches!(alive.stage, Stage::Ready(_));
        if self.difference.is_none()
            && self.alive.get(&number).is_some_and(is_ready)
            && let Some(Alive {
                stage: Stage::Ready(end),
                ..
            }) = self.alive.remove(&number)
        {
            return Poll::Ready(end);
        }
        self.set_waker(number, cx);
        self.wake_driver();
        Poll::Pending
    }

    /// The operation's future is gone.
    pub(crate) fn abandon(&mut self, number: u32) {
        let Some(alive) = self.alive.remove(&number) else {
            return;
        };
        match alive.stage {
            Stage::Runs => self.running -= 1,
            Stage::Ended => self.finished.retain(|(finished, _)| *finished != number),
            _ => {}
        }
        self.wake_driver();
    }

    /// A condition is polled from now on.
    pub(crate) fn add_condition(&mut self) -> u32 {
        self.condition += 1;
        self.conditions.push(Condition {
            id: self.condition,
            wants_slot: false,
            waker: None,
        });
        self.wake_driver();
        self.condition
    }

    /// A condition came true: ready once the task holds its slot.
    pub(crate) fn poll_condition(&mut self, id: u32, cx: &Context<'_>) -> Poll<()> {
        if self.active {
            return Poll::Ready(());
        }
        if let Some(condition) = self.conditions.iter_mut().find(|c| c.id == id) {
            condition.wants_slot = true;
            set_waker(&mut condition.waker, cx);
        }
        self.wake_driver();
        Poll::Pending
    }

    /// A condition is no longer polled.
    pub(crate) fn remove_condition(&mut self, id: u32) {
        self.conditions.retain(|condition| condition.id != id);
        self.wake_driver();
    }

    /// Whether the task holds its slot.
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    // ---- what others tell ----

    /// Tells the driver something.
    pub(crate) fn tell(&mut self, sign: Sign) {
        match sign {
            Sign::Wake => self.signs.wake = true,
            Sign::Stop => self.signs.stop = true,
            Sign::Evict => self.signs.evict = true,
            Sign::Leave => self.signs.leave = true,
            Sign::Lost => self.signs.lost = true,
            Sign::Kill => self.signs.kill = true,
        }
        if let Some(driver) = &self.driver {
            driver.wake_by_ref();
        }
    }

    /// Whether the driver should stop whatever it waits for and look again.
    pub(crate) fn is_interrupted(&self) -> bool {
        let Signs {
            stop,
            stop_seen,
            leave,
            lost,
            kill,
            ..
        } = self.signs;
        lost || kill || stop && !stop_seen || leave && !self.active && !stop
    }

    /// Whether there is no point in trying any longer.
    pub(crate) fn is_over(&self) -> bool {
        self.signs.lost || self.signs.kill
    }

    // ---- the driver's side ----

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

    fn is_built(&self, number: u32) -> bool {
        self.alive
            .get(&number)
            .is_some_and(|alive| matches!(alive.stage, Stage::Built))
    }

    fn waits(&self, number: u32, due_at: Option<Timestamp>) -> Stage {
        let id = self.alive[&number].id.clone();
        Stage::Waits(Operation { id, due_at })
    }

    fn set_stage(&mut self, number: u32, stage: Stage) {
        if let Some(alive) = self.alive.get_mut(&number) {
            alive.stage = stage;
        }
    }

    fn set_waker(&mut self, number: u32, cx: &Context<'_>) {
        if let Some(alive) = self.alive.get_mut(&number) {
            set_waker(&mut alive.waker, cx);
        }
    }

    fn wake_driver(&mut self) {
        if !self.polling
            && let Some(driver) = &self.driver
        {
            driver.wake_by_ref();
        }
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

fn set_waker(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

fn wake(place: &mut Option<Waker>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}
