//! Outcomes: how a claimed task ended, and whether another attempt follows.

use crate::failure::{Failure, kinds};
use crate::ids::TaskKey;
use crate::retry::RetryDecision;
use crate::status::{ExecutionStatus, Phase};
use crate::timer::{NEVER, Timer, TimerKind};
use crate::transition::Cause;

use super::effects::TaskEnd;
use super::need::Stop;
use super::offer::Offer;
use super::request::{Claimed, Finish, Finished, Held, Outcome};
use super::rerun::Rerun;
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
    pub(super) fn finish(&mut self, finish: &Finish) -> Result<Finished, Stop> {
        let held = finish.held;
        if !self.is_held(held)? {
            return self.finish_late(held, &finish.outcome);
        }
        self.give_back(held.key, &finish.given_back)?;
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
                    rerun,
                } => {
                    let rerun = rerun.as_ref();
                    claimed = self.fail(held.key, failure, *random, rerun, &cause, offer)?;
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
        Ok(Finished {
            recorded: true,
            phase,
            claimed,
        })
    }

    /// The sender no longer holds the task. The very claim that ended the task may ask again after
    /// an answer that got lost; anything else is a late result, which history keeps.
    fn finish_late(&mut self, held: Held, outcome: &Outcome) -> Result<Finished, Stop> {
        let Some(task) = self.find_task(held.key)? else {
            return Ok(Finished {
                recorded: false,
                phase: Phase::Cancelled,
                claimed: Vec::new(),
            });
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
        Ok(Finished {
            recorded,
            phase,
            claimed: Vec::new(),
        })
    }

    fn complete(
        &mut self,
        key: TaskKey,
        end: TaskEnd,
        cause: &Cause,
        offer: Option<&Offer>,
    ) -> Result<Vec<Claimed>, Stop> {
        self.change_task(key, |task, log| {
            let (output, checkpoint) = (end.output.as_ref(), end.checkpoint.as_ref());
            task.complete(output, end.changes.as_ref(), checkpoint, cause, log)
        })?;
        self.end_task(key, end);
        self.close_task(key, false, offer)
    }

    fn fail(
        &mut self,
        key: TaskKey,
        failure: &Failure,
        random: f64,
        rerun: Option<&Rerun>,
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
                let again = rerun.map_or(&[][..], |rerun| &rerun.operations);
                self.change_task(key, |task, log| {
                    task.retry(failure, retry_at, again, cause, log)
                })?;
                if let Some(rerun) = rerun {
                    self.supersede(key, rerun.supersede);
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

    /// The code does not match the record: the task leaves its worker and waits for other code.
    fn wait_for_code(&mut self, held: Held, difference: &str, cause: &Cause) -> Result<(), Stop> {
        let wait = format!("code that matches the record: {difference}");
        if self.task(held.key)?.phase == Phase::Active {
            self.change_task(held.key, |task, log| task.defer(wait.clone(), cause, log))?;
        }
        self.change_task(held.key, |task, log| {
            task.evict(Some(NEVER), None, cause, log)
        })?;
        self.add_timer(Timer::of_task(NEVER, TimerKind::Code, held.key, 0));
        Ok(())
    }
}
