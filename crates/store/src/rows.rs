//! Rows: how executions, tasks, steps and timers are read from their columns, whichever database
//! they come from. A row that does not parse says what is wrong with it.

use std::fmt;
use std::sync::Arc;

use abide_core::event::EventType;
use abide_core::execution::Execution;
use abide_core::failure::Failure;
use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{Held, Latest, Notice};
use abide_core::payload::Payload;
use abide_core::status::{SubStatus, TaskStatus};
use abide_core::step::{StepEnd, StepId, StepRecord, StepState};
use abide_core::task::Task;
use abide_core::trigger::Ending;
use serde::Deserialize;

use crate::activity::Activity;
use crate::columns::{Column, Field};
use crate::error::StoreError;
use crate::health::Ready;
use crate::net::StepEnding;
use crate::rollup::{Rollup, TaskTimes};
use crate::tables;
use crate::views::{EventView, ExecutionView, TaskView, VersionInfo, WorkerRow, WorkflowKind};

/// Columns that are read together, in the order of whoever reads them.
#[derive(Clone, Copy)]
pub(crate) struct List(pub(crate) fn() -> Vec<&'static str>);

/// What an execution is read from.
pub(crate) const EXECUTION: List = List(|| read(tables::EXECUTION));

/// What a task is read from.
pub(crate) const TASK: List = List(|| read(tables::TASK));

/// What a recorded operation is read from.
pub(crate) const STEP: List = List(|| [read(tables::STEP_ID), read(tables::STEP_END)].concat());

/// What a timer is read from.
pub(crate) const TIMER: List = List(|| read(tables::TIMER));

/// What a recorded event is read from.
pub(crate) const EVENT: List = List(|| [vec!["position"], read(tables::EVENT)].concat());

/// What [`tally`] reads.
pub(crate) const TALLY: List = List(|| {
    let task = "status, sub_status, ready_at, changed_at, queued_us, active_us, deferred_us, retry_wait_us, progress";
    task.split(", ").collect()
});

fn read<T>(columns: &[Column<T>]) -> Vec<&'static str> {
    columns.iter().map(|column| column.head.name).collect()
}

impl List {
    #[cfg(feature = "postgres")]
    pub(crate) fn len(self) -> usize {
        self.0().len()
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0().join(", "))
    }
}

/// Columns of such a list, read from a table that goes by another name.
pub(crate) fn of(alias: &str, columns: List) -> String {
    let columns = columns.0().into_iter();
    let columns: Vec<String> = columns.map(|column| format!("{alias}.{column}")).collect();
    columns.join(", ")
}

/// What is read from the columns of a row.
pub(crate) trait FromColumns: Sized {
    /// Reads them from left to right.
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Self, C::Error>;
}

/// What one column holds.
impl<F: Field> FromColumns for F {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<F, C::Error> {
        F::read(columns)
    }
}

/// One after the other.
impl<A: FromColumns, B: FromColumns> FromColumns for (A, B) {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<(A, B), C::Error> {
        Ok((A::from_columns(columns)?, B::from_columns(columns)?))
    }
}

/// One after the other.
impl<A: FromColumns, B: FromColumns, D: FromColumns> FromColumns for (A, B, D) {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<(A, B, D), C::Error> {
        let (a, b) = FromColumns::from_columns(columns)?;
        Ok((a, b, D::from_columns(columns)?))
    }
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

    /// What is wrong with a row, if the error is about that and not about the database.
    fn content(error: Self::Error) -> Result<String, Self::Error>;

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

/// [`EXECUTION`], then the number of its [`Activity`], the workflow's name and version, the tags, the
/// number of tasks, the instance's latest generation and when the history was removed.
impl FromColumns for ExecutionView {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Self, C::Error> {
        let execution = Execution::from_columns(columns)?;
        let activity = Activity::of(columns.int()?);
        let (workflow, workflow_version) = (columns.text()?, columns.text()?);
        let tags = columns.read(|json| serde_json::from_str(json))?.transpose();
        Ok(ExecutionView {
            sub_status: activity.sub_status(execution.status),
            blocked_on: activity.blocked_on(),
            execution,
            workflow,
            workflow_version,
            tags: tags
                .map_err(|error| columns.mismatch(format!("tags: {error}")))?
                .unwrap_or_default(),
            tasks: columns.int()?,
            latest_generation: columns.int()?,
            history_pruned_at: columns.time_option()?,
        })
    }
}

/// [`TASK`], then the node, the error and the progress.
impl FromColumns for TaskView {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Self, C::Error> {
        let task = Task::from_columns(columns)?;
        let node = columns.text()?;
        Ok(TaskView {
            task,
            node,
            error: FromColumns::from_columns(columns)?,
            progress: columns.text_option()?,
        })
    }
}

/// A recorded operation.
impl FromColumns for StepRecord {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Self, C::Error> {
        let id = StepId::from_columns(columns)?;
        let StepEnding {
            state,
            ordinal,
            due_at,
            result,
        } = StepEnding::from_columns(columns)?;
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
            StepState::GivenBack => StepEnd::GivenBack,
        };
        Ok(StepRecord {
            id,
            end,
            order: ordinal,
        })
    }
}

