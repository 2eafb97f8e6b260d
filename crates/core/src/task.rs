//! Task lifecycle. Pure: callers pass the time. A finished task never changes, except for the
//! record of a discarded late result.

use serde::Serialize;
use serde_json::json;

use crate::context::Changes;
use crate::event::{Event, EventType};
use crate::failure::Failure;
use crate::ids::{TaskKey, Timestamp, WorkerId};
use crate::kernel::Superseded;
use crate::payload::Payload;
use crate::status::Phase;
use crate::table::{self, Illegal, TaskMove};
use crate::transition::{Cause, Stream, Transition};
use crate::trigger::SkipReason;

/// The part of a task's row that transitions read and write. Payloads are apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Execution and number.
    pub key: TaskKey,
    /// Its place in the state machine.
    pub phase: Phase,
    /// The attempt that runs, or would run next, from 1. Rises after a failure or a crash while
    /// Active.
    pub attempt: u32,
    /// Number of claims: the fencing number that every write of a worker names.
    pub epoch: u32,
    /// Crashes while Active since the last failure or new step. From the third crash on, only
    /// crashes count in which the task was alone. Each late result takes one crash back, because it
    /// shows that the process had not died.
    pub crashes: u32,
    /// How many steps it had recorded at its last crash, to tell whether it has recorded more
    /// since.
    pub crash_steps: u32,
    /// The worker that holds it.
    pub worker: Option<WorkerId>,
    /// Dependencies that have not ended.
    pub waiting: u32,
    /// Dependencies that ended otherwise than Completed.
    pub unmet: u32,
    /// The earliest time an evicted task waits for.
    pub wake_at: Option<Timestamp>,
    /// Of an evicted task that waits for a time and for nothing else: the place in the order of results that the
    /// end of this wait gets. So the transaction that fires the timer can record it.
    pub next_order: Option<u32>,
    /// What it waits for, in words.
    pub wait: Option<String>,
    /// Number of its last event.
    pub version: u32,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// Since when it can be claimed; for a retry that is not due, from when on. Names the task's
    /// outbox row or retry timer.
    pub ready_at: Option<Timestamp>,
    /// When it was first claimed.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub closed_at: Option<Timestamp>,
    /// Time of its last event.
    pub changed_at: Timestamp,
    /// Time spent Ready and due, over all attempts.
    pub queued_us: i64,
    /// Time spent Active.
    pub active_us: i64,
    /// Time spent Active in the present attempt.
    pub attempt_active_us: i64,
    /// Time spent Deferred, parked or evicted.
    pub deferred_us: i64,
    /// Time spent waiting for a retry to fall due.
    pub retry_wait_us: i64,
}

/// How many crashes count for a task even if other tasks ran beside it, and may have been the
/// cause.
const UNCLEAR_CRASHES: u32 = 2;

/// The death of a worker, as far as one of its tasks is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Death<'a> {
    /// Whether the worker held no other task that was Active.
    pub alone: bool,
    /// Crashes in a row that a task survives.
    pub crash_cap: u32,
    /// How the death was noticed.
    pub reason: &'a str,
}

#[derive(Serialize)]
struct FailureData<'a> {
    error: &'a Failure,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt: Option<u32>,
}

