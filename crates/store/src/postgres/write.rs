//! Writes what a flush came to, as few statements over sets: each changed row once, then everything
//! else. Decides nothing and runs nothing: whoever holds the executions' locks does.

use std::borrow::Cow;
use std::hash::Hash;
use std::sync::LazyLock;

use abide_core::event::Event;
use abide_core::execution::Execution;
use abide_core::ids::{TaskKey, Timestamp};
use abide_core::kernel::{
    Change, Effects, NewExecutionRow, NewTaskRow, OutboxRow, Row, SignalRead, SignalWrite, TaskEnd,
};
use abide_core::payload::Payload;
use abide_core::task::Task;
use abide_core::timer::Timer;
use rustc_hash::FxHashMap;

use crate::error::StoreError;

use super::columns::{
    Column, ROWS_AT_ONCE, also, arrays, insert, int, names, on, plainly, text, unnest, update,
};
use super::statement::Statement;
use super::write_steps;

/// The statements that write everything, in order. Nothing to write makes no statement.
pub(crate) fn statements<'a>(
    now: Timestamp,
    executions: &'a [Row<Execution>],
    tasks: &'a [Row<Task>],
    effects: &'a Effects,
) -> Result<Vec<Statement<'a>>, StoreError> {
    let mut statements = Vec::new();
    write_executions(&mut statements, executions, &effects.new_executions);
    write_tasks(&mut statements, tasks, effects)?;
    write_events(&mut statements, &effects.events);
    statements.extend(outbox(&effects.outbox));
    statements.extend(timers(&effects.timers));
    write_signals(&mut statements, &effects.signals, &effects.signals_read);
    write_steps::write(&mut statements, now, &effects.steps)?;
    Ok(statements)
}

/// One statement for every so many rows.
pub(super) fn push<'a, T>(
    statements: &mut Vec<Statement<'a>>,
    sql: &'static str,
    columns: &[Column<'a, T>],
    rows: &mut [T],
) {
    for rows in rows.chunks_mut(ROWS_AT_ONCE) {
        statements.push(Statement::new(sql, arrays(columns, rows)));
    }
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Internal(error.to_string()))
}

pub(super) fn time(time: Option<Timestamp>) -> Option<i64> {
    time.map(|time| time.0)
}

fn payload(payload: &Payload) -> Cow<'_, str> {
    Cow::Borrowed(payload.as_str())
}

struct ExecutionRow<'a> {
    row: &'a Execution,
    cold: Option<&'a NewExecutionRow>,
}

/// What an execution's moves change, and its key.
fn execution_state<'a>() -> Vec<Column<'a, ExecutionRow<'a>>> {
    vec![
        int("id", |e| Some(e.row.id.0)),
        int("generation", |e| e.row.generation.map(i64::from)),
        text("status", |e| Some(e.row.status.as_str().into())),
        text("reason", |e| e.row.reason.as_deref().map(Cow::Borrowed)),
        int("open", |e| Some(e.row.open.into())),
        int("failed", |e| Some(e.row.failed.into())),
        int("grace_until", |e| time(e.row.grace_until)),
        int("version", |e| Some(e.row.version.into())),
        int("started_at", |e| time(e.row.started_at)),
        int("closed_at", |e| time(e.row.closed_at)),
        int("changed_at", |e| Some(e.row.changed_at.0)),
    ]
}

fn new_execution<'a>() -> Vec<Column<'a, ExecutionRow<'a>>> {
    also(
        execution_state(),
        vec![
            text("instance", |e| Some(Cow::Borrowed(&*e.row.instance))),
            int("workflow_version", |e| Some(e.row.workflow.0)),
            int("priority", |e| Some(e.row.priority.into())),
            int("start_at", |e| time(e.row.start_at)),
            int("deadline_at", |e| time(e.row.deadline_at)),
            int("created_at", |e| Some(e.row.created_at.0)),
            text("graph", |e| {
                let graph = e.cold?.graph.as_ref()?;
                Some(Cow::Owned(graph.to_json()))
            }),
            text("input", |e| e.cold?.input.as_ref().map(payload)),
            text("input_hash", |e| Some(Cow::Borrowed(&*e.cold?.input_hash))),
            text("tags", |e| e.cold?.tags.as_deref().map(Cow::Borrowed)),
        ],
    )
}

