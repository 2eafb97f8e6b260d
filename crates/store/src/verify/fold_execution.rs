//! An execution's row, worked out from its events alone, as [`super::fold_task`] does for tasks.

use abide_core::event::EventType;
use abide_core::execution::StopCause;
use abide_core::status::ExecutionStatus;
use serde::Deserialize;

use super::history::{EXECUTIONS, Place, Stream};
use super::payloads::Recorded;
use super::report::{Invariant, Problems};
use super::rows::{EventCells, State, StoredEvent};

/// What an execution's events come to.
pub(super) struct ExecutionFold {
    pub(super) stream: Stream,
    pub(super) created: Option<Created>,
    pub(super) reason: Option<String>,
    pub(super) stop_cause: Option<String>,
    pub(super) failed_task: Option<u32>,
    pub(super) priority: i16,
    pub(super) created_at: i64,
    pub(super) started_at: Option<i64>,
    pub(super) closed_at: Option<i64>,
    /// The position of the event that ended it.
    pub(super) end_position: Option<i64>,
}

/// What history keeps of how an execution was started.
#[derive(Deserialize)]
pub(super) struct Created {
    pub(super) instance: String,
    pub(super) workflow: i64,
    pub(super) tasks: u32,
    pub(super) input: Option<Recorded>,
    pub(super) start_at: Option<i64>,
    pub(super) deadline_at: Option<i64>,
    #[serde(default)]
    pub(super) priority: i16,
}

/// What the event of another priority says.
#[derive(Deserialize)]
struct Priority {
    from: i16,
    to: i16,
}

#[derive(Deserialize)]
struct Because {
    reason: String,
    stop_cause: Option<String>,
    failed_task: Option<u32>,
}

impl ExecutionFold {
    pub(super) fn new() -> ExecutionFold {
        ExecutionFold {
            stream: Stream::new(EXECUTIONS),
            created: None,
            reason: None,
            stop_cause: None,
            failed_task: None,
            priority: 0,
            created_at: 0,
            started_at: None,
            closed_at: None,
            end_position: None,
        }
    }

    /// Where the execution stands after its last event.
    pub(super) fn status(&self) -> Option<ExecutionStatus> {
        match self.stream.state {
            Some(State::Execution(status)) => Some(status),
            _ => None,
        }
    }

    pub(super) fn take(&mut self, event: &StoredEvent, problems: &mut Problems) {
        let before = self.status();
        let (place, Some(cells)) = self.stream.take(event, problems) else {
            return;
        };
        if place != Place::Move {
            return;
        }
        if cells.attempt.is_some() || cells.epoch.is_some() {
            let what = format!(
                "event {} ({}) carries numbers of a task",
                event.n, cells.kind
            );
            problems.add(Invariant::I7, what);
        }
        if let Err(error) = self.change(event, cells, before, problems) {
            let what = format!("the data of event {} ({}): {error}", event.n, cells.kind);
            self.stream.misfit(problems, Invariant::I5, what);
        }
    }

    fn change(
        &mut self,
        event: &StoredEvent,
        cells: &EventCells,
        before: Option<ExecutionStatus>,
        problems: &mut Problems,
    ) -> Result<(), String> {
        use EventType as E;
        if cells.kind == E::ExecutionCreated {
            let json = cells.data.as_deref().ok_or("it has none")?;
            let created: Created = serde_json::from_str(json).map_err(|error| error.to_string())?;
            self.priority = created.priority;
            self.created = Some(created);
            self.created_at = cells.at;
        }
        if cells.to == State::Execution(ExecutionStatus::Running) {
            self.started_at.get_or_insert(cells.at);
        }
        // Why it is stopped is said once: when it is asked to, or with the end if that is all.
        let stopping = before == Some(ExecutionStatus::Cancelling);
        let says_why = match cells.kind {
            E::ExecutionCancelling | E::ExecutionFailed => true,
            E::ExecutionCancelled | E::ExecutionTimedOut => !stopping,
            _ => false,
        };
        if cells.kind == E::ExecutionPriorityChanged {
            let json = cells.data.as_deref().ok_or("it has none")?;
            let Priority { from, to } =
                serde_json::from_str(json).map_err(|error| error.to_string())?;
            if from != self.priority {
                let before = self.priority;
                return Err(format!("the priority was {before} before, not {from}"));
            }
            self.priority = to;
            return Ok(());
        }
        if !says_why && cells.kind != E::ExecutionCreated && cells.data.is_some() {
            return Err("it should have none".to_owned());
        }
        if says_why {
            let json = cells.data.as_deref().ok_or("it has none")?;
            let because: Because = serde_json::from_str(json).map_err(|error| error.to_string())?;
            let is_failure = cells.kind == E::ExecutionFailed;
            if because.failed_task.is_some() != is_failure
                || because.stop_cause.is_some() == is_failure
            {
                return Err("it names a cause that does not go with the event".to_owned());
            }
            self.reason = Some(because.reason);
            self.stop_cause = because.stop_cause;
            self.failed_task = because.failed_task;
        }
        if cells.to.is_terminal() {
            self.closed_at = Some(cells.at);
            self.end_position = Some(event.position);
            let by_deadline = self.stop_cause.as_deref() == Some(StopCause::Deadline.as_str());
            if stopping && by_deadline != (cells.kind == E::ExecutionTimedOut) {
                let cause = self.stop_cause.as_deref().unwrap_or("nothing");
                let what = format!("it was stopped by {cause}, but ended with {}", cells.kind);
                problems.add(Invariant::I6, what);
            }
        }
        Ok(())
    }
}
