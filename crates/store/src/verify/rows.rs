//! Rows as verification reads them: statuses stay texts, so that it can say what stands there, and
//! a row whose key can be read is never lost because another column cannot.

use abide_core::event::EventType;
use abide_core::status::{ExecutionStatus, Phase};
use abide_core::step::{StepKind, StepState};
use rusqlite::Row;
use rusqlite::types::FromSql;

use super::cursor::Keyed;
use super::spent::Spent;

/// A row's columns but for its key, or what is wrong with them.
pub(super) type Cells<T> = Result<T, String>;

/// Reads columns by name.
struct Read<'a, 'r>(&'a Row<'r>);

impl Read<'_, '_> {
    fn get<T: FromSql>(&self, column: &str) -> Cells<T> {
        self.0
            .get(column)
            .map_err(|error| format!("its column {column} cannot be read: {error}"))
    }
}

pub(super) const EXECUTIONS: &str = "SELECT id, instance, workflow_version, generation, status, reason, stop_cause, \
     failed_task, open, failed, priority, start_at, deadline_at, grace_until, graph, input, tags, version, created_at, started_at, \
     closed_at, changed_at, history_pruned_at FROM executions ORDER BY id";

pub(super) struct StoredExecution {
    pub(super) id: i64,
    pub(super) cells: Cells<ExecutionCells>,
}

pub(super) struct ExecutionCells {
    pub(super) instance: String,
    pub(super) workflow: i64,
    pub(super) generation: Option<i64>,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) stop_cause: Option<String>,
    pub(super) failed_task: Option<u32>,
    pub(super) open: u32,
    pub(super) failed: u32,
    pub(super) priority: i16,
    pub(super) start_at: Option<i64>,
    pub(super) deadline_at: Option<i64>,
    pub(super) grace_until: Option<i64>,
    pub(super) graph: Option<String>,
    pub(super) input: Option<String>,
    pub(super) tags: Option<String>,
    pub(super) version: u32,
    pub(super) created_at: i64,
    pub(super) started_at: Option<i64>,
    pub(super) closed_at: Option<i64>,
    pub(super) changed_at: i64,
    pub(super) history_pruned_at: Option<i64>,
}

pub(super) fn execution(row: &Row<'_>) -> rusqlite::Result<StoredExecution> {
    let read = Read(row);
    let cells = || -> Cells<ExecutionCells> {
        Ok(ExecutionCells {
            instance: read.get("instance")?,
            workflow: read.get("workflow_version")?,
            generation: read.get("generation")?,
            status: read.get("status")?,
            reason: read.get("reason")?,
            stop_cause: read.get("stop_cause")?,
            failed_task: read.get("failed_task")?,
            open: read.get("open")?,
            failed: read.get("failed")?,
            priority: read.get("priority")?,
            start_at: read.get("start_at")?,
            deadline_at: read.get("deadline_at")?,
            grace_until: read.get("grace_until")?,
            graph: read.get("graph")?,
            input: read.get("input")?,
            tags: read.get("tags")?,
            version: read.get("version")?,
            created_at: read.get("created_at")?,
            started_at: read.get("started_at")?,
            closed_at: read.get("closed_at")?,
            changed_at: read.get("changed_at")?,
            history_pruned_at: read.get("history_pruned_at")?,
        })
    };
    Ok(StoredExecution {
        id: row.get(0)?,
        cells: cells(),
    })
}

pub(super) const TASKS: &str = "SELECT * FROM task_executions ORDER BY execution, number";

pub(super) struct StoredTask {
    execution: i64,
    number: u32,
    pub(super) cells: Cells<TaskCells>,
}

pub(super) struct TaskCells {
    pub(super) node: String,
    pub(super) status: String,
    pub(super) sub_status: Option<String>,
    pub(super) attempt: u32,
    pub(super) epoch: u32,
    pub(super) crashes: u32,
    pub(super) crash_steps: u32,
    pub(super) worker: Option<i64>,
    pub(super) waiting: u32,
    pub(super) unmet: u32,
    pub(super) ready_at: Option<i64>,
    pub(super) wake_at: Option<i64>,
    pub(super) next_order: Option<u32>,
    pub(super) wait: Option<String>,
    pub(super) version: u32,
    pub(super) created_at: i64,
    pub(super) started_at: Option<i64>,
    pub(super) closed_at: Option<i64>,
    pub(super) changed_at: i64,
    pub(super) spent: Spent,
    pub(super) input: Option<String>,
    pub(super) output: Option<String>,
    pub(super) changes: Option<String>,
    pub(super) checkpoint: Option<String>,
    pub(super) error: Option<String>,
    pub(super) progress: Option<String>,
}

