//! The stored rows, each declared once for both databases. A column that is added here is written and
//! read by both drivers; the schemas and `verify` have lists of their own.

use abide_core::event::Event;
use abide_core::execution::Execution;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{
    NewExecutionRow, NewTaskRow, OutboxRow, SignalRead, SignalWrite, Supersede,
};
use abide_core::payload::Payload;
use abide_core::status::{Phase, SubStatus, TaskStatus};
use abide_core::step::StepId;
use abide_core::task::Task;
use abide_core::timer::{Timer, TimerKind};

use crate::columns::{Cell, Column, Field, Role, columns, kind_of, row};
use crate::net::{StepEnding, TaskEnds};
use crate::rows::{Columns, FromColumns};

row! {
    /// `executions`: what rules read and write.
    EXECUTION: Execution, read from columns;
    fields {
        Key id,
        Fixed instance,
        State generation,
        State status,
        State reason,
        State stop_cause,
        State failed_task,
        State open,
        State failed,
        State priority,
        Fixed start_at,
        Fixed deadline_at,
        State grace_until,
        State version,
        Fixed created_at,
        State started_at,
        State closed_at,
        State changed_at,
    }
    parts {
        Fixed workflow_version: VersionId = |e| e.workflow.cell(),
        Seen own_graph as "graph IS NOT NULL": bool = |e| e.own_graph.cell(),
    }
    made {
        workflow: workflow_version,
        own_graph: own_graph,
    }
}

columns! {
    /// `executions`: what no rule reads.
    NEW_EXECUTION: NewExecutionRow;
    fields {
        Fixed input,
        Fixed input_hash,
        Fixed tags,
    }
    parts {
        Fixed graph: Payload = |e| Cell::Text(e.graph.as_ref().map(|graph| graph.to_json().into())),
    }
}

row! {
    /// `task_executions`: what rules read and write.
    TASK: Task, read from columns;
    fields {
        State attempt,
        State epoch,
        State crashes,
        State crash_steps,
        State worker,
        State waiting,
        State unmet,
        State ready_at,
        State wake_at,
        State next_order,
        State wait,
        State version,
        Fixed created_at,
        State started_at,
        State closed_at,
        State changed_at,
        State queued_us,
        State active_us,
        State attempt_active_us,
        State deferred_us,
        State retry_wait_us,
    }
    parts {
        Key execution: ExecutionId = |t| t.key.execution.cell(),
        Key number: u32 = |t| t.key.number.cell(),
        State status: TaskStatus = |t| Cell::text(t.phase.status().0.as_str()),
        State sub_status: Option<SubStatus> = |t| Cell::Text(t.phase.status().1.map(|sub| sub.as_str().into())),
    }
    made {
        key: TaskKey::new(execution, number),
        phase: phase(columns, status, sub_status, worker)?,
    }
}

fn phase<C: Columns>(
    columns: &C,
    status: TaskStatus,
    sub_status: Option<SubStatus>,
    worker: Option<WorkerId>,
) -> Result<Phase, C::Error> {
    Phase::of(status, sub_status, worker.is_some()).ok_or_else(|| {
        let sub_status = sub_status.map_or("none", SubStatus::as_str);
        columns.mismatch(format!(
            "status {status} with sub-status {sub_status} and worker {worker:?} is impossible"
        ))
    })
}

columns! {
    /// `task_executions`: what no rule reads of a new task.
    NEW_TASK: NewTaskRow;
    fields {
        Fixed input,
    }
    parts {
        Fixed node: String = |t| Cell::text(t.graph.node_id(t.key.number)),
    }
}

columns! {
    /// `task_executions`: the key alone.
    TASK_KEY: TaskKey;
    fields {
        Key execution,
        Key number,
    }
    parts {}
}

columns! {
    /// `task_executions`: what the ends of attempts and the reports of a flush set.
    TASK_END: TaskEnds;
    fields {
        Told ended,
        Ended output,
        Ended changes,
        Ended checkpoint,
        Given error,
        Given progress,
    }
    parts {}
}

columns! {
    /// `execution_events`, but for the position, which the database gives.
    EVENT: Event;
    fields {
        Fixed execution,
        Fixed task,
        Fixed n,
    }
    parts {
        Fixed kind as "type": i64 = |e| Cell::Int(Some(e.kind.code())),
        Fixed at: Timestamp = |e| e.at.cell(),
        Fixed worker: Option<WorkerId> = |e| e.worker.cell(),
        Fixed attempt: Option<u32> = |e| e.attempt.cell(),
        Fixed epoch: Option<u32> = |e| e.epoch.cell(),
        Fixed actor: Option<String> = |e| e.actor.cell(),
        Fixed from_status: Option<String> = |e| Cell::Text(e.from.map(Into::into)),
        Fixed to_status: String = |e| Cell::text(e.to),
        Fixed data: Option<String> = |e| e.data.cell(),
    }
}

