//! Everything about an execution, gathered from the store.

use abide_core::execution::Execution;
use abide_core::failure::Failure;
use abide_core::ids::{TaskKey, Timestamp, WorkerId};
use abide_core::status::{SubStatus, TaskStatus};
use abide_core::step::{StepEnd, StepKind, StepRecord, StepState};
use abide_store::{EndView, ExecutionView, Rollup, Store, StoreError, TaskTimes, WorkerRow};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{ExecutionRecord, TaskRecord};
use crate::client::estimate::Usual;
use crate::client::time::{Time, raw, time};

/// Open tasks that are shown.
const OPEN_SHOWN: usize = 20;

/// Failed tasks that are shown.
const FAILED_SHOWN: usize = 10;

/// Tasks read at a time.
const PAGE: u32 = 1000;

/// What is known of an execution, but for the tasks beyond the first of each kind.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Description {
    #[serde(flatten)]
    /// The execution.
    pub execution: ExecutionRecord,
    /// None once it has ended without completing.
    pub percent: Option<f64>,
    /// About how long it may still take, going by earlier executions.
    pub left_us: Option<i64>,
    /// How many tasks are in each state.
    pub task_counts: Vec<TaskCount>,
    /// The times of all tasks together.
    pub task_times: Times,
    /// What it was started with.
    pub input: Option<Box<RawValue>>,
    /// What it gave.
    pub output: Option<Box<RawValue>>,
    /// What failed it.
    pub error: Option<ErrorRecord>,
    /// Those that hold tasks of this execution.
    pub workers: Vec<WorkerRecord>,
    /// How many workers of the store are alive, whichever workflows they run.
    pub live_workers: usize,
    /// Tasks that run or could run, the first by number.
    pub open_tasks: Vec<TaskRecord>,
    /// Tasks that failed, the first by number.
    pub failed_tasks: Vec<TaskRecord>,
    /// What the only task of a durable function recorded.
    pub operations: Vec<OperationRecord>,
}

/// Tasks in the same state.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TaskCount {
    /// Their status.
    pub status: TaskStatus,
    /// What refines the status.
    pub sub_status: Option<SubStatus>,
    /// Whether they wait for a retry to fall due.
    pub retry_wait: bool,
    /// How many.
    pub tasks: u32,
}

/// Times of all tasks together.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Times {
    /// Ready and due.
    pub queued_us: i64,
    /// Holding a slot.
    pub active_us: i64,
    /// Waiting.
    pub deferred_us: i64,
    /// Waiting for a retry to fall due.
    pub retry_wait_us: i64,
}

/// The error that failed the execution.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ErrorRecord {
    /// The node whose error it is.
    pub node: Option<String>,
    #[serde(flatten)]
    /// The error.
    pub failure: Failure,
}

/// A worker.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct WorkerRecord {
    /// Its id.
    pub id: WorkerId,
    /// The host it runs on.
    pub host: Option<String>,
    /// Its process.
    pub pid: Option<u32>,
    /// When it started.
    pub started_at: Option<Time>,
    /// Until when its lease lasts.
    pub lease_until: Option<Time>,
    /// Whether it is alive.
    pub is_alive: bool,
}

/// A recorded operation of a durable function.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct OperationRecord {
    /// Its place in the order in which operations were built.
    pub number: u32,
    /// Its kind.
    pub kind: StepKind,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub state: OperationState,
    /// When its wait is over.
    pub due_at: Option<Time>,
    /// What it gave.
    pub result: Option<Box<RawValue>>,
    /// Why it failed.
    pub error: Option<Failure>,
}

/// How a recorded operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// It is waited for.
    Waiting,
    /// It has a result.
    Done,
    /// It ended with an error.
    Failed,
    /// It was waited for when the execution ended: nothing comes of it any more.
    Unfinished,
    /// It was answered with a signal that the code did not take.
    #[serde(rename = "given_back")]
    GivenBack,
}

impl OperationState {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            OperationState::Waiting => "waiting",
            OperationState::Done => "done",
            OperationState::Failed => "failed",
            OperationState::Unfinished => "unfinished",
            OperationState::GivenBack => "given back",
        }
    }
}

impl Description {
    /// Reads the rest.
    pub(crate) async fn read(
        store: &Store,
        view: &ExecutionView,
        rollup: &Rollup,
    ) -> Result<Description, StoreError> {
        let id = view.execution.id;
        let now = store.now();
        let (open_tasks, failed_tasks) = notable_tasks(store, &view.execution, rollup, now).await?;
        let workers = store.workers().await?;
        let live = store.live_workers().await?;
        let operations = match view.tasks {
            1 => store.steps(TaskKey::new(id, 1)).await?,
            _ => Vec::new(),
        };
        let end = store.end(id).await?;
        let output = end.as_ref().and_then(|end| end.output.as_ref());
        let execution = ExecutionRecord::new(view, now);
        let has_ended = execution.status.is_terminal();
        let operations = operations.into_iter();
        Ok(Description {
            left_us: Usual::of(store, view).await?.left_us(&execution),
            execution,
            percent: rollup.percent(view.execution.status),
            task_counts: task_counts(rollup),
            task_times: rollup.times().into(),
            input: store.input(id).await?.map(|input| raw(input.as_str())),
            output: output.map(|output| raw(output.as_str())),
            error: end.and_then(error_record),
            workers: holders(&open_tasks, &workers, |row| live.contains(&row.id)),
            live_workers: live.len(),
            open_tasks,
            failed_tasks,
            operations: operations
                .map(|step| OperationRecord::new(step, has_ended))
                .collect(),
        })
    }