fn write_executions<'a>(
    statements: &mut Vec<Statement<'a>>,
    rows: &'a [Row<Execution>],
    new: &'a [NewExecutionRow],
) {
    static INSERT: LazyLock<String> = LazyLock::new(|| insert("executions", &new_execution()));
    static UPDATE: LazyLock<String> =
        LazyLock::new(|| update("executions", &execution_state(), &["id"], plainly));
    let cold: FxHashMap<_, _> = new.iter().map(|row| (row.id, row)).collect();
    let row = |row: &'a Row<Execution>| ExecutionRow {
        row: &row.value,
        cold: row.new.then(|| cold[&row.value.id]),
    };
    let (mut new, mut known): (Vec<_>, Vec<_>) =
        rows.iter().map(row).partition(|e| e.cold.is_some());
    // Two flushes that insert the same instances wait for each other in one order.
    new.sort_by_key(|e| (&*e.row.instance, e.row.generation));
    push(statements, &INSERT, &new_execution(), &mut new);
    push(statements, &UPDATE, &execution_state(), &mut known);
}

/// A task as far as it is written: its row, what its attempts ended with, or both.
struct TaskRow<'a> {
    key: TaskKey,
    row: Option<&'a Task>,
    cold: Option<&'a NewTaskRow>,
    end: End<'a>,
}

impl<'a> TaskRow<'a> {
    fn row(&self) -> &'a Task {
        self.row.expect("state is written of rows that have one")
    }
}

/// What the ends of a task's attempts and its reports within one flush come to.
#[derive(Default)]
struct End<'a> {
    /// An attempt ended: its columns take the place of those before, though NULL.
    ended: bool,
    output: Option<&'a Payload>,
    changes: Option<String>,
    checkpoint: Option<&'a Payload>,
    error: Option<String>,
    progress: Option<&'a str>,
}

const TASK_KEY: &[&str] = &["execution", "number"];

fn task_key<'a>() -> Vec<Column<'a, TaskRow<'a>>> {
    vec![
        int("execution", |t| Some(t.key.execution.0)),
        int("number", |t| Some(t.key.number.into())),
    ]
}

/// What a task's moves change.
fn task_state<'a>() -> Vec<Column<'a, TaskRow<'a>>> {
    also(
        task_key(),
        vec![
            text("status", |t| Some(t.row().phase.status().0.as_str().into())),
            text("sub_status", |t| {
                t.row().phase.status().1.map(|sub| sub.as_str().into())
            }),
            int("attempt", |t| Some(t.row().attempt.into())),
            int("epoch", |t| Some(t.row().epoch.into())),
            int("crashes", |t| Some(t.row().crashes.into())),
            int("crash_steps", |t| Some(t.row().crash_steps.into())),
            int("worker", |t| t.row().worker.map(|worker| worker.0)),
            int("waiting", |t| Some(t.row().waiting.into())),
            int("unmet", |t| Some(t.row().unmet.into())),
            int("ready_at", |t| time(t.row().ready_at)),
            int("wake_at", |t| time(t.row().wake_at)),
            text("wait", |t| t.row().wait.as_deref().map(Cow::Borrowed)),
            int("version", |t| Some(t.row().version.into())),
            int("started_at", |t| time(t.row().started_at)),
            int("closed_at", |t| time(t.row().closed_at)),
            int("changed_at", |t| Some(t.row().changed_at.0)),
            int("queued_us", |t| Some(t.row().queued_us)),
            int("active_us", |t| Some(t.row().active_us)),
            int("deferred_us", |t| Some(t.row().deferred_us)),
            int("retry_wait_us", |t| Some(t.row().retry_wait_us)),
        ],
    )
}

