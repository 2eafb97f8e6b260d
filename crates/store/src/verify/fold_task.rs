//! A task's row, worked out from its events alone. This repeats what transitions do in code of its
//! own, so that a mistake in either shows as a difference.

use abide_core::event::EventType;
use abide_core::status::Phase;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::history::{Place, Stream, TASKS};
use super::payloads::Recorded;
use super::report::{Invariant, Problems};
use super::rows::{EventCells, State, StoredEvent};
use super::spent::Spent;
use super::words;

/// What a task's events come to.
pub(super) struct TaskFold {
    pub(super) stream: Stream,
    pub(super) attempt: u32,
    pub(super) epoch: u32,
    pub(super) crashes: u32,
    pub(super) crash_steps: u32,
    pub(super) worker: Option<i64>,
    pub(super) ready_at: Option<i64>,
    pub(super) wake_at: Option<i64>,
    pub(super) next_order: Option<u32>,
    pub(super) wait: Option<String>,
    pub(super) created_at: i64,
    pub(super) started_at: Option<i64>,
    pub(super) closed_at: Option<i64>,
    pub(super) spent: Spent,
    /// The digest of the output it completed with.
    pub(super) output: Option<Recorded>,
    /// The digests of what it changed in its context, and of its checkpoint.
    pub(super) changes: Option<Recorded>,
    pub(super) checkpoint: Option<Recorded>,
    /// The error of its last failed attempt.
    pub(super) error: Option<Box<RawValue>>,
    /// Retries that were scheduled.
    pub(super) retries: u32,
    /// Whether its rule was found to hold, once that was decided.
    pub(super) decided: Option<bool>,
    /// The position of its last event that changed anything.
    pub(super) last_position: i64,
}

#[derive(Deserialize)]
struct Deferred {
    wait: String,
}
#[derive(Deserialize)]
struct Evicted {
    wake_at: i64,
    next_order: Option<u32>,
}
#[derive(Deserialize)]
struct Completed {
    output: Option<Recorded>,
    changes: Option<Recorded>,
    checkpoint: Option<Recorded>,
}
#[derive(Deserialize)]
struct Failed {
    error: Box<RawValue>,
}
#[derive(Deserialize)]
struct Scheduled {
    retry_at: i64,
    next_attempt: u32,
}
#[derive(Deserialize)]
struct Crashed {
    crashes: u32,
    steps: u32,
    #[serde(default)]
    alone: bool,
    next_attempt: Option<u32>,
}
#[derive(Deserialize)]
struct Discarded {
    epoch: u32,
}
#[derive(Deserialize)]
struct Because {
    #[serde(rename = "reason")]
    _reason: String,
}
#[derive(Deserialize)]
struct Skipped {
    #[serde(rename = "because")]
    _because: String,
}

impl TaskFold {
    pub(super) fn new() -> TaskFold {
        TaskFold {
            stream: Stream::new(TASKS),
            attempt: 1,
            epoch: 0,
            crashes: 0,
            crash_steps: 0,
            worker: None,
            ready_at: None,
            wake_at: None,
            next_order: None,
            wait: None,
            created_at: 0,
            started_at: None,
            closed_at: None,
            spent: Spent::default(),
            output: None,
            changes: None,
            checkpoint: None,
            error: None,
            retries: 0,
            decided: None,
            last_position: 0,
        }
    }

    /// Where the task stands after its last event.
    pub(super) fn phase(&self) -> Option<Phase> {
        match self.stream.state {
            Some(State::Task(phase)) => Some(phase),
            _ => None,
        }
    }

    pub(super) fn take(&mut self, event: &StoredEvent, problems: &mut Problems) {
        let (before, since) = (self.phase(), self.stream.at);
        let (place, cells) = self.stream.take(event, problems);
        let Some(cells) = cells else { return };
        if place != Place::Discard {
            self.last_position = event.position;
        }
        if place == Place::Misfit {
            return;
        }
        if let Some(before) = before {
            self.spend(before, since, cells.at);
        }
        if cells.kind == EventType::TaskClaimed {
            self.epoch += 1;
            self.worker = cells.worker;
        }
        self.check_sender(event.n, cells, before, problems);
        if let Err(error) = self.change(event.n, cells, before, problems) {
            let what = format!("the data of event {} ({}): {error}", event.n, cells.kind);
            self.stream.misfit(problems, Invariant::I5, what);
        }
    }

