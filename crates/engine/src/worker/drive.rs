//! The driver of one attempt: polls the task's function and, whenever that waits, does what its
//! [`Operations`](crate::handle::operations::Operations) ask for: records steps, suspends, takes
//! the slot back, leaves memory. One loop does one thing at a time: while a request is written, the
//! function is not polled.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use abide_core::context::Changes;
use abide_core::failure::{Failure, kinds};
use abide_core::kernel::{
    Answered, Ask, Await, Defer, Evict, GivenBack, Held, Outcome, Record, Resume, Watch,
};
use abide_core::payload::Payload;
use abide_core::retry::RetryDecision;
use abide_core::status::Phase;
use abide_core::step::{Operation, StepRecord};
use abide_core::text::check_payloads_within;

use super::Worker;
use super::attempts::ParkedPlace;
use super::call::{Called, Inherited};
use super::exit::Exit;
use super::function::{Function, Returned};
use super::timeout::Timeout;
use crate::attempt::Attempt;
use crate::authoring::{BoxFuture, Produced};
use crate::clock::duration_of_us;
use crate::handle::operations::{AfterFailure, Next, Sign};
use crate::slot::SlotToken;

/// Polls of the function in a row, while recorded results are handed to it, before other tasks of
/// the thread get their turn.
const MAX_ROUNDS: u32 = 64;

