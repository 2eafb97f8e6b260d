//! The durable operations of one attempt: where the function's futures and the worker's driver
//! meet. The function builds operations and waits for their results; the driver, after each poll
//! of the function, asks [`Operations::next`] what to write. No clock, no store, no `await` here.
//!
//! Invariants: an operation's number is given when it is built. Results reach the function one at
//! a time, in the order in which they were recorded, and only once they are recorded; so that a
//! replay meets the same decisions, also in branches that run concurrently.

mod driver;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll, Waker};

use abide_core::failure::{Failure, kinds};
use abide_core::ids::Timestamp;
use abide_core::payload::Payload;
use abide_core::step::{Operation, StepEnd, StepId, StepKind, StepRecord};

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
            closed: false,
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
        if self.closed {
            return Poll::Ready(false);
        }
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
        if self.closed {
            let over = "the task that the operation belongs to has left memory";
            return Poll::Ready(Err(Failure::engine(kinds::CANCELLED, over)));
        }
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