fn new_task<'a>() -> Vec<Column<'a, TaskRow<'a>>> {
    also(
        task_state(),
        vec![
            text("node", |t| Some(t.cold?.graph.node_id(t.key.number).into())),
            int("created_at", |t| Some(t.row().created_at.0)),
            text("input", |t| t.cold?.input.as_ref().map(payload)),
        ],
    )
}

/// What ends and reports set, beside other columns.
fn with_end<'a>(columns: Vec<Column<'a, TaskRow<'a>>>) -> Vec<Column<'a, TaskRow<'a>>> {
    also(
        columns,
        vec![
            int("ended", |t| Some(t.end.ended.into())),
            text("output", |t| t.end.output.map(payload)),
            text("changes", |t| t.end.changes.take().map(Cow::Owned)),
            text("checkpoint", |t| t.end.checkpoint.map(payload)),
            text("error", |t| t.end.error.take().map(Cow::Owned)),
            text("progress", |t| t.end.progress.map(Cow::Borrowed)),
        ],
    )
}

fn set_end(name: &str) -> String {
    match name {
        "ended" => String::new(),
        // A column that stays keeps its value out of line where it is.
        "output" | "changes" | "checkpoint" => {
            format!("{name} = CASE u.ended WHEN 1 THEN u.{name} ELSE t.{name} END")
        }
        "error" | "progress" => format!("{name} = coalesce(u.{name}, t.{name})"),
        name => plainly(name),
    }
}

/// A row that changes and whose attempt ended is written once, so that it leaves one dead version.
fn write_tasks<'a>(
    statements: &mut Vec<Statement<'a>>,
    rows: &'a [Row<Task>],
    effects: &'a Effects,
) -> Result<(), StoreError> {
    static INSERT: LazyLock<String> = LazyLock::new(|| insert("task_executions", &new_task()));
    static MOVE: LazyLock<String> =
        LazyLock::new(|| update("task_executions", &task_state(), TASK_KEY, plainly));
    static MOVE_AND_END: LazyLock<String> = LazyLock::new(|| {
        update(
            "task_executions",
            &with_end(task_state()),
            TASK_KEY,
            set_end,
        )
    });
    static END: LazyLock<String> =
        LazyLock::new(|| update("task_executions", &with_end(task_key()), TASK_KEY, set_end));
    let cold: FxHashMap<_, _> = effects.new_tasks.iter().map(|row| (row.key, row)).collect();
    let mut ends = ends(&effects.task_ends, &effects.progress)?;
    let (mut new, mut moved, mut moved_and_ended) = (Vec::new(), Vec::new(), Vec::new());
    for Row {
        value, new: is_new, ..
    } in rows
    {
        let mut row = TaskRow {
            key: value.key,
            row: Some(value),
            cold: is_new.then(|| cold[&value.key]),
            end: End::default(),
        };
        if *is_new {
            new.push(row);
        } else if let Some(end) = ends.remove(&value.key) {
            row.end = end;
            moved_and_ended.push(row);
        } else {
            moved.push(row);
        }
    }
    let alone = |(key, end)| TaskRow {
        key,
        row: None,
        cold: None,
        end,
    };
    let mut ended: Vec<_> = ends.into_iter().map(alone).collect();
    ended.sort_unstable_by_key(|row| row.key);
    push(statements, &INSERT, &new_task(), &mut new);
    push(statements, &MOVE, &task_state(), &mut moved);
    push(
        statements,
        &MOVE_AND_END,
        &with_end(task_state()),
        &mut moved_and_ended,
    );
    push(statements, &END, &with_end(task_key()), &mut ended);
    Ok(())
}

/// Later ends replace earlier ones, but for an error, which stays until there is another.
fn ends<'a>(
    ends: &'a [(TaskKey, TaskEnd)],
    progress: &'a [(TaskKey, String)],
) -> Result<FxHashMap<TaskKey, End<'a>>, StoreError> {
    let mut folded: FxHashMap<TaskKey, End<'a>> = FxHashMap::default();
    for (key, end) in ends {
        let TaskEnd {
            output,
            changes,
            checkpoint,
            error,
        } = end;
        if output.is_none() && changes.is_none() && checkpoint.is_none() && error.is_none() {
            continue;
        }
        let into = folded.entry(*key).or_default();
        into.ended = true;
        into.output = output.as_ref();
        into.changes = changes.as_ref().map(json).transpose()?;
        into.checkpoint = checkpoint.as_ref();
        if let Some(error) = error {
            into.error = Some(json(error)?);
        }
    }
    for (key, value) in progress {
        folded.entry(*key).or_default().progress = Some(value);
    }
    Ok(folded)
}

