//! The driver of one attempt: polls the task's function and, whenever that waits, does what its
//! [`Operations`](crate::handle::operations::Operations) ask for: records steps, suspends, takes
//! the slot back, leaves memory. One loop, one thing at a time; while something is written the
//! function is not polled.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use abide_core::failure::{Failure, kinds};
use abide_core::kernel::{Answered, Await, Defer, Outcome, Record, Reply, Request, Resume};
use abide_core::payload::Payload;
use abide_core::status::Phase;
use abide_core::step::{Operation, StepRecord};
use abide_core::text::check_payload;

use super::Worker;
use super::attempts::ParkedPlace;
use super::call::{Called, Inherited};
use crate::attempt::Attempt;
use crate::authoring::{BoxFuture, Produced, TaskError};
use crate::clock::{Clock, duration_of_us};
use crate::handle::operations::{Next, Sign};
use crate::slot::SlotToken;

/// Polls of the function in a row, while recorded results are handed to it, before other tasks of
/// the thread get their turn.
const MAX_ROUNDS: u32 = 64;

/// How an attempt left its worker's memory.
pub(super) enum Ending {
    /// With something to record.
    Outcome(Outcome),
    /// Its waits are in the store.
    Evicted,
    /// It is no longer this worker's.
    Lost,
}

impl Ending {
    pub(super) fn released(reason: &str) -> Ending {
        let reason = reason.to_owned();
        Ending::Outcome(Outcome::Released { reason })
    }

    pub(super) fn failed(failure: Failure, worker: &Worker) -> Ending {
        Ending::Outcome(failed(failure, worker))
    }

    pub(super) fn panicked(panic: &(dyn Any + Send), worker: &Worker) -> Ending {
        Ending::failed(panic_failure(panic), worker)
    }
}

/// A failure that supersedes nothing of what is recorded.
pub(super) fn failed(failure: Failure, worker: &Worker) -> Outcome {
    Outcome::Failed {
        failure: failure.recordable(worker.options.payload_limit_bytes),
        random: worker.random.unit(),
        supersede: None,
    }
}

/// A task's function, as far as it has run.
pub(super) struct Function(Option<BoxFuture<'static, Result<Produced, TaskError>>>);

/// What a function returned, or that it panicked.
type Returned = Result<Result<Produced, TaskError>, Failure>;

impl Function {
    pub(super) fn new(future: BoxFuture<'static, Result<Produced, TaskError>>) -> Function {
        Function(Some(future))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Returned> {
        let Some(future) = &mut self.0 else {
            return Poll::Pending;
        };
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(result)) => Poll::Ready(Ok(result)),
            Err(panic) => Poll::Ready(Err(panic_failure(&*panic))),
        }
    }

    /// Drops it, and with it all that it owns.
    fn discard(&mut self) {
        let future = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(future))).is_err() {
            tracing::warn!("a task panicked while it was dropped");
        }
    }
}

fn panic_failure(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::engine(kinds::PANIC, text.unwrap_or("the task panicked"))
}

/// See the module's documentation.
pub(super) struct Drive<'a> {
    worker: &'a Worker,
    attempt: &'a Arc<Attempt>,
    slot: &'a mut SlotToken,
    function: Function,
    inherited: Option<Inherited>,
    timeout: Timeout,
    /// Ends when the first of a parked task's waits is over, if that is a matter of time.
    due: Option<BoxFuture<'static, ()>>,
    place: Option<ParkedPlace>,
}

enum Turn {
    Returned(Returned),
    TimedOut,
    Next(Next),
}