pub(super) fn task(row: &Row<'_>) -> rusqlite::Result<StoredTask> {
    let read = Read(row);
    let cells = || -> Cells<TaskCells> {
        Ok(TaskCells {
            node: read.get("node")?,
            status: read.get("status")?,
            sub_status: read.get("sub_status")?,
            attempt: read.get("attempt")?,
            epoch: read.get("epoch")?,
            crashes: read.get("crashes")?,
            crash_steps: read.get("crash_steps")?,
            worker: read.get("worker")?,
            waiting: read.get("waiting")?,
            unmet: read.get("unmet")?,
            ready_at: read.get("ready_at")?,
            wake_at: read.get("wake_at")?,
            next_order: read.get("next_order")?,
            wait: read.get("wait")?,
            version: read.get("version")?,
            created_at: read.get("created_at")?,
            started_at: read.get("started_at")?,
            closed_at: read.get("closed_at")?,
            changed_at: read.get("changed_at")?,
            spent: Spent::read(|column| read.get(column))?,
            input: read.get("input")?,
            output: read.get("output")?,
            changes: read.get("changes")?,
            checkpoint: read.get("checkpoint")?,
            error: read.get("error")?,
            progress: read.get("progress")?,
        })
    };
    Ok(StoredTask {
        execution: row.get(0)?,
        number: row.get(1)?,
        cells: cells(),
    })
}

// Relies on execution_events_stream.
pub(super) const EVENTS: &str = "SELECT execution, task, n, position, type, at, worker, attempt, epoch, actor, \
     from_status, to_status, data FROM execution_events ORDER BY execution, task, n";

/// An entry of a stream.
pub(super) struct StoredEvent {
    execution: i64,
    task: u32,
    pub(super) n: u32,
    pub(super) position: i64,
    pub(super) cells: Cells<EventCells>,
}

pub(super) struct EventCells {
    pub(super) kind: EventType,
    pub(super) at: i64,
    pub(super) worker: Option<i64>,
    pub(super) attempt: Option<u32>,
    pub(super) epoch: Option<u32>,
    pub(super) from: Option<State>,
    pub(super) to: State,
    pub(super) data: Option<String>,
}

/// A state as an event names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Of an execution.
    Execution(ExecutionStatus),
    /// Of a task.
    Task(Phase),
}

impl State {
    fn parse(task: u32, text: &str) -> Cells<State> {
        let state = match task {
            0 => ExecutionStatus::parse(text).map(State::Execution),
            _ => Phase::parse(text).map(State::Task),
        };
        state.ok_or_else(|| format!("`{}` is no state", text.escape_debug()))
    }

    pub(super) fn is_terminal(self) -> bool {
        match self {
            State::Execution(status) => status.is_terminal(),
            State::Task(phase) => phase.is_terminal(),
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            State::Execution(status) => status.fmt(f),
            State::Task(phase) => phase.fmt(f),
        }
    }
}

pub(super) fn event(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    let read = Read(row);
    let task: u32 = row.get(1)?;
    let cells = || -> Cells<EventCells> {
        let code: i64 = read.get("type")?;
        let kind = EventType::from_code(code).ok_or_else(|| format!("{code} is no type"))?;
        let text = |column: &str| {
            let text = row.get_ref(column).map_err(|error| error.to_string())?;
            text.as_str_or_null()
                .map_err(|error| format!("its column {column} cannot be read: {error}"))
        };
        let from = text("from_status")?.map(|text| State::parse(task, text));
        let to = text("to_status")?.ok_or("it leads nowhere")?;
        Ok(EventCells {
            kind,
            at: read.get("at")?,
            worker: read.get("worker")?,
            attempt: read.get("attempt")?,
            epoch: read.get("epoch")?,
            from: from.transpose()?,
            to: State::parse(task, to)?,
            data: read.get("data")?,
        })
    };
    Ok(StoredEvent {
        execution: row.get(0)?,
        task,
        n: row.get(2)?,
        position: row.get(3)?,
        cells: cells(),
    })
}

pub(super) const STEPS: &str = "SELECT execution, task, number, kind, name, state, ordinal, due_at, result \
     FROM steps ORDER BY execution, task, number";