columns! {
    /// `task_outbox`: all of it is the key.
    OUTBOX: OutboxRow;
    fields {
        Key queue,
        Key ready_at,
    }
    parts {
        Key worker: i64 = |row| Cell::Int(Some(row.worker.map_or(0, |worker| worker.0))),
        // Ranks ascend as priorities fall, so that the key ascends as a whole.
        Key rank: i64 = |row| Cell::Int(Some(-i64::from(row.priority))),
        Key execution: ExecutionId = |row| row.key.execution.cell(),
        Key task: u32 = |row| row.key.number.cell(),
    }
}

row! {
    /// `timers`: all of it is the key.
    TIMER: Timer, read from columns;
    fields {
        Key due_at,
        Key execution,
        Key task,
    }
    parts {
        Key code as "kind": i64 = |timer| Cell::Int(Some(timer.kind.code())),
        Key piece: u32 = |timer| timer.from.cell(),
    }
    made {
        kind: timer_kind(columns, code)?,
        from: piece,
    }
}

fn timer_kind<C: Columns>(columns: &C, code: i64) -> Result<TimerKind, C::Error> {
    TimerKind::from_code(code)
        .ok_or_else(|| columns.mismatch(format!("{code} is no kind of timer")))
}

columns! {
    /// `signals`: what was sent.
    SIGNAL: SignalWrite;
    fields {
        Key instance,
        Key name,
        Key number,
        Fixed execution,
        Fixed payload,
        Fixed actor,
        Fixed sent_at,
    }
    parts {}
}

columns! {
    /// `signals`: which one was read, or is unread again.
    SIGNAL_KEY: SignalRead;
    fields {
        Key instance,
        Key name,
        Key number,
    }
    parts {}
}

columns! {
    /// `signals`: who read it.
    READER: Option<(TaskKey, u32)>;
    fields {}
    parts {
        State read_execution: Option<ExecutionId> = |by| Cell::Int(by.map(|(key, _)| key.execution.0)),
        State read_task: Option<u32> = |by| Cell::Int(by.map(|(key, _)| key.number.into())),
        State read_operation: Option<u32> = |by| Cell::Int(by.map(|(_, operation)| operation.into())),
    }
}

columns! {
    /// `signals`: those that operations read which no longer count.
    READ_BY: (TaskKey, Supersede);
    fields {}
    parts {
        Key read_execution: ExecutionId = |(key, _)| key.execution.cell(),
        Key read_task: u32 = |(key, _)| key.number.cell(),
        Told failed: u32 = |(_, supersede)| supersede.failed.cell(),
        Told since: u32 = |(_, supersede)| supersede.from.cell(),
    }
}

columns! {
    /// `steps`: those that no longer count.
    SUPERSEDED: (TaskKey, Supersede);
    fields {}
    parts {
        Key execution: ExecutionId = |(key, _)| key.execution.cell(),
        Key task: u32 = |(key, _)| key.number.cell(),
        Told failed: u32 = |(_, supersede)| supersede.failed.cell(),
        Told since: u32 = |(_, supersede)| supersede.from.cell(),
    }
}

columns! {
    /// `steps`: which of a task's.
    STEP_NUMBER: u32;
    fields {}
    parts {
        Key number: u32 = |number| number.cell(),
    }
}

columns! {
    /// `steps`: the answer alone.
    RESULT: Option<Payload>;
    fields {}
    parts {
        State result: Option<Payload> = |result| result.cell(),
    }
}

columns! {
    /// `steps`: whose they are.
    STEP_TASK: TaskKey;
    fields {
        Key execution,
    }
    parts {
        Key task: u32 = |key| key.number.cell(),
    }
}

row! {
    /// `steps`: what identifies an operation.
    STEP_ID: StepId, read from columns;
    fields {
        Key number,
        Fixed kind,
        Fixed name,
        Fixed fingerprint,
    }
    parts {}
    made {}
}

row! {
    /// `steps`: how an operation stands.
    STEP_END: StepEnding, read from columns;
    fields {
        State state,
        State ordinal,
        Fixed due_at,
        State result,
    }
    parts {}
    made {}
}

columns! {
    /// `steps`: when it was recorded.
    STEP_RECORDED: Timestamp;
    fields {}
    parts {
        State recorded_at: Timestamp = |at| at.cell(),
    }
}
