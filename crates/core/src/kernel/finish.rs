//! Outcomes: how a claimed task ended, what follows in its graph, and the end of the execution
//! with its last task.

use crate::execution::failed_by;
use crate::failure::{Failure, kinds};
use crate::ids::{ExecutionId, TaskKey};
use crate::payload::Payload;
use crate::retry::RetryDecision;
use crate::status::{ExecutionStatus, Phase};
use crate::timer::{NEVER, Timer, TimerKind};
use crate::transition::Cause;
use crate::trigger::catches;

use super::effects::{Ended, TaskEnd};
use super::need::Stop;
use super::propagate::Spread;
use super::request::{Claimed, Finish, Finished, Held, Offer, Outcome, Reply, Supersede};
use super::working::Working;

impl Outcome {
    /// A word for it, for history.
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Completed { .. } => "completed",
            Outcome::Failed { .. } => "failed",
            Outcome::Released { .. } => "released",
            Outcome::Cancelled => "cancelled",
            Outcome::Nondeterministic { .. } => "nondeterministic",
        }
    }
}

impl Working {
    pub(super) fn finish(&mut self, finish: &Finish) -> Result<Reply, Stop> {
        let held = finish.held;
        if !self.is_held(held)? {
            return self.finish_late(held, &finish.outcome);
        }
        let cause = Cause::worker(self.now, held.worker);
        let mut claimed = Vec::new();
        if self.execution(held.key.execution)?.status == ExecutionStatus::Cancelling {
            self.cancel_task(held.key, &cause)?;
            self.end_if_done(held.key.execution)?;
        } else {
            let offer = finish.offer.as_ref();
            match &finish.outcome {
                Outcome::Completed {
                    output,
                    changes,
                    checkpoint,
                } => {
                    let end = TaskEnd {
                        output: output.clone(),
                        changes: changes.clone().filter(|changes| !changes.0.is_empty()),
                        checkpoint: checkpoint.clone(),
                        error: None,
                    };
                    claimed = self.complete(held.key, end, &cause, offer)?;
                }
                Outcome::Failed {
                    failure,
                    random,
                    supersede,
                } => {
                    claimed = self.fail(held.key, failure, *random, *supersede, &cause, offer)?;
                }
                Outcome::Released { reason } => {
                    self.change_task(held.key, |task, log| task.release(reason, &cause, log))?;
                    self.queue(held.key)?;
                }
                Outcome::Cancelled => {
                    let failure = Failure::engine(
                        kinds::CANCELLED,
                        "the task stopped although nobody asked it to",
                    );
                    claimed = self.fail(held.key, &failure, 0.0, None, &cause, offer)?;
                }
                Outcome::Nondeterministic { difference } => {
                    self.wait_for_code(held, difference, &cause)?
                }
            }
        }
        let phase = self.task(held.key)?.phase;
        Ok(Reply::Finished(Finished {
            recorded: true,
            phase,
            claimed,
        }))
    }

    /// The sender no longer holds the task. The very claim that ended the task may ask again after
    /// an answer that got lost; anything else is a late result, which history keeps.
    fn finish_late(&mut self, held: Held, outcome: &Outcome) -> Result<Reply, Stop> {
        let Some(task) = self.find_task(held.key)? else {
            return Ok(Reply::Finished(Finished {
                recorded: false,
                phase: Phase::Cancelled,
                claimed: Vec::new(),
            }));
        };
        let recorded = task.phase.is_terminal() && task.epoch == held.epoch;
        let worth_a_word = matches!(outcome, Outcome::Completed { .. } | Outcome::Failed { .. });
        if !recorded && worth_a_word {
            let cause = Cause::worker(self.now, held.worker);
            self.change_task(held.key, |task, log| {
                task.discard_late_result(held.epoch, outcome.name(), &cause, log);
                Ok(())
            })?;
        }
        let phase = self.task(held.key)?.phase;
        Ok(Reply::Finished(Finished {
            recorded,
            phase,
            claimed: Vec::new(),
        }))
    }

    fn complete(
        &mut self,
        key: TaskKey,
        end: TaskEnd,
        cause: &Cause,
        offer: Option<&Offer>,
    ) -> Result<Vec<Claimed>, Stop> {
        self.change_task(key, |task, log| {
            task.complete(end.output.as_ref(), cause, log)
        })?;
        self.end_task(key, end);
        self.close_task(key, false, offer)
    }

    fn fail(
        &mut self,
        key: TaskKey,
        failure: &Failure,
        random: f64,
        supersede: Option<Supersede>,
        cause: &Cause,
        offer: Option<&Offer>,
    ) -> Result<Vec<Claimed>, Stop> {
        let graph = self.graph_of(self.execution(key.execution)?)?;
        let decision =
            graph
                .task_of(key.number)
                .retry
                .decide(self.task(key)?.attempt, failure, random);
        self.end_task(
            key,
            TaskEnd {
                error: Some(failure.clone()),
                ..TaskEnd::default()
            },
        );
        match decision {
            RetryDecision::Retry { delay_us } => {
                let retry_at = self.now.plus_us(delay_us);
                self.change_task(key, |task, log| task.retry(failure, retry_at, cause, log))?;
                if let Some(supersede) = supersede {
                    self.supersede(key, supersede);
                }
                self.arm_retry(key)?;
                Ok(Vec::new())
            }
            RetryDecision::GiveUp => {
                self.change_task(key, |task, log| task.fail(failure, cause, log))?;
                self.close_task(key, true, offer)
            }
        }
    }