pub(super) struct StoredStep {
    execution: i64,
    task: u32,
    pub(super) number: u32,
    pub(super) cells: Cells<StepCells>,
}

pub(super) struct StepCells {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) ordinal: u32,
    pub(super) due_at: Option<i64>,
    pub(super) result: Option<String>,
}

impl StoredStep {
    /// Whether it is a wait for a signal that is over.
    pub(super) fn is_read_signal(&self) -> bool {
        let cells = self.cells.as_ref();
        cells.is_ok_and(|cells| cells.reads(&cells.name))
    }
}

impl StepCells {
    /// Whether it is a wait for a signal of that name that is over.
    pub(super) fn reads(&self, name: &str) -> bool {
        let done = self.state == StepState::Done.as_str();
        done && self.kind == StepKind::Signal.as_str() && self.name == name
    }
}

pub(super) fn step(row: &Row<'_>) -> rusqlite::Result<StoredStep> {
    let read = Read(row);
    let cells = || -> Cells<StepCells> {
        Ok(StepCells {
            kind: read.get("kind")?,
            name: read.get("name")?,
            state: read.get("state")?,
            ordinal: read.get("ordinal")?,
            due_at: read.get("due_at")?,
            result: read.get("result")?,
        })
    };
    Ok(StoredStep {
        execution: row.get(0)?,
        task: row.get(1)?,
        number: row.get(2)?,
        cells: cells(),
    })
}

// Relies on signals_read for most of the order.
pub(super) const READS: &str = "SELECT read_execution, read_task, read_operation, instance, name, number, payload \
     FROM signals WHERE read_execution IS NOT NULL ORDER BY read_execution, read_task, read_operation, number";

/// A signal that was read, and the operation that read it.
pub(super) struct StoredRead {
    execution: i64,
    task: u32,
    pub(super) operation: u32,
    pub(super) instance: String,
    pub(super) name: String,
    pub(super) number: i64,
    pub(super) payload: String,
}

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<StoredRead> {
    Ok(StoredRead {
        execution: row.get(0)?,
        task: row.get(1)?,
        operation: row.get(2)?,
        instance: row.get(3)?,
        name: row.get(4)?,
        number: row.get(5)?,
        payload: row.get(6)?,
    })
}

// The outbox and the timers have no index by execution: they are sorted, on disk if they are many.
pub(super) const OUTBOX: &str = "SELECT execution, task, worker, queue, -rank, ready_at FROM task_outbox \
     ORDER BY execution, task, worker";

#[derive(Clone, Copy)]
pub(super) struct StoredOutbox {
    execution: i64,
    task: u32,
    /// 0: anyone.
    pub(super) worker: i64,
    pub(super) queue: i64,
    pub(super) priority: i64,
    pub(super) ready_at: i64,
}

pub(super) fn outbox(row: &Row<'_>) -> rusqlite::Result<StoredOutbox> {
    Ok(StoredOutbox {
        execution: row.get(0)?,
        task: row.get(1)?,
        worker: row.get(2)?,
        queue: row.get(3)?,
        priority: row.get(4)?,
        ready_at: row.get(5)?,
    })
}

pub(super) const TIMERS: &str = "SELECT execution, task, kind, due_at, piece FROM timers \
     ORDER BY execution, task, kind, due_at";

#[derive(Clone, Copy)]
pub(super) struct StoredTimer {
    execution: i64,
    task: u32,
    pub(super) kind: i64,
    pub(super) due_at: i64,
    pub(super) piece: u32,
}

pub(super) fn timer(row: &Row<'_>) -> rusqlite::Result<StoredTimer> {
    Ok(StoredTimer {
        execution: row.get(0)?,
        task: row.get(1)?,
        kind: row.get(2)?,
        due_at: row.get(3)?,
        piece: row.get(4)?,
    })
}

macro_rules! keyed {
    ($($name:ty: $execution:ident, $task:expr;)+) => { $(impl Keyed for $name {
        fn execution(&self) -> i64 { self.$execution }
        fn task(&self) -> u32 { let task: fn(&$name) -> u32 = $task; task(self) }
    })+ };
}
keyed! {
    StoredExecution: id, |_| 0;
    StoredTask: execution, |row| row.number;
    StoredEvent: execution, |row| row.task;
    StoredStep: execution, |row| row.task;
    StoredRead: execution, |row| row.task;
    StoredOutbox: execution, |row| row.task;
    StoredTimer: execution, |row| row.task;
}