impl Task {
    /// A new task: Pending, with this many dependencies to wait for.
    pub fn create(
        key: TaskKey,
        waiting: u32,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<Task, Illegal> {
        let mut task = Task {
            key,
            phase: Phase::Pending,
            attempt: 1,
            epoch: 0,
            crashes: 0,
            crash_steps: 0,
            worker: None,
            waiting,
            unmet: 0,
            wake_at: None,
            next_order: None,
            wait: None,
            version: 0,
            created_at: cause.at,
            ready_at: None,
            started_at: None,
            closed_at: None,
            changed_at: cause.at,
            queued_us: 0,
            active_us: 0,
            attempt_active_us: 0,
            deferred_us: 0,
            retry_wait_us: 0,
        };
        let row = table::find(table::TASKS, TaskMove::Create, None, cause.by)?;
        let transition = Transition {
            cause,
            from: None,
            to: row.target(None).as_str(),
        };
        for &kind in row.events {
            transition.record(&mut task.stream(), kind, None, log);
        }
        Ok(task)
    }

    /// Its dependencies have ended and its rule holds.
    pub fn mark_ready(&mut self, cause: &Cause, log: &mut Vec<Event>) -> Result<(), Illegal> {
        self.make(TaskMove::MarkReady, cause, [None, None], log)?;
        self.ready_at = Some(self.changed_at);
        Ok(())
    }

    /// Its dependencies have ended and its rule does not hold.
    pub fn skip(
        &mut self,
        reason: &SkipReason,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        self.make(TaskMove::Skip, cause, [to_json(reason), None], log)?;
        self.close();
        Ok(())
    }

    /// One of its dependencies ended. Returns whether it was the last.
    pub fn lower_waiting(&mut self, completed: bool) -> bool {
        self.waiting = self.waiting.saturating_sub(1);
        self.unmet += u32::from(!completed);
        self.waiting == 0
    }

    /// A worker claims it into a slot. The epoch rises before the events are made, so that they
    /// carry the new epoch.
    pub fn claim(
        &mut self,
        worker: WorkerId,
        at: Timestamp,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let cause = Cause::worker(at, worker);
        table::find(table::TASKS, TaskMove::Claim, Some(self.phase), cause.by)?;
        self.epoch += 1;
        self.worker = Some(worker);
        self.make(TaskMove::Claim, &cause, [None, None], log)?;
        self.started_at.get_or_insert(self.changed_at);
        Ok(())
    }

    /// It waits and releases its slot. `wait` says for what.
    pub fn defer(
        &mut self,
        wait: String,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let data = json!({ "wait": wait }).to_string();
        self.make(TaskMove::Defer, cause, [Some(data), None], log)?;
        self.wait = Some(wait);
        Ok(())
    }

    /// It holds a slot again.
    pub fn resume(&mut self, cause: &Cause, log: &mut Vec<Event>) -> Result<(), Illegal> {
        self.make(TaskMove::Resume, cause, [None, None], log)?;
        self.wait = None;
        Ok(())
    }

    /// Its future is dropped from memory. `wake_at` is the earliest time that it waits for, if it
    /// waits for a time; `next_order` is given if it waits for nothing else.
    pub fn evict(
        &mut self,
        wake_at: Option<Timestamp>,
        next_order: Option<u32>,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let data = wake_at.map(|at| match next_order {
            Some(order) => json!({ "wake_at": at, "next_order": order }).to_string(),
            None => json!({ "wake_at": at }).to_string(),
        });
        self.make(TaskMove::Evict, cause, [data, None], log)?;
        self.worker = None;
        self.wake_at = wake_at;
        self.next_order = next_order;
        Ok(())
    }

    /// Its wait is over.
    pub fn wake(&mut self, cause: &Cause, log: &mut Vec<Event>) -> Result<(), Illegal> {
        self.make(TaskMove::Wake, cause, [None, None], log)?;
        self.ready_again();
        Ok(())
    }

    /// It completed, with this output and these changes.
    pub fn complete(
        &mut self,
        output: Option<&Payload>,
        changes: Option<&Changes>,
        checkpoint: Option<&Payload>,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let changes = changes.map(|changes| Payload::from_json(changes.to_json()));
        let left = [
            ("output", output),
            ("changes", changes.as_ref()),
            ("checkpoint", checkpoint),
        ];
        let digests: Vec<String> = left
            .into_iter()
            .filter_map(|(name, payload)| {
                let digest = payload?.digest();
                Some(format!(
                    r#""{name}":{{"len":{},"sha256":"{}"}}"#,
                    digest.len, digest.sha256
                ))
            })
            .collect();
        let data = (!digests.is_empty()).then(|| format!("{{{}}}", digests.join(",")));
        self.make(TaskMove::Complete, cause, [data, None], log)?;
        self.close();
        Ok(())
    }

    /// The attempt failed, and another follows at `retry_at`. The next attempt runs the operations
    /// in `again` again although they are recorded.
    pub fn retry(
        &mut self,
        failure: &Failure,
        retry_at: Timestamp,
        again: &[Superseded],
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let next_attempt = self.attempt + 1;
        let failed = FailureData {
            error: failure,
            retry_at: None,
            next_attempt: None,
        };
        let mut scheduled = json!({ "retry_at": retry_at, "next_attempt": next_attempt });
        if !again.is_empty() {
            scheduled["runs_again"] = json!(again);
        }
        self.make(
            TaskMove::Retry,
            cause,
            [to_json(&failed), Some(scheduled.to_string())],
            log,
        )?;
        self.ready_again();
        self.begin_attempt(next_attempt);
        self.crashes = 0;
        self.ready_at = Some(retry_at.max(self.changed_at));
        Ok(())
    }

    /// The attempt failed, and no attempt follows.
    pub fn fail(
        &mut self,
        failure: &Failure,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let failed = FailureData {
            error: failure,
            retry_at: None,
            next_attempt: None,
        };
        self.make(TaskMove::Fail, cause, [to_json(&failed), None], log)?;
        self.close();
        Ok(())
    }

    /// Its worker gives it back at shutdown. No attempt is charged.
    pub fn release(
        &mut self,
        reason: &str,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let data = json!({ "reason": reason }).to_string();
        self.make(TaskMove::Release, cause, [Some(data), None], log)?;
        self.ready_again();
        Ok(())
    }

    /// Whether its process died so often while the task ran that the task must run alone. The next
    /// death then shows whether the task is the cause.
    pub fn is_suspect(&self, crash_cap: u32) -> bool {
        self.crashes >= UNCLEAR_CRASHES.min(crash_cap).max(1)
    }

    /// Its worker died. `steps` is the number of its recorded steps: new steps since the last crash
    /// start the count of crashes again. A crash while the task waits is not counted. The first two
    /// crashes count even if other tasks ran beside it; each further crash counts only if the task
    /// was alone. Beyond the cap, and only if it was alone, the task is abandoned. Returns whether
    /// it was abandoned.
    pub fn recover(
        &mut self,
        steps: u32,
        death: &Death<'_>,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<bool, Illegal> {
        let was_active = self.phase == Phase::Active;
        let lost_by = self.worker;
        let Death { alone, reason, .. } = *death;
        let crashes = match was_active {
            false => self.crashes,
            true if steps > self.crash_steps => 1,
            true if alone || self.crashes < UNCLEAR_CRASHES => self.crashes + 1,
            true => self.crashes,
        };
        let abandoned = was_active && alone && crashes > death.crash_cap;
        let name = if abandoned {
            TaskMove::Abandon
        } else {
            TaskMove::Recover
        };
        let mut data =
            json!({ "reason": reason, "crashes": crashes, "steps": steps, "lost_by": lost_by });
        if was_active {
            data["alone"] = json!(alone);
        }
        if was_active && !abandoned {
            data["next_attempt"] = json!(self.attempt + 1);
        }
        self.make(name, cause, [Some(data.to_string()), None], log)?;
        self.crashes = crashes;
        self.crash_steps = if was_active { steps } else { self.crash_steps };
        if abandoned {
            self.close();
        } else {
            self.ready_again();
            if was_active {
                self.begin_attempt(self.attempt + 1);
            }
        }
        Ok(abandoned)
    }

    /// Its execution stops. If a worker held the task, the epoch rises, so that later writes of
    /// that worker are refused. It does not rise if that worker itself reported the end.
    pub fn cancel(
        &mut self,
        reason: &str,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let fenced = self.phase.is_held() && cause.worker.is_none();
        let data = json!({ "reason": reason }).to_string();
        self.make(TaskMove::Cancel, cause, [Some(data), None], log)?;
        self.epoch += u32::from(fenced);
        self.close();
        Ok(())
    }

    /// A result arrived from a worker that no longer held the task. The event's data has the
    /// result's stale epoch. The worker's process had not died, so one crash less is counted for
    /// the task.
    pub fn discard_late_result(
        &mut self,
        stale_epoch: u32,
        outcome: &str,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) {
        let data = json!({ "epoch": stale_epoch, "outcome": outcome }).to_string();
        let to = self.phase.as_str();
        let transition = Transition {
            cause,
            from: Some(to),
            to,
        };
        let (phase, before) = (self.phase, self.changed_at);
        transition.record(
            &mut self.stream(),
            EventType::TaskLateResultDiscarded,
            Some(data),
            log,
        );
        if !phase.is_terminal() {
            self.crashes = self.crashes.saturating_sub(1);
        }
        // The stream's time moved on, so the time since then is credited to the present phase.
        self.credit(phase, before);
    }

    fn stream(&mut self) -> Stream<'_> {
        Stream {
            execution: self.key.execution,
            task: self.key.number,
            version: &mut self.version,
            changed_at: &mut self.changed_at,
            attempt: Some(self.attempt),
            epoch: Some(self.epoch),
        }
    }

