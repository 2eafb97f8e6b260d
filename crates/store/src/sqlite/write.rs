//! Writes what a flush came to: each changed row once, then everything else, on the write
//! connection inside its transaction.

use abide_core::event::Event;
use abide_core::execution::Execution;
use abide_core::ids::{TaskKey, Timestamp};
use abide_core::kernel::{
    Change, Effects, NewExecutionRow, NewTaskRow, OutboxRow, Row, SignalRead, SignalWrite,
    StepChange, StepWrite, Supersede, TaskEnd,
};
use abide_core::payload::Payload;
use abide_core::step::{StepEnd, StepState};
use abide_core::task::Task;
use abide_core::timer::Timer;
use rusqlite::{CachedStatement, Connection, ToSql, params};
use rustc_hash::FxHashMap;

/// A payload longer than this is kept apart, so that its row stays small.
const INLINE_BYTES: usize = 1024;
/// Events that one statement inserts: binding is most of the cost, starting a statement the rest.
const EVENTS_AT_ONCE: usize = 16;

type Write<T = ()> = rusqlite::Result<T>;

/// Binds values from left to right, then runs the statement.
struct Binder<'s, 'c> {
    statement: &'s mut CachedStatement<'c>,
    next: usize,
}

impl<'s, 'c> Binder<'s, 'c> {
    fn new(statement: &'s mut CachedStatement<'c>) -> Self {
        Binder { statement, next: 1 }
    }

    fn bind(&mut self, value: impl ToSql) -> Write<&mut Self> {
        self.statement.raw_bind_parameter(self.next, value)?;
        self.next += 1;
        Ok(self)
    }

    fn time(&mut self, time: Option<Timestamp>) -> Write<&mut Self> {
        self.bind(time.map(|time| time.0))
    }

    fn run(self) -> Write<usize> {
        self.statement.raw_execute()
    }
}

/// Writes everything.
pub(crate) fn write(
    connection: &Connection,
    now: Timestamp,
    executions: &[Row<Execution>],
    tasks: &[Row<Task>],
    effects: &Effects,
) -> Write {
    write_executions(connection, executions, &effects.new_executions)?;
    write_tasks(connection, tasks, &effects.new_tasks)?;
    end_tasks(connection, &effects.task_ends)?;
    write_events(connection, &effects.events)?;
    write_outbox(connection, &effects.outbox)?;
    write_timers(connection, &effects.timers)?;
    write_signals(connection, &effects.signals, &effects.signals_read)?;
    write_steps(connection, now, &effects.steps)?;
    write_progress(connection, &effects.progress)
}

fn store_payload(connection: &Connection, payload: &Payload) -> Write<String> {
    store_text(connection, payload.as_str())
}

/// The text for a payload column: the payload, or where it is kept.
pub(crate) fn store_text(connection: &Connection, text: &str) -> Write<String> {
    if text.len() <= INLINE_BYTES {
        return Ok(text.to_owned());
    }
    connection
        .prepare_cached("INSERT INTO payloads (body) VALUES (?1)")?
        .execute([text])?;
    Ok(format!("@{}", connection.last_insert_rowid()))
}

fn store_option(connection: &Connection, payload: Option<&Payload>) -> Write<Option<String>> {
    payload
        .map(|payload| store_payload(connection, payload))
        .transpose()
}

fn write_executions(
    connection: &Connection,
    rows: &[Row<Execution>],
    new: &[NewExecutionRow],
) -> Write {
    if rows.is_empty() {
        return Ok(());
    }
    let new: FxHashMap<_, _> = new.iter().map(|row| (row.id, row)).collect();
    let mut insert = connection.prepare_cached(
        "INSERT INTO executions (generation, status, reason, open, failed, grace_until, version, started_at, \
         closed_at, changed_at, id, instance, workflow_version, priority, start_at, deadline_at, created_at, \
         graph, input, input_hash, tags) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)",
    )?;
    let mut update = connection.prepare_cached(
        "UPDATE executions SET generation = ?1, status = ?2, reason = ?3, open = ?4, failed = ?5, grace_until = ?6, \
         version = ?7, started_at = ?8, closed_at = ?9, changed_at = ?10 WHERE id = ?11",
    )?;
    for Row {
        value: e,
        new: is_new,
        ..
    } in rows
    {
        let mut binder = Binder::new(if *is_new { &mut insert } else { &mut update });
        binder
            .bind(e.generation)?
            .bind(e.status.as_str())?
            .bind(e.reason.as_deref())?
            .bind(e.open)?
            .bind(e.failed)?;
        binder
            .time(e.grace_until)?
            .bind(e.version)?
            .time(e.started_at)?
            .time(e.closed_at)?
            .bind(e.changed_at.0)?;
        binder.bind(e.id.0)?;
        if *is_new {
            let cold = new.get(&e.id).expect("a new row comes with its columns");
            let graph = cold
                .graph
                .as_ref()
                .map(|graph| store_text(connection, &graph.to_json()))
                .transpose()?;
            binder
                .bind(&*e.instance)?
                .bind(e.workflow.0)?
                .bind(e.priority)?
                .time(e.start_at)?
                .time(e.deadline_at)?;
            binder
                .bind(e.created_at.0)?
                .bind(graph)?
                .bind(store_option(connection, cold.input.as_ref())?)?;
            binder.bind(&cold.input_hash)?.bind(cold.tags.as_deref())?;
        }
        binder.run()?;
    }
    Ok(())
}

