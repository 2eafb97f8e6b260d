//! Rows: how executions, tasks, steps and timers are read from their columns, whichever database
//! they come from. A row that does not parse says what is wrong with it.

use std::sync::Arc;

use abide_core::event::EventType;
use abide_core::execution::Execution;
use abide_core::failure::Failure;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::Held;
use abide_core::payload::Payload;
use abide_core::status::{ExecutionStatus, Phase, SubStatus, TaskStatus};
use abide_core::step::{StepEnd, StepId, StepKind, StepRecord, StepState};
use abide_core::task::Task;
use abide_core::timer::{Timer, TimerKind};
use abide_core::trigger::Ending;
use serde::Deserialize;

use crate::rollup::{Rollup, TaskTimes};
use crate::views::{EventView, ExecutionView, TaskView, WorkerRow};

/// The columns that [`execution`] reads, in its order.
pub(crate) const EXECUTION: &str = "id, instance, generation, workflow_version, status, reason, open, failed, \
     priority, start_at, deadline_at, grace_until, graph IS NOT NULL, version, created_at, started_at, closed_at, \
     changed_at";

/// The columns that [`task`] reads, in its order.
pub(crate) const TASK: &str = "execution, number, status, sub_status, attempt, epoch, crashes, crash_steps, worker, \
     waiting, unmet, ready_at, wake_at, wait, version, created_at, started_at, closed_at, changed_at, queued_us, \
     active_us, deferred_us, retry_wait_us";

/// The columns that [`step`] reads, in its order.
pub(crate) const STEP: &str = "number, kind, name, fingerprint, state, ordinal, due_at, result";

/// The columns that [`event`] reads, in its order.
pub(crate) const EVENT: &str = "position, execution, task, n, type, at, worker, attempt, epoch, actor, from_status, to_status, data";

/// The columns that [`tally`] reads, in its order.
pub(crate) const TALLY: &str = "status, sub_status, ready_at, changed_at, queued_us, active_us, deferred_us, retry_wait_us, progress";

/// Columns of such a list, read from a table that goes by another name.
pub(crate) fn of(alias: &str, columns: &str) -> String {
    let columns = columns
        .split(", ")
        .map(|column| format!("{alias}.{column}"));
    columns.collect::<Vec<_>>().join(", ")
}

/// Reads the columns of a row from left to right.
pub(crate) trait Columns {
    /// What a database's library says of a value that is not what was asked for.
    type Error;

    /// A number or NULL.
    fn number(&mut self) -> Result<Option<i64>, Self::Error>;

    /// A truth value.
    fn truth(&mut self) -> Result<bool, Self::Error>;

    /// A text or NULL, as `read` makes it of the borrowed one.
    fn read<R>(&mut self, read: impl FnOnce(&str) -> R) -> Result<Option<R>, Self::Error>;

    /// A payload column, wherever the payload is kept.
    fn payload(&mut self) -> Result<Option<Payload>, Self::Error>;

    /// The error for a value read last, which cannot be what its column says.
    fn mismatch(&self, detail: String) -> Self::Error;

    /// The error for NULL where there is none.
    fn missing(&self) -> Self::Error {
        self.mismatch("a value is missing".to_owned())
    }

    /// A number, as small as its type wants it.
    fn int<T: TryFrom<i64>>(&mut self) -> Result<T, Self::Error> {
        self.int_option()?.ok_or_else(|| self.missing())
    }