    /// How many tasks have a status that satisfies `is`.
    pub fn count(&self, is: impl Fn(TaskStatus) -> bool) -> u32 {
        let counts = self.task_counts.iter().filter(|count| is(count.status));
        counts.map(|count| count.tasks).sum()
    }
}

fn task_counts(rollup: &Rollup) -> Vec<TaskCount> {
    let groups = rollup.groups.iter().map(|group| TaskCount {
        status: group.status,
        sub_status: group.sub_status,
        retry_wait: group.retry_wait,
        tasks: group.tasks,
    });
    groups.collect()
}

fn error_record(end: EndView) -> Option<ErrorRecord> {
    Some(ErrorRecord {
        failure: end.error?,
        node: end.failed_node,
    })
}

/// The first tasks that run or can run, and the first that failed. Reads no more pages than needed.
async fn notable_tasks(
    store: &Store,
    execution: &Execution,
    rollup: &Rollup,
    now: Timestamp,
) -> Result<(Vec<TaskRecord>, Vec<TaskRecord>), StoreError> {
    let is_open = |status| matches!(status, TaskStatus::Ready | TaskStatus::Running);
    let is_failed = |status| matches!(status, TaskStatus::Failed | TaskStatus::Abandoned);
    let open_wanted = rollup.count(|group| is_open(group.status)) as usize;
    let failed_wanted = rollup.count(|group| is_failed(group.status)) as usize;
    let (mut open, mut failed) = (Vec::new(), Vec::new());
    let mut after = 0;
    loop {
        let is_enough = open.len() >= open_wanted.min(OPEN_SHOWN)
            && failed.len() >= failed_wanted.min(FAILED_SHOWN);
        if is_enough {
            return Ok((open, failed));
        }
        let page = store.tasks(execution.id, after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok((open, failed));
        };
        after = last.task.key.number;
        for view in &page {
            let (status, _) = view.task.phase.status();
            if is_open(status) && open.len() < OPEN_SHOWN {
                open.push(TaskRecord::new(view, now));
            } else if is_failed(status) && failed.len() < FAILED_SHOWN {
                failed.push(TaskRecord::new(view, now));
            }
        }
    }
}

/// The workers that hold these tasks. For a worker that is no longer recorded, only the id is
/// known.
fn holders(
    tasks: &[TaskRecord],
    workers: &[WorkerRow],
    is_alive: impl Fn(&WorkerRow) -> bool,
) -> Vec<WorkerRecord> {
    let mut ids: Vec<WorkerId> = tasks.iter().filter_map(|task| task.worker).collect();
    ids.sort_unstable();
    ids.dedup();
    let holders = ids.into_iter().map(|id| {
        let row = workers.iter().find(|worker| worker.id == id);
        WorkerRecord {
            id,
            host: row.map(|row| row.host.clone()),
            pid: row.map(|row| row.pid),
            started_at: row.map(|row| Time(row.started_at)),
            lease_until: row.map(|row| Time(row.lease_until)),
            is_alive: row.is_some_and(&is_alive),
        }
    });
    holders.collect()
}

impl From<TaskTimes> for Times {
    fn from(times: TaskTimes) -> Times {
        Times {
            queued_us: times.queued_us,
            active_us: times.active_us,
            deferred_us: times.deferred_us,
            retry_wait_us: times.retry_wait_us,
        }
    }
}

impl OperationRecord {
    /// The record of an operation of an execution that has ended or not.
    fn new(step: StepRecord, has_ended: bool) -> OperationRecord {
        let state = match step.end.state() {
            StepState::Waiting if has_ended => OperationState::Unfinished,
            StepState::Waiting => OperationState::Waiting,
            StepState::Done => OperationState::Done,
            StepState::Failed => OperationState::Failed,
            StepState::GivenBack => OperationState::GivenBack,
        };
        let (due_at, result, error) = match step.end {
            StepEnd::Waiting { due_at } => (due_at, None, None),
            StepEnd::Done(payload) => (None, Some(raw(payload.as_str())), None),
            StepEnd::Failed(failure) => (None, None, Some(failure)),
            StepEnd::GivenBack => (None, None, None),
        };
        OperationRecord {
            number: step.id.number,
            kind: step.id.kind,
            name: step.id.name,
            state,
            due_at: time(due_at),
            result,
            error,
        }
    }
}