fn write_tasks(connection: &Connection, rows: &[Row<Task>], new: &[NewTaskRow]) -> Write {
    if rows.is_empty() {
        return Ok(());
    }
    let new: FxHashMap<_, _> = new.iter().map(|row| (row.key, row)).collect();
    let mut insert = connection.prepare_cached(
        "INSERT INTO task_executions (status, sub_status, attempt, epoch, crashes, crash_steps, worker, waiting, \
         unmet, ready_at, wake_at, wait, version, started_at, closed_at, changed_at, queued_us, active_us, \
         deferred_us, retry_wait_us, execution, number, node, created_at, input) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, \
         ?22, ?23, ?24, ?25)",
    )?;
    let mut update = connection.prepare_cached(
        "UPDATE task_executions SET status = ?1, sub_status = ?2, attempt = ?3, epoch = ?4, crashes = ?5, \
         crash_steps = ?6, worker = ?7, waiting = ?8, unmet = ?9, ready_at = ?10, wake_at = ?11, wait = ?12, \
         version = ?13, started_at = ?14, closed_at = ?15, changed_at = ?16, queued_us = ?17, active_us = ?18, \
         deferred_us = ?19, retry_wait_us = ?20 WHERE execution = ?21 AND number = ?22",
    )?;
    for Row {
        value: t,
        new: is_new,
        ..
    } in rows
    {
        let (status, sub_status) = t.phase.status();
        let mut binder = Binder::new(if *is_new { &mut insert } else { &mut update });
        binder
            .bind(status.as_str())?
            .bind(sub_status.map(|sub| sub.as_str()))?
            .bind(t.attempt)?
            .bind(t.epoch)?;
        binder
            .bind(t.crashes)?
            .bind(t.crash_steps)?
            .bind(t.worker.map(|worker| worker.0))?
            .bind(t.waiting)?;
        binder
            .bind(t.unmet)?
            .time(t.ready_at)?
            .time(t.wake_at)?
            .bind(t.wait.as_deref())?
            .bind(t.version)?;
        binder
            .time(t.started_at)?
            .time(t.closed_at)?
            .bind(t.changed_at.0)?
            .bind(t.queued_us)?
            .bind(t.active_us)?;
        binder
            .bind(t.deferred_us)?
            .bind(t.retry_wait_us)?
            .bind(t.key.execution.0)?
            .bind(t.key.number)?;
        if *is_new {
            let cold = new.get(&t.key).expect("a new row comes with its columns");
            binder
                .bind(cold.graph.node_id(t.key.number))?
                .bind(t.created_at.0)?;
            binder.bind(store_option(connection, cold.input.as_ref())?)?;
        }
        binder.run()?;
    }
    Ok(())
}

fn end_tasks(connection: &Connection, ends: &[(TaskKey, TaskEnd)]) -> Write {
    let mut statement = None;
    for (key, end) in ends {
        if end.output.is_none()
            && end.changes.is_none()
            && end.checkpoint.is_none()
            && end.error.is_none()
        {
            continue;
        }
        let changes = end.changes.as_ref().map(json).transpose()?;
        let error = end.error.as_ref().map(json).transpose()?;
        if error.is_some() {
            // The error of the attempt before gives way to this one.
            connection
                .prepare_cached(
                    "DELETE FROM payloads WHERE id = (SELECT CAST(substr(error, 2) AS INTEGER) FROM task_executions \
                     WHERE execution = ?1 AND number = ?2 AND error LIKE '@%')",
                )?
                .execute(params![key.execution.0, key.number])?;
        }
        let statement = match &mut statement {
            Some(statement) => statement,
            none => none.insert(connection.prepare_cached(
                "UPDATE task_executions SET output = ?1, changes = ?2, checkpoint = ?3, \
                 error = coalesce(?4, error) WHERE execution = ?5 AND number = ?6",
            )?),
        };
        statement.execute(params![
            store_option(connection, end.output.as_ref())?,
            changes
                .map(|text| store_text(connection, &text))
                .transpose()?,
            store_option(connection, end.checkpoint.as_ref())?,
            error
                .map(|text| store_text(connection, &text))
                .transpose()?,
            key.execution.0,
            key.number
        ])?;
    }
    Ok(())
}