    /// Like [`Columns::int`] where NULL stands for none.
    fn int_option<T: TryFrom<i64>>(&mut self) -> Result<Option<T>, Self::Error> {
        let Some(number) = self.number()? else {
            return Ok(None);
        };
        match T::try_from(number) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(self.mismatch(format!("{number} is out of range"))),
        }
    }

    fn time(&mut self) -> Result<Timestamp, Self::Error> {
        self.int().map(Timestamp)
    }

    fn time_option(&mut self) -> Result<Option<Timestamp>, Self::Error> {
        Ok(self.int_option()?.map(Timestamp))
    }

    fn text(&mut self) -> Result<String, Self::Error> {
        self.text_option()?.ok_or_else(|| self.missing())
    }

    fn text_option(&mut self) -> Result<Option<String>, Self::Error> {
        self.read(str::to_owned)
    }

    /// A text that stands for a value.
    fn parse<T>(
        &mut self,
        what: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Self::Error> {
        self.parse_option(what, parse)?
            .ok_or_else(|| self.missing())
    }

    /// Like [`Columns::parse`] where NULL stands for none.
    fn parse_option<T>(
        &mut self,
        what: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Self::Error> {
        let read = self.read(|text| parse(text).ok_or_else(|| format!("`{text}` is no {what}")))?;
        read.transpose().map_err(|detail| self.mismatch(detail))
    }
}

pub(crate) fn execution<C: Columns>(columns: &mut C) -> Result<Execution, C::Error> {
    let id = ExecutionId(columns.int()?);
    let instance = columns.read(|text| Arc::from(text))?;
    Ok(Execution {
        id,
        instance: instance.ok_or_else(|| columns.missing())?,
        generation: columns.int_option()?,
        workflow: VersionId(columns.int()?),
        status: columns.parse("status of an execution", ExecutionStatus::parse)?,
        reason: columns.text_option()?,
        open: columns.int()?,
        failed: columns.int()?,
        priority: columns.int()?,
        start_at: columns.time_option()?,
        deadline_at: columns.time_option()?,
        grace_until: columns.time_option()?,
        own_graph: columns.truth()?,
        version: columns.int()?,
        created_at: columns.time()?,
        started_at: columns.time_option()?,
        closed_at: columns.time_option()?,
        changed_at: columns.time()?,
    })
}

/// [`EXECUTION`], then the workflow's name and version, the tags and the number of tasks.
pub(crate) fn execution_view<C: Columns>(columns: &mut C) -> Result<ExecutionView, C::Error> {
    let execution = execution(columns)?;
    let (workflow, workflow_version) = (columns.text()?, columns.text()?);
    let tags = columns.read(|json| serde_json::from_str(json))?.transpose();
    Ok(ExecutionView {
        execution,
        workflow,
        workflow_version,
        tags: tags
            .map_err(|error| columns.mismatch(format!("tags: {error}")))?
            .unwrap_or_default(),
        tasks: columns.int()?,
    })
}

pub(crate) fn task<C: Columns>(columns: &mut C) -> Result<Task, C::Error> {
    let key = TaskKey::new(ExecutionId(columns.int()?), columns.int()?);
    let status = columns.parse("status of a task", TaskStatus::parse)?;
    let sub_status = columns.parse_option("sub-status", SubStatus::parse)?;
    let attempt = columns.int()?;
    let epoch = columns.int()?;
    let crashes = columns.int()?;
    let crash_steps = columns.int()?;
    let worker = columns.int_option()?.map(WorkerId);
    let phase = Phase::of(status, sub_status, worker.is_some()).ok_or_else(|| {
        let sub_status = sub_status.map_or("none", SubStatus::as_str);
        columns.mismatch(format!(
            "status {status} with sub-status {sub_status} and worker {worker:?} is impossible"
        ))
    })?;
    Ok(Task {
        key,
        phase,
        attempt,
        epoch,
        crashes,
        crash_steps,
        worker,
        waiting: columns.int()?,
        unmet: columns.int()?,
        ready_at: columns.time_option()?,
        wake_at: columns.time_option()?,
        wait: columns.text_option()?,
        version: columns.int()?,
        created_at: columns.time()?,
        started_at: columns.time_option()?,
        closed_at: columns.time_option()?,
        changed_at: columns.time()?,
        queued_us: columns.int()?,
        active_us: columns.int()?,
        deferred_us: columns.int()?,
        retry_wait_us: columns.int()?,
    })
}

/// [`TASK`], then the node, the error and the progress.
pub(crate) fn task_view<C: Columns>(columns: &mut C) -> Result<TaskView, C::Error> {
    let task = task(columns)?;
    let node = columns.text()?;
    Ok(TaskView {
        task,
        node,
        error: failure_option(columns)?,
        progress: columns.text_option()?,
    })
}

/// A recorded operation.
pub(crate) fn step<C: Columns>(columns: &mut C) -> Result<StepRecord, C::Error> {
    let id = StepId {
        number: columns.int()?,
        kind: columns.parse("kind of operation", StepKind::parse)?,
        name: columns.text()?,
        fingerprint: columns.text_option()?,
    };
    let state = columns.parse("state of an operation", StepState::parse)?;
    let order = columns.int()?;
    let due_at = columns.time_option()?;
    let result = columns.payload()?;
    let missing = || {
        columns.mismatch(format!(
            "operation {} is {state} without a result",
            id.number
        ))
    };
    let end = match state {
        StepState::Waiting => StepEnd::Waiting { due_at },
        StepState::Done => StepEnd::Done(result.ok_or_else(missing)?),
        StepState::Failed => StepEnd::Failed(failure(columns, &result.ok_or_else(missing)?)?),
    };
    Ok(StepRecord { id, end, order })
}

fn failure<C: Columns>(columns: &C, json: &Payload) -> Result<Failure, C::Error> {
    serde_json::from_str(json.as_str())
        .map_err(|error| columns.mismatch(format!("stored error: {error}")))
}

/// A stored error.
pub(crate) fn failure_option<C: Columns>(columns: &mut C) -> Result<Option<Failure>, C::Error> {
    let json = columns.payload()?;
    json.map(|json| failure(columns, &json)).transpose()
}

/// A timer, from all of its columns.
pub(crate) fn timer<C: Columns>(columns: &mut C) -> Result<Timer, C::Error> {
    let due_at = columns.time()?;
    let kind = columns.int()?;
    Ok(Timer {
        due_at,
        kind: TimerKind::from_code(kind)
            .ok_or_else(|| columns.mismatch(format!("{kind} is no kind of timer")))?,
        execution: ExecutionId(columns.int()?),
        task: columns.int()?,
        from: columns.int()?,
    })
}

/// A recorded event.
pub(crate) fn event<C: Columns>(columns: &mut C) -> Result<EventView, C::Error> {
    let position = columns.int()?;
    let execution = ExecutionId(columns.int()?);
    let (task, n) = (columns.int()?, columns.int()?);
    let code = columns.int()?;
    let kind = EventType::from_code(code)
        .ok_or_else(|| columns.mismatch(format!("{code} is no event type")))?;
    Ok(EventView {
        position,
        execution,
        task,
        n,
        kind: kind.as_str(),
        at: columns.time()?,
        worker: columns.int_option()?.map(WorkerId),
        attempt: columns.int_option()?,
        epoch: columns.int_option()?,
        actor: columns.text_option()?,
        from: columns.text_option()?,
        to: columns.text()?,
        data: columns.text_option()?,
    })
}

/// A task that a worker holds: execution, number, epoch.
pub(crate) fn held<C: Columns>(columns: &mut C, worker: WorkerId) -> Result<Held, C::Error> {
    Ok(Held {
        key: TaskKey::new(ExecutionId(columns.int()?), columns.int()?),
        epoch: columns.int()?,
        worker,
    })
}

/// A worker: id, host, process, start and end of the lease.
pub(crate) fn worker<C: Columns>(columns: &mut C) -> Result<WorkerRow, C::Error> {
    Ok(WorkerRow {
        id: WorkerId(columns.int()?),
        host: columns.text()?,
        pid: columns.int()?,
        started_at: columns.time()?,
        lease_until: columns.time()?,
    })
}

/// The part of a reported progress that adds up.
#[derive(Deserialize)]
struct Reported {
    percent: f64,
}

/// Adds a task, as it is `now`, to the sum of its execution's tasks.
pub(crate) fn tally<C: Columns>(
    columns: &mut C,
    rollup: &mut Rollup,
    now: Timestamp,
) -> Result<(), C::Error> {
    let status = columns.parse("status of a task", TaskStatus::parse)?;
    let sub_status = columns.parse_option("sub-status", SubStatus::parse)?;
    let (ready_at, changed_at) = (columns.time_option()?, columns.time()?);
    let mut times = TaskTimes {
        queued_us: columns.int()?,
        active_us: columns.int()?,
        deferred_us: columns.int()?,
        retry_wait_us: columns.int()?,
    };
    times.add_current(status, sub_status, changed_at, ready_at, now);
    let retry_wait = status == TaskStatus::Ready && ready_at.is_some_and(|due| due > now);
    // What a task reported is no reason to refuse the whole answer.
    let reported = columns.read(|json| serde_json::from_str::<Reported>(json).ok())?;
    let percent = reported.flatten().map_or(0.0, |reported| reported.percent);
    rollup.add(status, sub_status, retry_wait, times, percent);
    Ok(())
}

/// How a dependency ended, from its status.
pub(crate) fn ending(status: &str) -> Ending {
    match TaskStatus::parse(status) {
        Some(TaskStatus::Completed) => Ending::Completed,
        Some(TaskStatus::Failed) => Ending::Failed,
        Some(TaskStatus::Abandoned) => Ending::Abandoned,
        Some(TaskStatus::Skipped) => Ending::Skipped,
        _ => Ending::Cancelled,
    }
}
