//! All about an execution, gathered from the store.

use abide_core::execution::Execution;
use abide_core::failure::Failure;
use abide_core::ids::{TaskKey, Timestamp, WorkerId};
use abide_core::status::{SubStatus, TaskStatus};
use abide_core::step::{StepEnd, StepKind, StepRecord, StepState};
use abide_store::{EndView, ExecutionView, Rollup, Store, StoreError, TaskTimes, WorkerRow};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{ExecutionRecord, TaskRecord};
use crate::estimate::Usual;
use crate::output::json;
use crate::output::text::{Time, time};

/// Open tasks that are shown.
const OPEN_SHOWN: usize = 20;

/// Failed tasks that are shown.
const FAILED_SHOWN: usize = 10;

/// Tasks read at a time.
const PAGE: u32 = 1000;

/// What is known of an execution, but for the tasks beyond the first of each kind.
#[derive(Debug, Serialize)]
pub(crate) struct Description {
    #[serde(flatten)]
    pub(crate) execution: ExecutionRecord,
    pub(crate) percent: f64,
    /// About how long it may still take, going by earlier executions.
    pub(crate) left_us: Option<i64>,
    pub(crate) task_counts: Vec<TaskCount>,
    pub(crate) task_times: Times,
    pub(crate) input: Option<Box<RawValue>>,
    pub(crate) output: Option<Box<RawValue>>,
    pub(crate) error: Option<ErrorRecord>,
    /// Those that hold tasks of this execution.
    pub(crate) workers: Vec<WorkerRecord>,
    /// Workers of the store that are alive, whatever they do.
    pub(crate) live_workers: usize,
    /// Tasks that run or could run, the first by number.
    pub(crate) open_tasks: Vec<TaskRecord>,
    /// Tasks that failed, the first by number.
    pub(crate) failed_tasks: Vec<TaskRecord>,
    /// What the only task of a durable function recorded.
    pub(crate) operations: Vec<OperationRecord>,
}

/// Tasks in the same state.
#[derive(Debug, Serialize)]
pub(crate) struct TaskCount {
    pub(crate) status: TaskStatus,
    pub(crate) sub_status: Option<SubStatus>,
    pub(crate) retry_wait: bool,
    pub(crate) tasks: u32,
}

/// Times of all tasks together.
#[derive(Debug, Serialize)]
pub(crate) struct Times {
    pub(crate) queued_us: i64,
    pub(crate) active_us: i64,
    pub(crate) deferred_us: i64,
    pub(crate) retry_wait_us: i64,
}

/// The error that failed the execution.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorRecord {
    pub(crate) node: Option<String>,
    #[serde(flatten)]
    pub(crate) failure: Failure,
}

/// A worker.
#[derive(Debug, Serialize)]
pub(crate) struct WorkerRecord {
    pub(crate) id: WorkerId,
    pub(crate) host: Option<String>,
    pub(crate) pid: Option<u32>,
    pub(crate) started_at: Option<Time>,
    pub(crate) lease_until: Option<Time>,
    pub(crate) is_alive: bool,
}

/// A recorded operation of a durable function.
#[derive(Debug, Serialize)]
pub(crate) struct OperationRecord {
    pub(crate) number: u32,
    pub(crate) kind: StepKind,
    pub(crate) name: String,
    pub(crate) state: StepState,
    pub(crate) due_at: Option<Time>,
    pub(crate) result: Option<Box<RawValue>>,
    pub(crate) error: Option<Failure>,
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
        let execution = ExecutionRecord::new(view, rollup, now);
        Ok(Description {
            left_us: Usual::of(store, view).await?.left_us(&execution),
            execution,
            percent: rollup.percent(view.execution.status),
            task_counts: task_counts(rollup),
            task_times: rollup.times().into(),
            input: store
                .input(id)
                .await?
                .map(|input| json::raw(input.as_str())),
            output: output.map(|output| json::raw(output.as_str())),
            error: end.and_then(error_record),
            workers: holders(&open_tasks, &workers, |row| live.contains(&row.id)),
            live_workers: live.len(),
            open_tasks,
            failed_tasks,
            operations: operations.into_iter().map(OperationRecord::from).collect(),
        })
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

/// The first tasks that run or could run, and the first that failed. Looks no further than it must.
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

/// The workers that hold these tasks. One that is not on record any more is only an id.
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

impl From<StepRecord> for OperationRecord {
    fn from(step: StepRecord) -> OperationRecord {
        let state = step.end.state();
        let (due_at, result, error) = match step.end {
            StepEnd::Waiting { due_at } => (due_at, None, None),
            StepEnd::Done(payload) => (None, Some(json::raw(payload.as_str())), None),
            StepEnd::Failed(failure) => (None, None, Some(failure)),
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