fn write_events(connection: &Connection, events: &[Event]) -> Write {
    fn insert(rows: usize) -> String {
        let row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        format!(
            "INSERT INTO execution_events (execution, task, n, type, at, worker, attempt, epoch, actor, from_status, \
             to_status, data) VALUES {}",
            vec![row; rows].join(", ")
        )
    }
    static MANY: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| insert(EVENTS_AT_ONCE));
    static ONE: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| insert(1));
    let chunks = events.chunks_exact(EVENTS_AT_ONCE);
    let rest = chunks.remainder();
    if events.len() >= EVENTS_AT_ONCE {
        let mut statement = connection.prepare_cached(&MANY)?;
        for chunk in chunks {
            insert_events(&mut statement, chunk)?;
        }
    }
    if !rest.is_empty() {
        let mut statement = connection.prepare_cached(&ONE)?;
        for event in rest {
            insert_events(&mut statement, std::slice::from_ref(event))?;
        }
    }
    Ok(())
}

fn insert_events(statement: &mut CachedStatement<'_>, events: &[Event]) -> Write {
    let mut binder = Binder::new(statement);
    for event in events {
        binder
            .bind(event.execution.0)?
            .bind(event.task)?
            .bind(event.n)?
            .bind(event.kind.code())?
            .bind(event.at.0)?;
        binder
            .bind(event.worker.map(|worker| worker.0))?
            .bind(event.attempt)?
            .bind(event.epoch)?;
        binder
            .bind(event.actor.as_deref())?
            .bind(event.from)?
            .bind(event.to)?
            .bind(event.data.as_deref())?;
    }
    binder.run()?;
    Ok(())
}

/// In order: a task that is claimed and becomes ready again within one flush keeps its new row, one
/// that becomes ready and is cancelled has none.
pub(crate) fn write_outbox(connection: &Connection, changes: &[Change<OutboxRow>]) -> Write {
    for change in changes {
        let (sql, row) = match change {
            Change::Add(row) => (
                "INSERT OR IGNORE INTO task_outbox (worker, queue, priority, ready_at, execution, task) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                row,
            ),
            Change::Remove(row) => (
                "DELETE FROM task_outbox WHERE worker = ?1 AND queue = ?2 AND priority = ?3 AND ready_at = ?4 \
                 AND execution = ?5 AND task = ?6",
                row,
            ),
        };
        bind_outbox(&mut connection.prepare_cached(sql)?, row)?.run()?;
    }
    Ok(())
}

fn bind_outbox<'s, 'c>(
    statement: &'s mut CachedStatement<'c>,
    row: &OutboxRow,
) -> Write<Binder<'s, 'c>> {
    let mut binder = Binder::new(statement);
    binder
        .bind(row.worker.map_or(0, |worker| worker.0))?
        .bind(row.queue.0)?
        .bind(row.priority)?;
    binder
        .bind(row.ready_at.0)?
        .bind(row.key.execution.0)?
        .bind(row.key.number)?;
    Ok(binder)
}

/// In order, as with the outbox.
fn write_timers(connection: &Connection, changes: &[Change<Timer>]) -> Write {
    for change in changes {
        let (sql, timer) = match change {
            Change::Add(timer) => (
                "INSERT OR IGNORE INTO timers (due_at, kind, execution, task, piece) VALUES (?1, ?2, ?3, ?4, ?5)",
                timer,
            ),
            Change::Remove(timer) => (
                "DELETE FROM timers WHERE due_at = ?1 AND kind = ?2 AND execution = ?3 AND task = ?4 AND piece = ?5",
                timer,
            ),
        };
        let mut statement = connection.prepare_cached(sql)?;
        let mut binder = Binder::new(&mut statement);
        binder
            .bind(timer.due_at.0)?
            .bind(timer.kind.code())?
            .bind(timer.execution.0)?
            .bind(timer.task)?
            .bind(timer.from)?;
        binder.run()?;
    }
    Ok(())
}