fn event<'a>() -> Vec<Column<'a, &'a Event>> {
    vec![
        int("execution", |e| Some(e.execution.0)),
        int("task", |e| Some(e.task.into())),
        int("n", |e| Some(e.n.into())),
        int("type", |e| Some(e.kind.code())),
        int("at", |e| Some(e.at.0)),
        int("worker", |e| e.worker.map(|worker| worker.0)),
        int("attempt", |e| e.attempt.map(i64::from)),
        int("epoch", |e| e.epoch.map(i64::from)),
        text("actor", |e| e.actor.as_deref().map(Cow::Borrowed)),
        text("from_status", |e| e.from.map(Cow::Borrowed)),
        text("to_status", |e| Some(e.to.into())),
        text("data", |e| e.data.as_deref().map(Cow::Borrowed)),
    ]
}

/// Their positions come from a sequence, in the order of the arrays.
fn write_events<'a>(statements: &mut Vec<Statement<'a>>, events: &'a [Event]) {
    static INSERT: LazyLock<String> = LazyLock::new(|| insert("execution_events", &event()));
    push(
        statements,
        &INSERT,
        &event(),
        &mut events.iter().collect::<Vec<_>>(),
    );
}

fn outbox_row() -> Vec<Column<'static, OutboxRow>> {
    vec![
        int("worker", |row| {
            Some(row.worker.map_or(0, |worker| worker.0))
        }),
        int("queue", |row| Some(row.queue.0)),
        // Ranks ascend as priorities fall, so that the key ascends as a whole.
        int("rank", |row| Some(-i64::from(row.priority))),
        int("ready_at", |row| Some(row.ready_at.0)),
        int("execution", |row| Some(row.key.execution.0)),
        int("task", |row| Some(row.key.number.into())),
    ]
}

/// The outbox rows that come and go.
pub(crate) fn outbox(changes: &[Change<OutboxRow>]) -> Vec<Statement<'static>> {
    static ADD: LazyLock<String> = LazyLock::new(|| add("task_outbox", &outbox_row()));
    static REMOVE: LazyLock<String> = LazyLock::new(|| remove("task_outbox", &outbox_row()));
    come_and_go(&ADD, &REMOVE, &outbox_row(), changes)
}

fn timer() -> Vec<Column<'static, Timer>> {
    vec![
        int("due_at", |timer| Some(timer.due_at.0)),
        int("kind", |timer| Some(timer.kind.code())),
        int("execution", |timer| Some(timer.execution.0)),
        int("task", |timer| Some(timer.task.into())),
        int("piece", |timer| Some(timer.from.into())),
    ]
}

/// The timers that come and go.
pub(crate) fn timers(changes: &[Change<Timer>]) -> Vec<Statement<'static>> {
    static ADD: LazyLock<String> = LazyLock::new(|| add("timers", &timer()));
    static REMOVE: LazyLock<String> = LazyLock::new(|| remove("timers", &timer()));
    come_and_go(&ADD, &REMOVE, &timer(), changes)
}

