//! The durable operations of one attempt: where the function's futures and the worker's driver
//! meet. The function builds operations and waits for their results; the driver, after each poll
//! of the function, asks [`Operations::next`] what to write. No clock, no store, no `await` here.
//!
//! Invariants: an operation's number is given when it is built. Results reach the function one at a
//! time, once they are recorded and in recorded order, so that a replay makes the same decisions,
//! also in concurrent branches. A signal whose answer the function did not take goes back to its
//! mailbox.

mod driver;
#[cfg(test)]
mod tests;
mod untaken;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::{Context, Poll, Waker};

use abide_core::failure::{Failure, kinds};
use abide_core::ids::Timestamp;
use abide_core::kernel::{GivenBack, Rerun};
use abide_core::payload::Payload;
use abide_core::step::{Operation, StepEnd, StepId, StepKind, StepRecord};

/// How an operation ended.
pub(crate) type OperationEnd = Result<Payload, Failure>;

/// Failures kept to tell which operation's error ended the attempt.
const MAX_FAILURES: usize = 64;

/// What the driver does next.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Nothing, until the driver is woken.
    Idle,
    /// Poll the function again: a result, a turn or the news of a stop was handed to it.
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
    /// The waits of the parked task are not the recorded ones.
    Renew(Vec<Operation>),
    /// While a step runs, the waits of other branches are not the recorded ones.
    Watch(Vec<Operation>),
    /// Get a slot and go on; unless `always`, only if a wait is over.
    Resume { always: bool },
    /// Leave memory: too many tasks are parked, or the worker shuts down.
    Evict,
    /// Give the parked task back: the worker shuts down.
    Release,
    /// The execution stops, and the task only waits.
    Cancelled,
    /// The lease is lost.
    Lost,
    /// The shutdown's deadline passed.
    Killed,
}

/// What the worker tells the driver of an attempt.
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
    /// A step that waits for the slot, or for recorded results that come first.
    WantsTurn,
    /// A step whose turn it is: no recorded result can be handed out before it.
    HasTurn,
    /// A step whose body runs.
    Runs,
    /// Its result is recorded, or will be.
    Ended,
    /// Its result is here.
    Ready,
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
    /// For an operation that still waits: when it is due, if ever.
    waits_until: Option<Option<Timestamp>>,
}

#[derive(Debug)]
struct Failed {
    id: StepId,
    /// The number of the next operation when the function got the error.
    from: u32,
    failure: Failure,
}