    /// Credits the time since the last event to what the task did meanwhile.
    fn spend(&mut self, phase: Phase, since: i64, until: i64) {
        let passed = until.saturating_sub(since);
        match phase {
            Phase::Ready => {
                // Until its retry falls due it waits for that; then it queues.
                let due = self.ready_at.unwrap_or(since).clamp(since, until);
                add(&mut self.spent.retry_wait_us, due.saturating_sub(since));
                add(&mut self.spent.queued_us, until.saturating_sub(due));
            }
            Phase::Active => {
                add(&mut self.spent.active_us, passed);
                add(&mut self.spent.attempt_active_us, passed);
            }
            Phase::Deferred | Phase::Evicted => add(&mut self.spent.deferred_us, passed),
            _ => {}
        }
    }

    /// That the event comes from who holds the task, and carries the numbers it had.
    fn check_sender(
        &self,
        n: u32,
        event: &EventCells,
        before: Option<Phase>,
        problems: &mut Problems,
    ) {
        use EventType as E;
        let (name, epoch) = (event.kind, self.epoch);
        if event.epoch != Some(epoch) {
            let found = number(event.epoch);
            let what =
                format!("event {n} ({name}) carries epoch {found}, but {epoch} was in force");
            problems.add(Invariant::I7, what);
        }
        if event.attempt != Some(self.attempt) {
            let (found, attempt) = (number(event.attempt), self.attempt);
            let what =
                format!("event {n} ({name}) carries attempt {found}, but it was attempt {attempt}");
            problems.add(Invariant::I6, what);
        }
        let by_holder = match name {
            E::TaskClaimed | E::TaskStarted | E::TaskDeferred | E::TaskResumed | E::TaskEvicted => {
                true
            }
            E::TaskCompleted | E::TaskFailed | E::TaskReleased => true,
            // Its first half gave the task back.
            E::TaskRetryScheduled => false,
            E::TaskCancelled => event.worker.is_some() && before.is_some_and(Phase::is_held),
            _ => false,
        };
        let by_engine = matches!(
            name,
            E::TaskCreated
                | E::TaskMarkedReady
                | E::TaskSkipped
                | E::TaskWoken
                | E::TaskRecovered
                | E::TaskAbandoned
        );
        if by_engine && event.worker.is_some() {
            let worker = words::worker(event.worker);
            let what = format!("event {n} ({name}) was made by {worker}, which no worker does");
            problems.add(Invariant::I7, what);
        }
        if by_holder && (event.worker.is_none() || event.worker != self.worker) {
            let what = format!(
                "event {n} ({name}) was made by {}, but {} held the task",
                words::worker(event.worker),
                words::worker(self.worker)
            );
            problems.add(Invariant::I7, what);
        }
    }

    fn change(
        &mut self,
        n: u32,
        event: &EventCells,
        before: Option<Phase>,
        problems: &mut Problems,
    ) -> Result<(), String> {
        use EventType as E;
        let at = event.at;
        match event.kind {
            E::TaskCreated => {
                nothing(event)?;
                self.created_at = at;
            }
            E::TaskMarkedReady => {
                nothing(event)?;
                self.decided = Some(true);
                self.ready_at = Some(at);
            }
            E::TaskSkipped => {
                data::<Skipped>(event)?;
                self.decided = Some(false);
                self.close(at);
            }
            E::TaskClaimed => nothing(event)?,
            E::TaskStarted => {
                nothing(event)?;
                self.started_at = self.started_at.or(Some(at));
            }
            E::TaskDeferred => self.wait = Some(data::<Deferred>(event)?.wait),
            E::TaskResumed => {
                nothing(event)?;
                self.wait = None;
            }
            E::TaskEvicted => {
                self.worker = None;
                if event.data.is_some() {
                    let evicted = data::<Evicted>(event)?;
                    (self.wake_at, self.next_order) = (Some(evicted.wake_at), evicted.next_order);
                }
            }
            E::TaskWoken => {
                nothing(event)?;
                self.give_back(at);
            }
            E::TaskReleased => {
                data::<Because>(event)?;
                self.give_back(at);
            }
            E::TaskCompleted => {
                if event.data.is_some() {
                    let left: Completed = data(event)?;
                    (self.output, self.changes) = (left.output, left.changes);
                    self.checkpoint = left.checkpoint;
                }
                self.close(at);
            }
            E::TaskFailed => {
                self.error = Some(data::<Failed>(event)?.error);
                if event.to == State::Task(Phase::Failed) {
                    self.close(at);
                }
            }
            E::TaskRetryScheduled => self.retry(n, event, problems)?,
            E::TaskRecovered | E::TaskAbandoned => self.recover(n, event, before, problems)?,
            E::TaskCancelled => self.cancel(event, before)?,
            E::TaskLateResultDiscarded => self.discard(n, event, problems)?,
            _ => {}
        }
        Ok(())
    }