/// See the module's documentation.
pub(super) struct Drive<'a> {
    worker: &'a Worker,
    attempt: &'a Arc<Attempt>,
    slot: &'a mut SlotToken,
    function: Function,
    inherited: Option<Inherited>,
    timeout: Timeout,
    /// Ends when the first of the task's waits is over, if that is a matter of time.
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
    pub(super) async fn run(mut self) -> Exit {
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
        let ended = matches!(
            ending,
            Exit::Outcome(Outcome::Completed { .. } | Outcome::Failed { .. } | Outcome::Cancelled)
        );
        self.attempt.operations().leave(ended);
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
            self.attempt.set_polled(Some(Instant::now()));
            let polled = self.function.poll(cx);
            self.attempt.set_polled(None);
            if let Poll::Ready(returned) = polled {
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

    async fn act(&mut self, next: Next) -> Result<(), Exit> {
        match next {
            Next::Idle | Next::Again => Ok(()),
            Next::Record(steps) => self.record(steps).await,
            Next::Suspend {
                operations,
                conditions,
            } => self.suspend(operations, conditions).await,
            Next::Renew(operations) => self.await_operations(operations, false).await,
            Next::Watch(operations) => self.watch(operations).await,
            Next::Resume { always } => self.resume(always).await,
            Next::Evict => self.evict().await,
            Next::Differs(difference) => {
                Err(Exit::Outcome(Outcome::Nondeterministic { difference }))
            }
            Next::Release => Err(Exit::released("the worker shut down while the task waited")),
            Next::Killed => Err(Exit::released("the worker shut down before the task ended")),
            Next::Cancelled => Err(Exit::Outcome(Outcome::Cancelled)),
            Next::Lost => Err(Exit::Lost),
        }
    }

    // ---- what the operations ask for ----

    async fn record(&mut self, steps: Vec<StepRecord>) -> Result<(), Exit> {
        let (held, given_back) = self.held();
        let record = Record {
            held,
            given_back,
            steps,
        };
        self.worker.apply_held(self.attempt, &record).await?;
        self.attempt.operations().recorded(record.steps);
        Ok(())
    }

    async fn suspend(&mut self, operations: Vec<Operation>, conditions: bool) -> Result<(), Exit> {
        if operations.is_empty() {
            let (held, given_back) = self.held();
            let wait = "a condition that it polls".to_owned();
            let request = Defer {
                held,
                given_back,
                wait,
            };
            return self.ask(&request).await;
        }
        let evict = !conditions && self.worker.parked.evicts_at_once();
        self.await_operations(operations, evict).await
    }

    async fn await_operations(
        &mut self,
        operations: Vec<Operation>,
        evict: bool,
    ) -> Result<(), Exit> {
        let next_order = self.awaits(&operations);
        let (held, given_back) = self.held();
        let request = Await {
            held,
            given_back,
            operations,
            next_order,
            evict,
        };
        self.ask(&request).await
    }

    async fn watch(&mut self, operations: Vec<Operation>) -> Result<(), Exit> {
        let next_order = self.awaits(&operations);
        let (held, given_back) = self.held();
        let request = Watch {
            held,
            given_back,
            operations,
            next_order,
        };
        self.ask(&request).await
    }

    /// Notes the waits that are about to be recorded. Returns the place that the first result gets.
    fn awaits(&self, operations: &[Operation]) -> u32 {
        let mut known = self.attempt.operations();
        known.awaits(operations);
        known.next_order()
    }

    /// Takes the slot back, waiting its turn, and tells the store.
    async fn resume(&mut self, always: bool) -> Result<(), Exit> {
        if !self.reclaims().await {
            if !always {
                // The wake-up is not handled yet.
                self.attempt.tell(Sign::Wake);
            }
            return Ok(());
        }
        let next_order = self.attempt.operations().next_order();
        let (held, given_back) = self.held();
        let request = Resume {
            held,
            given_back,
            always,
            next_order,
        };
        self.ask(&request).await
    }

    /// Leaves memory. The function is dropped first: once this is recorded, another worker may run
    /// the task.
    async fn evict(&mut self) -> Result<(), Exit> {
        self.attempt.operations().leave(false);
        self.function.discard();
        let evict = Evict {
            held: self.attempt.held,
            next_order: self.attempt.operations().next_order(),
        };
        self.worker.apply_held(self.attempt, &evict).await?;
        Err(Exit::Evicted)
    }

    /// What every request names: the claim, and the signals that the function did not take.
    fn held(&self) -> (Held, Vec<GivenBack>) {
        let given_back = self.attempt.operations().take_given_back();
        (self.attempt.held, given_back)
    }

    /// Applies a request about waits, and goes on, parks or leaves memory as the answer says.
    async fn ask(&mut self, request: &(impl Ask<Answer = Answered> + Clone)) -> Result<(), Exit> {
        let Answered {
            results,
            phase,
            cancelling,
        } = self.worker.apply_held(self.attempt, request).await?;
        if cancelling {
            self.attempt.stop(Sign::Stop);
        }
        self.attempt.operations().answered(results);
        match phase {
            Phase::Active => self.go_on(),
            Phase::Deferred => self.park(),
            _ => return Err(Exit::Evicted),
        }
        Ok(())
    }

    fn go_on(&mut self) {
        self.place = None;
        let due_at = {
            let mut operations = self.attempt.operations();
            operations.activate();
            operations.watched_due_at()
        };
        self.due = due_at.map(|at| self.worker.clock.sleep_until(at));
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

    /// Takes a slot; false if a sign came that must be handled first.
    async fn reclaims(&mut self) -> bool {
        let _waits = self.worker.waits_for_slots();
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

    fn returned(&mut self, returned: Returned) -> Exit {
        let (difference, unread) = {
            let operations = self.attempt.operations();
            (operations.difference(), operations.unread())
        };
        let difference = match (&returned, difference) {
            // A function that failed may have failed before it came to the rest of the record.
            (Ok(_), None) => unread,
            (_, difference) => difference,
        };
        if let Some(difference) = difference {
            return Exit::Outcome(Outcome::Nondeterministic { difference });
        }
        let outcome = returned.and_then(|produced| self.completed(produced));
        Exit::Outcome(outcome.unwrap_or_else(|failure| self.failed(failure)))
    }

    fn completed(&mut self, produced: Produced) -> Result<Outcome, Failure> {
        let Produced { output, changes } = produced;
        if let Some(output) = &output {
            self.check("output", output, 0)?;
        }
        let changes = changes.filter(|changes| !changes.is_empty());
        if let Some(changes) = &changes {
            let json = serde_json::to_string(changes).expect("keys are strings");
            self.check("context", &json, Changes::LEVELS)?;
        }
        let inherited = self.inherited.take();
        Ok(Outcome::Completed {
            output: output.map(Payload::from_json),
            checkpoint: inherited.and_then(|inherited| inherited.checkpoint(changes.as_ref())),
            changes,
        })
    }

    /// Refuses a text that can't be stored. Payloads stand `levels` deep in it.
    fn check(&self, what: &str, json: &str, levels: usize) -> Result<(), Failure> {
        let limit = self.worker.options.payload_limit_bytes;
        let refuse = |kind, reason: String| {
            let task = &self.attempt.task().id;
            Failure::engine(kind, format!("the {what} of task `{task}`: {reason}"))
        };
        if json.len() > limit {
            let reason = format!("{} bytes; the limit is {limit}", json.len());
            return Err(refuse(kinds::PAYLOAD_TOO_LARGE, reason));
        }
        check_payloads_within(json, levels)
            .map_err(|error| refuse(kinds::PAYLOAD_INVALID, error.to_string()))
    }

    fn timed_out(&mut self) -> Exit {
        let limit = duration_of_us(self.timeout.limit_us.unwrap_or(0));
        let message = format!("the attempt was active for longer than {limit:?}");
        Exit::Outcome(self.failed(Failure::engine(kinds::TIMEOUT, message)))
    }

    fn failed(&self, failure: Failure) -> Outcome {
        let mut failure = failure.recordable(self.worker.options.payload_limit_bytes);
        let after = self.attempt.operations().after(&failure);
        let mut rerun = None;
        match after {
            AfterFailure::Keep => {}
            AfterFailure::Rerun(what) => rerun = Some(what),
            AfterFailure::WentOn(why) => failure = self.not_retried(failure, why),
        }
        Outcome::Failed {
            rerun,
            failure,
            random: self.worker.random.unit(),
        }
    }

    /// The failure of an attempt after which no other attempt can go on from the record.
    fn not_retried(&self, failure: Failure, why: String) -> Failure {
        let Attempt { number, .. } = **self.attempt;
        match self.attempt.task().retry.decide(number, &failure, 0.0) {
            RetryDecision::GiveUp => failure,
            RetryDecision::Retry { .. } => {
                let (task, instance) = (self.attempt.key(), &*self.attempt.instance);
                tracing::warn!(%task, instance, why, "a failed attempt is not retried");
                failure.without_retry(&why)
            }
        }
    }
}