/// What becomes of an attempt's record when the attempt has failed.
#[derive(Debug, PartialEq)]
pub(crate) enum AfterFailure {
    /// The next attempt replays all of it.
    Keep,
    /// The next attempt runs some of it again.
    Rerun(Rerun),
    /// No attempt can follow, and why: the function has gone on since the failed operation.
    WentOn(String),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Operations {
    /// The driver polls the function right now, and asks for the next step afterwards anyway.
    polling: bool,
    driver: Option<Waker>,
    /// The task holds its slot.
    active: bool,
    signs: Signs,
    /// The number that the next operation gets.
    number: u32,
    recorded: BTreeMap<u32, Recorded>,
    /// The record is that of one attempt: none of it was superseded by another.
    of_one_attempt: bool,
    /// Operations whose futures exist.
    alive: BTreeMap<u32, Alive>,
    /// Step bodies that run.
    running: u32,
    /// Steps that finished and are not recorded yet.
    finished: Vec<(u32, OperationEnd)>,
    /// The place that the next result gets.
    order: u32,
    /// Recorded results that were not handed out yet.
    results: VecDeque<(u32, OperationEnd)>,
    /// Results that were handed out and that the function has not taken, in their order.
    ready: VecDeque<(u32, OperationEnd)>,
    /// The ready results that the function asked for in this poll before their turn.
    passed_over: Vec<u32>,
    /// The ready result that the function may take before its turn, since it asked for no earlier
    /// one.
    offered: Option<u32>,
    /// Answered waits for signals whose futures are gone. Their answers keep their places.
    dropped: BTreeMap<u32, StepId>,
    /// Signals that go back with the next request.
    given_back: Vec<GivenBack>,
    /// The function leaves memory: its code did not decide to drop what is dropped now.
    left: bool,
    /// The waits that the store knows of. It may answer a wait whose future is gone.
    awaited: Vec<StepId>,
    /// The driver keeps time for these waits.
    watched: bool,
    conditions: Vec<Condition>,
    condition: u32,
    /// Wakers of conditions that are checked once the function has taken the results that it asks
    /// for.
    looks: Vec<Waker>,
    /// Whether conditions may be checked now.
    may_look: bool,
    failures: Vec<Failed>,
    /// Sleeps that ended since the first of these failures.
    slept: Vec<StepId>,
    /// The last operations, by number, that did something: steps that succeeded or were dropped
    /// while their bodies ran, and signals that were read.
    done: BTreeMap<u32, StepId>,
    /// Since the last failure, the function took a result of an operation that it built after it.
    moved_on: bool,
    difference: Option<String>,
    /// The function has returned or left memory.
    closed: bool,
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
            of_one_attempt: true,
            alive: BTreeMap::new(),
            running: 0,
            finished: Vec::new(),
            order: 1,
            results: VecDeque::new(),
            ready: VecDeque::new(),
            passed_over: Vec::new(),
            offered: None,
            dropped: BTreeMap::new(),
            given_back: Vec::new(),
            left: false,
            awaited: Vec::new(),
            watched: false,
            conditions: Vec::new(),
            condition: 0,
            looks: Vec::new(),
            may_look: false,
            failures: Vec::new(),
            slept: Vec::new(),
            done: BTreeMap::new(),
            moved_on: false,
            difference: None,
            closed: false,
        }
    }

    /// Loads what earlier runs recorded, before the function is called.
    pub(crate) fn load(&mut self, records: Vec<StepRecord>) {
        let mut ended = Vec::new();
        let orders = records.iter().map(|record| record.order);
        let orders: BTreeSet<u32> = orders.filter(|order| *order > 0).collect();
        self.of_one_attempt = orders.iter().copied().eq((1..).take(orders.len()));
        for StepRecord { id, end, order } in records {
            let number = id.number;
            let waits_until = match end {
                // The signal went back to its mailbox: only another wait can get it.
                StepEnd::GivenBack => {
                    self.order = self.order.max(order + 1);
                    continue;
                }
                StepEnd::Waiting { due_at } => {
                    self.awaited.push(id.clone());
                    Some(due_at)
                }
                StepEnd::Done(payload) => {
                    self.note_done(id.clone());
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
        let next = ended.last().map_or(1, |(order, ..)| order + 1);
        self.order = self.order.max(next);
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

    /// Polls a wait. The first poll begins it: `due_at` says when it ends, unless an earlier run
    /// recorded that.
    pub(crate) fn poll_wait(
        &mut self,
        number: u32,
        due_at: impl FnOnce() -> Option<Timestamp>,
        cx: &Context<'_>,
    ) -> Poll<OperationEnd> {
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
    /// recorded. Recorded results are handed out before a body begins: a step that lost a race to
    /// one of them is dropped then, as it was in the run that recorded it.
    pub(crate) fn poll_turn(&mut self, number: u32, cx: &Context<'_>) -> Poll<bool> {
        if self.closed {
            return Poll::Ready(false);
        }
        if self.is_built(number) && self.recorded.contains_key(&number) {
            self.set_stage(number, Stage::Ended);
            self.wake_driver();
            return Poll::Ready(false);
        }
        self.settle_dropped();
        let has_all = self.results.is_empty() && self.ready.is_empty();
        let has_turn = has_all || self.is_at(number, &Stage::HasTurn);
        if self.active && has_turn && self.difference.is_none() {
            self.running += 1;
            self.set_stage(number, Stage::Runs);
            return Poll::Ready(true);
        }
        self.set_stage(number, Stage::WantsTurn);
        self.set_waker(number, cx);
        self.wake_driver();
        Poll::Pending
    }

    /// A step's body ended.
    pub(crate) fn finish(&mut self, number: u32, end: OperationEnd) {
        self.running -= 1;
        self.set_stage(number, Stage::Ended);
        self.finished.push((number, end));
        self.wake_driver();
    }

    /// Polls for an operation's result.
    pub(crate) fn poll_end(&mut self, number: u32, cx: &Context<'_>) -> Poll<OperationEnd> {
        if self.closed {
            let over = "the task that the operation belongs to has left memory";
            return Poll::Ready(Err(Failure::engine(kinds::CANCELLED, over)));
        }
        if self.difference.is_none()
            && let Some(end) = self.take_ready(number)
        {
            if let Some(alive) = self.alive.remove(&number) {
                self.note_end(alive.id, end.as_ref().err().cloned());
            }
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
            Stage::Runs => {
                self.running -= 1;
                self.note_done(alive.id.clone());
            }
            Stage::Ended => {
                let mut finished = self.finished.iter();
                let place = finished.position(|(finished, _)| *finished == number);
                if place.is_some_and(|place| self.finished.remove(place).1.is_ok()) {
                    self.note_done(alive.id.clone());
                }
            }
            _ => {}
        }
        self.drop_untaken(alive.id, &alive.stage);
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

    /// Polls for leave to check a condition. The answer of a condition is not recorded, so a result
    /// that the function can take comes first: otherwise a replay could go another way.
    pub(crate) fn poll_look(&mut self, cx: &Context<'_>) -> Poll<()> {
        let has_all = self.results.is_empty() && self.ready.is_empty();
        if has_all || self.may_look || self.closed {
            return Poll::Ready(());
        }
        self.looks.push(cx.waker().clone());
        self.wake_driver();
        Poll::Pending
    }

    /// A condition is no longer polled.
    pub(crate) fn remove_condition(&mut self, id: u32) {
        self.conditions.retain(|condition| condition.id != id);
        self.wake_driver();
    }

    /// The name of a step whose future exists.
    pub(crate) fn step_name(&self, number: u32) -> Option<String> {
        self.alive.get(&number).map(|alive| alive.id.name.clone())
    }

    /// The name of a step whose body runs, if one does.
    pub(crate) fn running_step(&self) -> Option<String> {
        let runs = |alive: &&Alive| matches!(alive.stage, Stage::Runs);
        let running = (self.running > 0).then(|| self.alive.values().find(runs));
        running.flatten().map(|alive| alive.id.name.clone())
    }

    /// Whether the task holds its slot.
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    // ---- what the worker tells ----

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

    /// Whether the driver should stop waiting and handle a sign.
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

    /// Whether writing is pointless: the lease is lost, or the shutdown's deadline passed.
    pub(crate) fn is_over(&self) -> bool {
        self.signs.lost || self.signs.kill
    }

    fn is_built(&self, number: u32) -> bool {
        self.is_at(number, &Stage::Built)
    }

    /// Whether the operation's future exists and is at that kind of stage.
    fn is_at(&self, number: u32, stage: &Stage) -> bool {
        let kind = std::mem::discriminant(stage);
        let alive = self.alive.get(&number);
        alive.is_some_and(|alive| std::mem::discriminant(&alive.stage) == kind)
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