impl<'a> Drive<'a> {
    pub(super) fn new(
        worker: &'a Worker,
        attempt: &'a Arc<Attempt>,
        slot: &'a mut SlotToken,
        called: Called,
    ) -> Drive<'a> {
        Drive {
            worker,
            attempt,
            slot,
            function: called.function,
            inherited: called.inherited,
            timeout: Timeout::new(attempt.task().timeout_us, called.active_us),
            due: None,
            place: None,
        }
    }

    /// Drives the function to its end, or until it leaves memory otherwise.
    pub(super) async fn run(mut self) -> Ending {
        self.timeout.run(&*self.worker.clock);
        let ending = loop {
            let turn = poll_fn(|cx| self.poll_turn(cx)).await;
            let went_on = match turn {
                Turn::Returned(returned) => Err(self.returned(returned)),
                Turn::TimedOut => Err(self.timed_out()),
                Turn::Next(next) => self.act(next).await,
            };
            if let Err(ending) = went_on {
                break ending;
            }
        };
        self.function.discard();
        self.attempt.operations().close();
        ending
    }

    /// Polls the function until there is something to do.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if let Some(due) = &mut self.due
            && due.as_mut().poll(cx).is_ready()
        {
            self.due = None;
            self.attempt.tell(Sign::Wake);
        }
        for _ in 0..MAX_ROUNDS {
            self.attempt.operations().begin_poll(cx);
            if let Poll::Ready(returned) = self.function.poll(cx) {
                self.attempt.operations().end_poll();
                return Poll::Ready(Turn::Returned(returned));
            }
            match self.attempt.operations().next() {
                Next::Again => {}
                Next::Idle if self.timeout.poll(cx).is_ready() => {
                    return Poll::Ready(Turn::TimedOut);
                }
                Next::Idle => return Poll::Pending,
                next => return Poll::Ready(Turn::Next(next)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    async fn act(&mut self, next: Next) -> Result<(), Ending> {
        match next {
            Next::Idle | Next::Again => Ok(()),
            Next::Record(steps) => self.record(steps).await,
            Next::Suspend {
                operations,
                conditions,
            } => self.suspend(operations, conditions).await,
            Next::Renew(operations) => self.await_operations(operations, false).await,
            Next::Resume { always } => self.resume(always).await,
            Next::Evict => self.evict().await,
            Next::Differs(difference) => {
                Err(Ending::Outcome(Outcome::Nondeterministic { difference }))
            }
            Next::Release => Err(Ending::released(
                "the worker shut down while the task waited",
            )),
            Next::Killed => Err(Ending::released(
                "the worker shut down before the task ended",
            )),
            Next::Cancelled => Err(Ending::Outcome(Outcome::Cancelled)),
            Next::Lost => Err(Ending::Lost),
        }
    }

    // ---- what the operations ask for ----

    async fn record(&mut self, steps: Vec<StepRecord>) -> Result<(), Ending> {
        let held = self.attempt.held;
        let request = Request::Record(Record { held, steps });
        self.worker.apply_held(self.attempt, &request).await?;
        if let Request::Record(Record { steps, .. }) = request {
            self.attempt.operations().recorded(steps);
        }
        Ok(())
    }

    async fn suspend(
        &mut self,
        operations: Vec<Operation>,
        conditions: bool,
    ) -> Result<(), Ending> {
        if operations.is_empty() {
            let held = self.attempt.held;
            let wait = "a condition that it polls".to_owned();
            return self.ask(Request::Defer(Defer { held, wait })).await;
        }
        let evict = !conditions && self.worker.parked.evicts_at_once();
        self.await_operations(operations, evict).await
    }

    async fn await_operations(
        &mut self,
        operations: Vec<Operation>,
        evict: bool,
    ) -> Result<(), Ending> {
        let next_order = {
            let mut known = self.attempt.operations();
            known.awaits(&operations);
            known.next_order()
        };
        let held = self.attempt.held;
        let request = Await {
            held,
            operations,
            next_order,
            evict,
        };
        self.ask(Request::Await(request)).await
    }

    /// Takes the slot back, waiting its turn, and tells the store.
    async fn resume(&mut self, always: bool) -> Result<(), Ending> {
        if !self.reclaims().await {
            return Ok(());
        }
        let next_order = self.attempt.operations().next_order();
        let held = self.attempt.held;
        let request = Resume {
            held,
            always,
            next_order,
        };
        self.ask(Request::Resume(request)).await
    }

    /// Leaves memory. The function goes first: once the store knows, somebody else may run it.
    async fn evict(&mut self) -> Result<(), Ending> {
        self.function.discard();
        let request = Request::Evict(self.attempt.held);
        self.worker.apply_held(self.attempt, &request).await?;
        Err(Ending::Evicted)
    }

    /// Asks the store about waits, and goes where its answer says.
    async fn ask(&mut self, request: Request) -> Result<(), Ending> {
        let reply = self.worker.apply_held(self.attempt, &request).await?;
        let Reply::Answered(Answered {
            results,
            phase,
            cancelling,
        }) = reply
        else {
            return Err(Ending::released("the store's answer makes no sense"));
        };
        if cancelling {
            self.attempt.stop(Sign::Stop);
        }
        self.attempt.operations().answered(results);
        match phase {
            Phase::Active => self.go_on(),
            Phase::Deferred => self.park(),
            _ => return Err(Ending::Evicted),
        }
        Ok(())
    }

    fn go_on(&mut self) {
        self.place = None;
        self.due = None;
        self.attempt.operations().activate();
        self.timeout.run(&*self.worker.clock);
    }

    fn park(&mut self) {
        let (due_at, evictable) = {
            let mut operations = self.attempt.operations();
            operations.park();
            (operations.due_at(), operations.is_evictable())
        };
        self.slot.release();
        self.timeout.pause(&*self.worker.clock);
        self.due = due_at.map(|at| self.worker.clock.sleep_until(at));
        self.place = match self.place.take() {
            _ if !evictable => None,
            Some(place) => Some(place),
            None => Some(self.worker.parked.add(self.attempt)),
        };
    }

    /// Gets a slot; false if something came up that must be looked at first.
    async fn reclaims(&mut self) -> bool {
        let mut reclaim = pin!(self.slot.reclaim());
        poll_fn(|cx| {
            let interrupted = {
                let mut operations = self.attempt.operations();
                operations.set_driver(cx);
                operations.is_interrupted()
            };
            if interrupted {
                return Poll::Ready(false);
            }
            reclaim.as_mut().poll(cx).map(|slot| slot.is_ok())
        })
        .await
    }

    // ---- how it ends ----

    fn returned(&mut self, returned: Returned) -> Ending {
        let (difference, unread) = {
            let operations = self.attempt.operations();
            (operations.difference(), operations.unread())
        };
        let difference = match (&returned, difference) {
            // What it went through to fail may well be what was different.
            (Ok(Ok(_)), None) => unread,
            (_, difference) => difference,
        };
        if let Some(difference) = difference {
            return Ending::Outcome(Outcome::Nondeterministic { difference });
        }
        let outcome = match returned {
            Ok(Ok(produced)) => self.completed(produced),
            Ok(Err(error)) => Err(error.into_failure()),
            Err(panic) => Err(panic),
        };
        Ending::Outcome(outcome.unwrap_or_else(|failure| self.failed(failure)))
    }

    fn completed(&mut self, produced: Produced) -> Result<Outcome, Failure> {
        let Produced { output, changes } = produced;
        if let Some(output) = &output {
            self.check("output", output)?;
        }
        let changes = changes.filter(|changes| !changes.is_empty());
        if let Some(changes) = &changes {
            let json = serde_json::to_string(changes).expect("keys are strings");
            self.check("context", &json)?;
        }
        let inherited = self.inherited.take();
        Ok(Outcome::Completed {
            output: output.map(Payload::from_json),
            checkpoint: inherited.and_then(|inherited| inherited.checkpoint(changes.as_ref())),
            changes,
        })
    }

    fn check(&self, what: &str, json: &str) -> Result<(), Failure> {
        let limit = self.worker.options.payload_limit_bytes;
        let refuse = |kind, reason: String| {
            let task = &self.attempt.task().id;
            Failure::engine(kind, format!("the {what} of task `{task}`: {reason}"))
        };
        if json.len() > limit {
            let reason = format!("{} bytes; the limit is {limit}", json.len());
            return Err(refuse(kinds::PAYLOAD_TOO_LARGE, reason));
        }
        check_payload(json).map_err(|error| refuse(kinds::PAYLOAD_INVALID, error.to_string()))
    }

    fn timed_out(&mut self) -> Ending {
        let limit = duration_of_us(self.timeout.limit_us.unwrap_or(0));
        let message = format!("the attempt was active for longer than {limit:?}");
        Ending::Outcome(self.failed(Failure::engine(kinds::TIMEOUT, message)))
    }

    fn failed(&self, failure: Failure) -> Outcome {
        let failure = failure.recordable(self.worker.options.payload_limit_bytes);
        let supersede = self.attempt.operations().supersede(&failure);
        Outcome::Failed {
            supersede,
            failure,
            random: self.worker.random.unit(),
        }
    }
}

/// The active time that an attempt may take. It stands still while the task waits.
struct Timeout {
    limit_us: Option<i64>,
    left_us: i64,
    runs_since: Option<abide_core::ids::Timestamp>,
    alarm: Option<BoxFuture<'static, ()>>,
}

impl Timeout {
    fn new(limit_us: Option<i64>, spent_us: i64) -> Timeout {
        Timeout {
            limit_us,
            left_us: limit_us.unwrap_or(0).saturating_sub(spent_us),
            runs_since: None,
            alarm: None,
        }
    }

    /// Runs from now on. Does nothing if it does, or if there is no limit.
    fn run(&mut self, clock: &dyn Clock) {
        if self.limit_us.is_some() && self.runs_since.is_none() {
            let now = clock.now();
            self.runs_since = Some(now);
            self.alarm = Some(clock.sleep_until(now.plus_us(self.left_us)));
        }
    }

    fn pause(&mut self, clock: &dyn Clock) {
        if let Some(since) = self.runs_since.take() {
            self.left_us -= clock.now().since_us(since);
            self.alarm = None;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.alarm {
            Some(alarm) => alarm.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}
