//! Task lifecycle. Pure: callers bring the time. A finished task never changes, but for the
//! record that a late result was discarded.

use serde::Serialize;
use serde_json::json;

use crate::event::{Event, EventType};
use crate::failure::Failure;
use crate::ids::{TaskKey, Timestamp, WorkerId};
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
    /// Where it stands.
    pub phase: Phase,
    /// The attempt that runs, or would run next, from 1. Rises after a failure or a crash while
    /// Active.
    pub attempt: u32,
    /// Number of claims: the fencing number that every write of a worker names.
    pub epoch: u32,
    /// Crashes while Active since the last failure or new step.
    pub crashes: u32,
    /// Steps it had recorded when it last crashed, to tell whether it got further since.
    pub crash_steps: u32,
    /// Who holds it.
    pub worker: Option<WorkerId>,
    /// Dependencies that have not ended.
    pub waiting: u32,
    /// Dependencies that ended otherwise than Completed.
    pub unmet: u32,
    /// The earliest time an evicted task waits for.
    pub wake_at: Option<Timestamp>,
    /// What it waits for, in words.
    pub wait: Option<String>,
    /// Number of its last event.
    pub version: u32,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// Since when it can be claimed, or from when on if that is still to come: a retry that is not
    /// due. Names the task's outbox row or retry timer.
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
    /// Time spent Deferred, parked or evicted.
    pub deferred_us: i64,
    /// Time spent waiting for a retry to fall due.
    pub retry_wait_us: i64,
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
    /// A new task: Pending, with so many dependencies to wait for.
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
            wait: None,
            version: 0,
            created_at: cause.at,
            ready_at: None,
            started_at: None,
            closed_at: None,
            changed_at: cause.at,
            queued_us: 0,
            active_us: 0,
            deferred_us: 0,
            retry_wait_us: 0,
        };
        let row = table::find(table::TASKS, TaskMove::Create, None, cause.by)?;
        let transition = Transition {
            cause,
            from: None,
            to: row.to.as_str(),
        };
        for &kind in row.events {
            transition.record(&mut task.stream(), kind, None, log);
        }
        Ok(task)
    }

    /// Its dependencies ended and its rule said yes.
    pub fn mark_ready(&mut self, cause: &Cause, log: &mut Vec<Event>) -> Result<(), Illegal> {
        self.make(TaskMove::MarkReady, cause, [None, None], log)?;
        self.ready_at = Some(self.changed_at);
        Ok(())
    }

    /// Its dependencies ended and its rule said no.
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

    /// One of its dependencies ended. Answers whether it was the last.
    pub fn lower_waiting(&mut self, completed: bool) -> bool {
        self.waiting = self.waiting.saturating_sub(1);
        self.unmet += u32::from(!completed);
        self.waiting == 0
    }

    /// A worker takes it into a slot: the epoch rises before the events are written, so that they
    /// carry the new one.
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

    /// It waits and gives its slot away. `wait` says for what.
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

    /// Its future is dropped from memory; `wake_at` is the earliest time it waits for, if any.
    pub fn evict(
        &mut self,
        wake_at: Option<Timestamp>,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let data = wake_at.map(|at| json!({ "wake_at": at }).to_string());
        self.make(TaskMove::Evict, cause, [data, None], log)?;
        self.worker = None;
        self.wake_at = wake_at;
        Ok(())
    }

    /// What it waited for came.
    pub fn wake(&mut self, cause: &Cause, log: &mut Vec<Event>) -> Result<(), Illegal> {
        self.make(TaskMove::Wake, cause, [None, None], log)?;
        self.ready_again();
        Ok(())
    }

    /// It ended well.
    pub fn complete(
        &mut self,
        output: Option<&Payload>,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let data = output.map(|payload| {
            let digest = payload.digest();
            format!(
                r#"{{"output":{{"len":{},"sha256":"{}"}}}}"#,
                digest.len, digest.sha256
            )
        });
        self.make(TaskMove::Complete, cause, [data, None], log)?;
        self.close();
        Ok(())
    }

    /// The attempt failed; another follows at `retry_at`.
    pub fn retry(
        &mut self,
        failure: &Failure,
        retry_at: Timestamp,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let next_attempt = self.attempt + 1;
        let failed = FailureData {
            error: failure,
            retry_at: None,
            next_attempt: None,
        };
        let scheduled = json!({ "retry_at": retry_at, "next_attempt": next_attempt }).to_string();
        self.make(
            TaskMove::Retry,
            cause,
            [to_json(&failed), Some(scheduled)],
            log,
        )?;
        self.ready_again();
        self.attempt = next_attempt;
        self.crashes = 0;
        self.ready_at = Some(retry_at.max(self.changed_at));
        Ok(())
    }

    /// The attempt failed and none follows.
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

    /// Its worker gives it back at shutdown; no attempt is charged.
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

    /// Its worker died. `steps` is how many steps it has recorded: new ones since the last crash
    /// start the count of crashes afresh. A crash while waiting is free. Beyond `crash_cap`
    /// crashes in a row the task is abandoned; answers whether it was.
    pub fn recover(
        &mut self,
        steps: u32,
        crash_cap: u32,
        reason: &str,
        cause: &Cause,
        log: &mut Vec<Event>,
    ) -> Result<bool, Illegal> {
        let was_active = self.phase == Phase::Active;
        let lost_by = self.worker;
        let crashes = match was_active {
            false => self.crashes,
            true if steps > self.crash_steps => 1,
            true => self.crashes + 1,
        };
        let abandoned = was_active && crashes > crash_cap;
        let name = if abandoned {
            TaskMove::Abandon
        } else {
            TaskMove::Recover
        };
        let mut data =
            json!({ "reason": reason, "crashes": crashes, "steps": steps, "lost_by": lost_by });
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
            self.attempt += u32::from(was_active);
        }
        Ok(abandoned)
    }

    /// Its execution stops. The epoch rises if a worker held it, so that nothing it still does is
    /// recorded; unless it was that worker who said so.
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

    /// A result came from a worker that no longer held the task. Its stale epoch is data.
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
        // The stream's clock moved on, so what passed meanwhile is credited to the phase it is in.
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

    /// Makes the move: table, events, phase, and the time since the last event credited to the
    /// phase it was spent in.
    fn make(
        &mut self,
        name: TaskMove,
        cause: &Cause,
        data: [Option<String>; 2],
        log: &mut Vec<Event>,
    ) -> Result<(), Illegal> {
        let from = self.phase;
        let row = table::find(table::TASKS, name, Some(from), cause.by)?;
        let before = self.changed_at;
        let transition = Transition {
            cause,
            from: Some(from.as_str()),
            to: row.to.as_str(),
        };
        for (&kind, data) in row.events.iter().zip(data) {
            transition.record(&mut self.stream(), kind, data, log);
        }
        self.phase = row.to;
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
            Phase::Active => self.active_us += elapsed,
            Phase::Deferred | Phase::Evicted => self.deferred_us += elapsed,
            _ => {}
        }
    }

    fn ready_again(&mut self) {
        self.ready_at = Some(self.changed_at);
        self.worker = None;
        self.wait = None;
        self.wake_at = None;
    }

    fn close(&mut self) {
        self.closed_at = Some(self.changed_at);
        self.worker = None;
        self.wait = None;
        self.wake_at = None;
    }
}

fn to_json(value: &impl Serialize) -> Option<String> {
    Some(serde_json::to_string(value).expect("engine data has string keys and serialises"))
}