    /// Makes the move: checks the table, appends the events, changes the phase, and credits the
    /// time since the last event to the previous phase.
    fn make(
        &mut self,
        name: TaskMove,
        cause: &Cause,
        data: [Option<String>; 2],
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let from = self.phase;
        let row = table::find(table::TASKS, name, Some(from), cause.by)?;
        let target = row.target(Some(from));
        let before = self.changed_at;
        let transition = Transition {
            cause,
            from: Some(from.as_str()),
            to: target.as_str(),
        };
        for (&kind, data) in row.events.iter().zip(data) {
            transition.record(&mut self.stream(), kind, data, log);
        }
        self.phase = target;
        self.credit(from, before);
        Ok(())
    }

    fn credit(&mut self, phase: Phase, before: Timestamp) {
        let elapsed = self.changed_at.since_us(before);
        match phase {
            Phase::Ready => {
                let retry_wait = self
                    .ready_at
                    .map_or(0, |due| due.min(self.changed_at).since_us(before));
                self.retry_wait_us += retry_wait;
                self.queued_us += elapsed - retry_wait;
            }
            Phase::Active => {
                self.active_us += elapsed;
                self.attempt_active_us += elapsed;
            }
            Phase::Deferred | Phase::Evicted => self.deferred_us += elapsed,
            _ => {}
        }
    }

    fn begin_attempt(&mut self, attempt: u32) {
        self.attempt = attempt;
        self.attempt_active_us = 0;
    }

    fn ready_again(&mut self) {
        self.ready_at = Some(self.changed_at);
        self.worker = None;
        self.wait = None;
        self.wake_at = None;
        self.next_order = None;
    }

    fn close(&mut self) {
        self.closed_at = Some(self.changed_at);
        self.worker = None;
        self.wait = None;
        self.wake_at = None;
        self.next_order = None;
    }
}

fn to_json(value: &impl Serialize) -> Option<String> {
    Some(serde_json::to_string(value).expect("engine data has string keys and serialises"))
}
