//! Stored rows against what their histories come to, column by column.

use std::fmt::Display;

use abide_core::status::{ExecutionStatus, Phase, SubStatus, TaskStatus};

use super::fold_execution::ExecutionFold;
use super::fold_task::TaskFold;
use super::report::{Invariant, Problems};
use super::rows::{ExecutionCells, TaskCells};
use super::words;

/// Compares a task's row with its history, which must be whole.
pub(super) fn task(row: &TaskCells, fold: &TaskFold, problems: &mut Problems) {
    let Some(phase) = fold.phase() else { return };
    let (status, sub_status) = phase.status();
    text(problems, "status", &row.status, status.as_str());
    let sub_status = sub_status.map(SubStatus::as_str);
    option(
        problems,
        "sub_status",
        row.sub_status.as_deref(),
        sub_status,
    );
    if row.worker != fold.worker {
        problems.differs(
            "worker",
            words::worker(row.worker),
            words::worker(fold.worker),
        );
    }
    number(problems, "attempt", row.attempt, fold.attempt);
    number(problems, "epoch", row.epoch, fold.epoch);
    number(problems, "crashes", row.crashes, fold.crashes);
    number(problems, "crash_steps", row.crash_steps, fold.crash_steps);
    option(problems, "ready_at", row.ready_at, fold.ready_at);
    option(problems, "wake_at", row.wake_at, fold.wake_at);
    option(problems, "next_order", row.next_order, fold.next_order);
    option(problems, "wait", row.wait.as_deref(), fold.wait.as_deref());
    number(problems, "created_at", row.created_at, fold.created_at);
    option(problems, "started_at", row.started_at, fold.started_at);
    option(problems, "closed_at", row.closed_at, fold.closed_at);
    number(problems, "changed_at", row.changed_at, fold.stream.at);
    for (column, found, history) in row.spent.beside(&fold.spent) {
        number(problems, column, found, history);
    }
}

/// The phase a task's row says it is in, if the row does not contradict itself.
pub(super) fn stored_phase(row: &TaskCells) -> Result<Phase, String> {
    let status = TaskStatus::parse(&row.status)
        .ok_or_else(|| format!("`{}` is no status of a task", row.status.escape_debug()))?;
    let sub_status = match &row.sub_status {
        None => None,
        Some(text) => Some(
            SubStatus::parse(text)
                .ok_or_else(|| format!("`{}` is no sub-status", text.escape_debug()))?,
        ),
    };
    Phase::of(status, sub_status, row.worker.is_some()).ok_or_else(|| {
        let sub_status = sub_status.map_or("none", SubStatus::as_str);
        let worker = words::worker(row.worker);
        format!(
            "status {status} with sub-status {sub_status} and {worker} holding it is impossible"
        )
    })
}

/// Compares an execution's row with its history, which must be whole.
pub(super) fn execution(row: &ExecutionCells, fold: &ExecutionFold, problems: &mut Problems) {
    let Some(status) = fold.status() else { return };
    text(problems, "status", &row.status, status.as_str());
    option(
        problems,
        "reason",
        row.reason.as_deref(),
        fold.reason.as_deref(),
    );
    option(
        problems,
        "stop_cause",
        row.stop_cause.as_deref(),
        fold.stop_cause.as_deref(),
    );
    option(problems, "failed_task", row.failed_task, fold.failed_task);
    number(problems, "created_at", row.created_at, fold.created_at);
    option(problems, "started_at", row.started_at, fold.started_at);
    option(problems, "closed_at", row.closed_at, fold.closed_at);
    number(problems, "changed_at", row.changed_at, fold.stream.at);
    let stopping = status == ExecutionStatus::Cancelling;
    if row.grace_until.is_some() != stopping {
        let what = match stopping {
            true => "it is Cancelling without an end of the grace period".to_owned(),
            false => format!("it has an end of the grace period, but is {status}"),
        };
        problems.add(Invariant::I6, what);
    }
    let Some(created) = &fold.created else { return };
    text(problems, "instance", &row.instance, &created.instance);
    number(problems, "workflow_version", row.workflow, created.workflow);
    option(problems, "start_at", row.start_at, created.start_at);
    option(
        problems,
        "deadline_at",
        row.deadline_at,
        created.deadline_at,
    );
    number(problems, "priority", row.priority, fold.priority);
}

/// The status an execution's row says it has.
pub(super) fn stored_status(row: &ExecutionCells) -> Result<ExecutionStatus, String> {
    ExecutionStatus::parse(&row.status).ok_or_else(|| {
        format!(
            "`{}` is no status of an execution",
            row.status.escape_debug()
        )
    })
}

fn number<T: Display + PartialEq>(problems: &mut Problems, column: &str, stored: T, history: T) {
    if stored != history {
        problems.differs(column, stored, history);
    }
}

fn text(problems: &mut Problems, column: &str, stored: &str, history: &str) {
    if stored != history {
        problems.differs(column, stored.escape_debug(), history.escape_debug());
    }
}

fn option<T: Display + PartialEq>(
    problems: &mut Problems,
    column: &str,
    stored: Option<T>,
    history: Option<T>,
) {
    if stored != history {
        problems.differs(column, shown(stored), shown(history));
    }
}

fn shown<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| value.to_string())
}