fn add<T>(table: &str, columns: &[Column<'_, T>]) -> String {
    format!("{} ON CONFLICT DO NOTHING", insert(table, columns))
}

/// Removes rows, all of whose columns are the key, but for those that somebody else has picked:
/// whoever claims or fires locks these rows first and the execution then, so waiting here for such a
/// row while holding the execution would be a deadlock. And it would be for nothing: they will look
/// at the execution as this transaction leaves it, and remove the row themselves. Rows that this
/// very transaction picked are not skipped.
///
/// Each row is looked for by itself. A join would be planned from the table's side as soon as the
/// server has seen these tables empty, which queues often are, and then read all that is dead in them.
fn remove<T>(table: &str, columns: &[Column<'_, T>]) -> String {
    let key: Vec<&str> = columns.iter().map(|column| column.name).collect();
    format!(
        "DELETE FROM ~{table} WHERE ctid = ANY (ARRAY(SELECT r.ctid FROM {} AS u {} CROSS JOIN LATERAL \
         (SELECT t.ctid FROM ~{table} t WHERE {} LIMIT 1 FOR UPDATE SKIP LOCKED) r))",
        unnest(columns),
        names(columns),
        on(&key)
    )
}

/// The last change of each row counts: a task that is claimed and becomes ready again within one
/// flush keeps its new row, one that becomes ready and is cancelled has none.
fn come_and_go<T: Copy + Eq + Hash>(
    add: &'static str,
    remove: &'static str,
    columns: &[Column<'static, T>],
    changes: &[Change<T>],
) -> Vec<Statement<'static>> {
    let mut last: FxHashMap<T, usize> = FxHashMap::default();
    for (at, change) in changes.iter().enumerate() {
        let (Change::Add(row) | Change::Remove(row)) = change;
        last.insert(*row, at);
    }
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for (at, change) in changes.iter().enumerate() {
        match change {
            Change::Add(row) if last[row] == at => added.push(*row),
            Change::Remove(row) if last[row] == at => removed.push(*row),
            _ => {}
        }
    }
    let mut statements = Vec::new();
    push(&mut statements, remove, columns, &mut removed);
    push(&mut statements, add, columns, &mut added);
    statements
}

struct SignalRow<'a> {
    sent: &'a SignalWrite,
    read: Option<&'a SignalRead>,
}

const SIGNAL_KEY: &[&str] = &["instance", "name", "number"];

fn signal<'a>() -> Vec<Column<'a, SignalRow<'a>>> {
    vec![
        text("instance", |s| Some(Cow::Borrowed(&*s.sent.instance))),
        text("name", |s| Some(Cow::Borrowed(&*s.sent.name))),
        int("number", |s| Some(s.sent.number)),
        int("execution", |s| Some(s.sent.execution.0)),
        text("payload", |s| Some(payload(&s.sent.payload))),
        text("actor", |s| s.sent.actor.as_deref().map(Cow::Borrowed)),
        int("sent_at", |s| Some(s.sent.sent_at.0)),
        int("read_execution", |s| Some(s.read?.by.execution.0)),
        int("read_task", |s| Some(s.read?.by.number.into())),
        int("read_operation", |s| Some(s.read?.operation.into())),
    ]
}

fn signal_read<'a>() -> Vec<Column<'a, &'a SignalRead>> {
    vec![
        text("instance", |r| Some(Cow::Borrowed(&*r.instance))),
        text("name", |r| Some(Cow::Borrowed(&*r.name))),
        int("number", |r| Some(r.number)),
        int("read_execution", |r| Some(r.by.execution.0)),
        int("read_task", |r| Some(r.by.number.into())),
        int("read_operation", |r| Some(r.operation.into())),
    ]
}

fn write_signals<'a>(
    statements: &mut Vec<Statement<'a>>,
    sent: &'a [SignalWrite],
    read: &'a [SignalRead],
) {
    static SEND: LazyLock<String> = LazyLock::new(|| insert("signals", &signal()));
    static READ: LazyLock<String> =
        LazyLock::new(|| update("signals", &signal_read(), SIGNAL_KEY, plainly));
    let mut read: FxHashMap<_, _> = read
        .iter()
        .map(|read| ((&*read.instance, &*read.name, read.number), read))
        .collect();
    let row = |sent: &'a SignalWrite| SignalRow {
        sent,
        read: read.remove(&(&*sent.instance, &*sent.name, sent.number)),
    };
    let mut sent: Vec<_> = sent.iter().map(row).collect();
    push(statements, &SEND, &signal(), &mut sent);
    push(
        statements,
        &READ,
        &signal_read(),
        &mut read.into_values().collect::<Vec<_>>(),
    );
}