    fn retry(&mut self, n: u32, event: &EventCells, problems: &mut Problems) -> Result<(), String> {
        let scheduled: Scheduled = data(event)?;
        self.next_attempt(n, Some(scheduled.next_attempt), true, problems);
        self.give_back(event.at);
        self.ready_at = Some(scheduled.retry_at.max(event.at));
        self.crashes = 0;
        self.retries += 1;
        Ok(())
    }

    fn recover(
        &mut self,
        n: u32,
        event: &EventCells,
        before: Option<Phase>,
        problems: &mut Problems,
    ) -> Result<(), String> {
        let crashed: Crashed = data(event)?;
        let was_active = before == Some(Phase::Active);
        self.count_crash(n, &crashed, was_active, problems);
        if event.kind == EventType::TaskAbandoned {
            if !crashed.alone {
                let what = format!("event {n} abandoned the task, which had not run alone");
                problems.add(Invariant::I6, what);
            }
            self.close(event.at);
        } else {
            self.next_attempt(n, crashed.next_attempt, was_active, problems);
            self.give_back(event.at);
        }
        Ok(())
    }

    fn cancel(&mut self, event: &EventCells, before: Option<Phase>) -> Result<(), String> {
        data::<Because>(event)?;
        // Whoever held it is fenced off, unless it was the holder who said so.
        let fenced = before.is_some_and(Phase::is_held) && event.worker.is_none();
        self.epoch += u32::from(fenced);
        self.close(event.at);
        Ok(())
    }

    /// Also one crash less: the process had not died.
    fn discard(
        &mut self,
        n: u32,
        event: &EventCells,
        problems: &mut Problems,
    ) -> Result<(), String> {
        let (stale, epoch) = (data::<Discarded>(event)?.epoch, self.epoch);
        if stale > epoch {
            let what =
                format!("event {n} discarded a result of epoch {stale}, ahead of epoch {epoch}");
            problems.add(Invariant::I7, what);
        }
        if self.phase().is_some_and(|phase| !phase.is_terminal()) {
            self.crashes = self.crashes.saturating_sub(1);
        }
        Ok(())
    }

    /// Waiting tasks don't crash, and new steps start the count afresh. Two crashes count whatever ran
    /// beside the task, others only if it was alone.
    fn count_crash(
        &mut self,
        n: u32,
        crashed: &Crashed,
        was_active: bool,
        problems: &mut Problems,
    ) {
        if was_active {
            let further = crashed.steps > self.crash_steps;
            let counts = crashed.alone || self.crashes < 2;
            self.crashes = match further {
                true => 1,
                false => self.crashes + u32::from(counts),
            };
            self.crash_steps = crashed.steps;
        }
        if crashed.crashes != self.crashes {
            let (found, counted) = (crashed.crashes, self.crashes);
            let what = format!("event {n} counts {found} crashes, history says {counted}");
            problems.add(Invariant::I6, what);
        }
    }

    /// The next attempt begins, if this event charges for the last.
    fn next_attempt(
        &mut self,
        n: u32,
        recorded: Option<u32>,
        charged: bool,
        problems: &mut Problems,
    ) {
        let next = charged.then_some(self.attempt + 1);
        if recorded != next {
            let (found, next) = (number(recorded), number(next));
            let what = format!("event {n} announces attempt {found}, history says {next}");
            problems.add(Invariant::I6, what);
        }
        if let Some(next) = next {
            self.attempt = next;
            self.spent.attempt_active_us = 0;
        }
    }

    fn give_back(&mut self, at: i64) {
        self.ready_at = Some(at);
        self.worker = None;
        self.wait = None;
        self.wake_at = None;
        self.next_order = None;
    }

    fn close(&mut self, at: i64) {
        self.closed_at = Some(at);
        self.worker = None;
        self.wait = None;
        self.wake_at = None;
        self.next_order = None;
    }
}

/// Stored times may be anything.
fn add(sum: &mut i64, passed: i64) {
    *sum = sum.saturating_add(passed);
}

fn number(value: Option<u32>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn nothing(event: &EventCells) -> Result<(), String> {
    match &event.data {
        None => Ok(()),
        Some(_) => Err("it should have none".to_owned()),
    }
}

fn data<T: DeserializeOwned>(event: &EventCells) -> Result<T, String> {
    let json = event.data.as_deref().ok_or("it has none")?;
    serde_json::from_str(json).map_err(|error| error.to_string())
}