fn write_signals(connection: &Connection, sent: &[SignalWrite], read: &[SignalRead]) -> Write {
    for signal in sent {
        let mut statement = connection.prepare_cached(
            "INSERT INTO signals (instance, name, number, execution, payload, actor, sent_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let payload = store_payload(connection, &signal.payload)?;
        statement.execute(params![
            &*signal.instance,
            &*signal.name,
            signal.number,
            signal.execution.0,
            payload,
            signal.actor.as_deref(),
            signal.sent_at.0
        ])?;
    }
    for read in read {
        let mut statement = connection.prepare_cached(
            "UPDATE signals SET read_execution = ?1, read_task = ?2, read_operation = ?3 \
             WHERE instance = ?4 AND name = ?5 AND number = ?6",
        )?;
        let key = read.by;
        statement.execute(params![
            key.execution.0,
            key.number,
            read.operation,
            &*read.instance,
            &*read.name,
            read.number
        ])?;
    }
    Ok(())
}

/// In order: a number may be given up and used again within one flush.
fn write_steps(connection: &Connection, now: Timestamp, changes: &[StepChange]) -> Write {
    for change in changes {
        match change {
            StepChange::Write(write) if write.answers => answer_step(connection, now, write)?,
            StepChange::Write(write) => insert_step(connection, now, write)?,
            StepChange::Withdraw(key, number) => {
                connection
                    .prepare_cached(
                        "DELETE FROM steps WHERE execution = ?1 AND task = ?2 AND number = ?3 AND state = 'waiting'",
                    )?
                    .execute(params![key.execution.0, key.number, number])?;
            }
            StepChange::Supersede(key, supersede) => self::supersede(connection, *key, *supersede)?,
        }
    }
    Ok(())
}

/// Steps that no longer count go, with their results; signals that they read are unread again.
fn supersede(connection: &Connection, key: TaskKey, supersede: Supersede) -> Write {
    let Supersede { failed, from } = supersede;
    for sql in [
        "DELETE FROM payloads WHERE id IN (SELECT CAST(substr(result, 2) AS INTEGER) FROM steps \
         WHERE execution = ?1 AND task = ?2 AND (number = ?3 OR number >= ?4) AND result LIKE '@%')",
        "DELETE FROM steps WHERE execution = ?1 AND task = ?2 AND (number = ?3 OR number >= ?4)",
        "UPDATE signals SET read_execution = NULL, read_task = NULL, read_operation = NULL \
         WHERE instance = (SELECT instance FROM executions WHERE id = ?1) AND read_execution = ?1 AND read_task = ?2 \
         AND (read_operation = ?3 OR read_operation >= ?4)",
    ] {
        connection.prepare_cached(sql)?.execute(params![
            key.execution.0,
            key.number,
            failed,
            from
        ])?;
    }
    Ok(())
}

fn answer_step(connection: &Connection, now: Timestamp, write: &StepWrite) -> Write {
    let StepWrite { key, step, .. } = write;
    let (_, result) = step_columns(connection, &step.end)?;
    let changed = connection
        .prepare_cached(
            "UPDATE steps SET state = ?1, ordinal = ?2, result = ?3, recorded_at = ?4 \
             WHERE execution = ?5 AND task = ?6 AND number = ?7 AND state = ?8",
        )?
        .execute(params![
            step.end.state().as_str(),
            step.order,
            result,
            now.0,
            key.execution.0,
            key.number,
            step.id.number,
            StepState::Waiting.as_str()
        ])?;
    debug_assert_eq!(
        changed, 1,
        "the wait that is answered was read in this transaction"
    );
    Ok(())
}

fn insert_step(connection: &Connection, now: Timestamp, write: &StepWrite) -> Write {
    let StepWrite { key, step, .. } = write;
    let (due_at, result) = step_columns(connection, &step.end)?;
    let mut statement = connection.prepare_cached(
        "INSERT INTO steps (execution, task, number, kind, name, fingerprint, state, ordinal, due_at, result, \
         recorded_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    let mut binder = Binder::new(&mut statement);
    binder
        .bind(key.execution.0)?
        .bind(key.number)?
        .bind(step.id.number)?
        .bind(step.id.kind.as_str())?;
    binder
        .bind(&step.id.name)?
        .bind(step.id.fingerprint.as_deref())?
        .bind(step.end.state().as_str())?
        .bind(step.order)?;
    binder.time(due_at)?.bind(result)?.bind(now.0)?;
    binder.run()?;
    Ok(())
}

/// When a wait is over, and the result or error as it is stored.
fn step_columns(
    connection: &Connection,
    end: &StepEnd,
) -> Write<(Option<Timestamp>, Option<String>)> {
    Ok(match end {
        StepEnd::Waiting { due_at } => (*due_at, None),
        StepEnd::Done(payload) => (None, Some(store_payload(connection, payload)?)),
        StepEnd::Failed(failure) => (None, Some(store_text(connection, &json(failure)?)?)),
    })
}

fn write_progress(connection: &Connection, progress: &[(TaskKey, String)]) -> Write {
    for (key, value) in progress {
        connection
            .prepare_cached(
                "UPDATE task_executions SET progress = ?1 WHERE execution = ?2 AND number = ?3",
            )?
            .execute(params![value, key.execution.0, key.number])?;
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Write<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