    /// Queues a Ready task now, or when its retry falls due.
    pub(super) fn arm_retry(&mut self, key: TaskKey) -> Result<(), Stop> {
        match self.task(key)?.ready_at {
            Some(due) if due > self.now => {
                self.add_timer(Timer::of_task(due, TimerKind::Retry, key, 0));
                Ok(())
            }
            _ => self.queue(key),
        }
    }

    /// The code does not match the record: the task leaves its worker and waits for other code.
    fn wait_for_code(&mut self, held: Held, difference: &str, cause: &Cause) -> Result<(), Stop> {
        let wait = format!("code that matches the record: {difference}");
        if self.task(held.key)?.phase == Phase::Active {
            self.change_task(held.key, |task, log| task.defer(wait.clone(), cause, log))?;
        }
        self.change_task(held.key, |task, log| task.evict(Some(NEVER), cause, log))?;
        self.add_timer(Timer::of_task(NEVER, TimerKind::Code, held.key, 0));
        Ok(())
    }

    /// A task ended: its execution counts it, its dependents are told, and with the last task the
    /// execution ends.
    pub(super) fn close_task(
        &mut self,
        key: TaskKey,
        failed: bool,
        offer: Option<&Offer>,
    ) -> Result<Vec<Claimed>, Stop> {
        self.change_execution(key.execution, |execution, _| {
            execution.open = execution.open.saturating_sub(1);
            execution.failed += u32::from(failed);
            Ok(())
        })?;
        let graph = self.graph_of(self.execution(key.execution)?)?;
        let mut spread = Spread::new(key.execution, graph, offer);
        spread.ended(key.number, 0);
        self.spread(&mut spread)?;
        self.end_if_done(key.execution)?;
        Ok(spread.claimed)
    }

    /// Ends the execution if no task is open any more.
    pub(super) fn end_if_done(&mut self, id: ExecutionId) -> Result<(), Stop> {
        let execution = self.execution(id)?;
        if execution.open > 0 || execution.status.is_terminal() {
            return Ok(());
        }
        let stopping = execution.status == ExecutionStatus::Cancelling;
        let failure = match execution.failed {
            0 => None,
            _ if stopping => None,
            _ => self.uncaught_failure(id)?,
        };
        let cause = Cause::engine(self.now);
        self.disarm(id)?;
        self.change_execution(id, |execution, log| execution.finish(failure, &cause, log))?;
        let status = self.execution(id)?.status;
        self.effects.ended.push(Ended { id, status });
        Ok(())
    }

    /// Removes the timers of an execution that ends.
    pub(super) fn disarm(&mut self, id: ExecutionId) -> Result<(), Stop> {
        let execution = self.execution(id)?;
        let timers = [
            // A large graph may be stopped before its start time.
            execution
                .start_at
                .map(|at| Timer::of_execution(at, TimerKind::Start, id, 0)),
            execution
                .deadline_at
                .map(|at| Timer::of_execution(at, TimerKind::Deadline, id, 0)),
            execution
                .grace_until
                .map(|at| Timer::of_execution(at, TimerKind::Cancel, id, 0)),
        ];
        for timer in timers.into_iter().flatten() {
            self.remove_timer(timer);
        }
        Ok(())
    }

    /// The first failed task that no Completed dependent's rule names, in words.
    fn uncaught_failure(&self, id: ExecutionId) -> Result<Option<String>, Stop> {
        let graph = self.graph_of(self.execution(id)?)?;
        let failures = self.failures(id)?;
        // All at once: each round of reading runs the whole request again.
        let handlers = failures.iter().flat_map(|key| graph.dependents(key.number));
        self.require_tasks(handlers.map(|&number| TaskKey::new(id, number)))?;
        for key in failures {
            let dependents = graph.dependents(key.number);
            let mut caught = false;
            for &handler in dependents {
                let completed = self.task(TaskKey::new(id, handler))?.phase == Phase::Completed;
                caught |= completed && catches(&graph, handler, key.number);
            }
            if !caught {
                let phase = self.task(key)?.phase;
                return Ok(Some(failed_by(graph.node_id(key.number), phase)));
            }
        }
        Ok(None)
    }

    /// Cancels one open task. The caller looks after the execution's end.
    pub(super) fn cancel_task(&mut self, key: TaskKey, cause: &Cause) -> Result<(), Stop> {
        let reason = self
            .execution(key.execution)?
            .reason
            .clone()
            .unwrap_or_default();
        match self.task(key)?.phase {
            Phase::Ready => {
                let row = self.outbox_row(key)?;
                // A retry that fell due a moment ago may still have its timer.
                self.remove_timer(Timer::of_task(row.ready_at, TimerKind::Retry, key, 0));
                self.remove_from_outbox(row);
            }
            Phase::Evicted => self.disarm_wait(key)?,
            _ => {}
        }
        self.change_task(key, |task, log| task.cancel(&reason, cause, log))?;
        self.change_execution(key.execution, |execution, _| {
            execution.open = execution.open.saturating_sub(1);
            Ok(())
        })
    }

    /// Removes the timer of an evicted task.
    pub(super) fn disarm_wait(&mut self, key: TaskKey) -> Result<(), Stop> {
        let Some(at) = self.task(key)?.wake_at else {
            return Ok(());
        };
        let kind = if at == NEVER {
            TimerKind::Code
        } else {
            TimerKind::Wait
        };
        self.remove_timer(Timer::of_task(at, kind, key, 0));
        Ok(())
    }
}

/// The payload a finished sleep answers with.
pub(super) fn nothing() -> Payload {
    Payload::from_json("null")
}