fn failure<C: Columns>(columns: &C, json: &Payload) -> Result<Failure, C::Error> {
    serde_json::from_str(json.as_str())
        .map_err(|error| columns.mismatch(format!("stored error: {error}")))
}

/// A stored error.
impl FromColumns for Option<Failure> {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Self, C::Error> {
        let json = columns.payload()?;
        json.map(|json| failure(columns, &json)).transpose()
    }
}

/// A recorded event: its position, then the columns of [`EVENT`].
impl FromColumns for EventView {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Self, C::Error> {
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
}

/// A workflow version without its graph.
pub(crate) struct VersionRow {
    pub(crate) id: VersionId,
    name: String,
    version: String,
    kind: WorkflowKind,
    open_executions: u32,
}

impl FromColumns for VersionRow {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Self, C::Error> {
        Ok(VersionRow {
            id: VersionId::from_columns(columns)?,
            name: columns.text()?,
            version: columns.text()?,
            kind: columns.parse("kind of workflow", WorkflowKind::parse)?,
            open_executions: columns.int()?,
        })
    }
}

impl VersionRow {
    /// The version with its graph. None if that cannot be read: nothing can run the version.
    pub(crate) fn with(
        self,
        graph: Result<Arc<Graph>, StoreError>,
    ) -> Result<Option<VersionInfo>, StoreError> {
        let VersionRow {
            id,
            name,
            version,
            kind,
            open_executions,
        } = self;
        let graph = match graph {
            Err(error @ StoreError::Undecodable { .. }) => {
                tracing::error!(workflow = name, version, %error, "a workflow version is left aside");
                return Ok(None);
            }
            graph => graph?,
        };
        Ok(Some(VersionInfo {
            id,
            name,
            version,
            kind,
            graph,
            open_executions,
        }))
    }
}

/// A graph that is recorded for a workflow version. None if it cannot be read: nothing can run it.
pub(crate) struct RecordedGraph(pub(crate) Option<(WorkflowKind, Graph)>);

impl FromColumns for RecordedGraph {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Self, C::Error> {
        let kind = WorkflowKind::parse(&columns.text()?);
        let graph = columns.payload().ok().flatten();
        let graph = graph.and_then(|json| Graph::from_json(json.as_str()).ok());
        Ok(RecordedGraph(kind.zip(graph)))
    }
}

/// A queue, how many of its tasks could be claimed, and since when.
impl FromColumns for Ready {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Self, C::Error> {
        Ok(Ready {
            queue: VersionId::from_columns(columns)?,
            tasks: columns.int()?,
            oldest_at: columns.time_option()?,
        })
    }
}

/// A task: execution, number.
impl FromColumns for TaskKey {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Self, C::Error> {
        let execution = ExecutionId::from_columns(columns)?;
        Ok(TaskKey::new(execution, columns.int()?))
    }
}

/// A task that a worker holds: execution, number, epoch, worker.
impl FromColumns for Held {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Self, C::Error> {
        Ok(Held {
            key: TaskKey::from_columns(columns)?,
            epoch: columns.int()?,
            worker: WorkerId::from_columns(columns)?,
        })
    }
}

/// What a held task may have missed: execution, number, and whether its execution is stopping.
impl FromColumns for Notice {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Self, C::Error> {
        let key = TaskKey::from_columns(columns)?;
        let is_stopping = columns.int::<u8>()? != 0;
        Ok(match is_stopping {
            true => Notice::Stop(key),
            false => Notice::Wake(key),
        })
    }
}

/// The latest execution of an instance: id, generation, hash of the input.
impl FromColumns for Latest {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Self, C::Error> {
        Ok(Latest {
            id: ExecutionId::from_columns(columns)?,
            generation: columns.int()?,
            input_hash: columns.text()?,
        })
    }
}

/// A worker: id, host, process, start and end of the lease.
impl FromColumns for WorkerRow {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Self, C::Error> {
        Ok(WorkerRow {
            id: WorkerId(columns.int()?),
            host: columns.text()?,
            pid: columns.int()?,
            started_at: columns.time()?,
            lease_until: columns.time()?,
        })
    }
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
impl FromColumns for Ending {
    fn from_columns<C: Columns>(columns: &mut C) -> Result<Self, C::Error> {
        let ending = columns.read(|status| match TaskStatus::parse(status) {
            Some(TaskStatus::Completed) => Ending::Completed,
            Some(TaskStatus::Failed) => Ending::Failed,
            Some(TaskStatus::Abandoned) => Ending::Abandoned,
            Some(TaskStatus::Skipped) => Ending::Skipped,
            _ => Ending::Cancelled,
        });
        ending?.ok_or_else(|| columns.missing())
    }
}
