//! What rows are called in messages: the same on every database.

use abide_core::ids::{ExecutionId, TaskKey, VersionId};
use abide_core::kernel::Need;

pub(crate) fn need(need: &Need) -> String {
    match need {
        Need::Execution(id) => format!("execution {id}"),
        Need::WorkflowName(version) => format!("workflow version {}", version.0),
        Need::Task(key) => format!("task {key}"),
        Need::Graph(id, version, own) => graph(*id, *version, *own),
        Need::Tasks(id, _) => format!("a task of execution {id}"),
        Need::Context(id) => format!("the context of execution {id}"),
        Need::Waits(key) | Need::StepCount(key) | Need::Step(key, _) => {
            format!("the recorded operations of task {key}")
        }
        Need::SignalRead(key, _) => format!("a signal that task {key} read"),
        Need::Mailbox(id, name) => format!("mailbox `{name}` of execution {id}"),
        other => format!("{other:?}"),
    }
}

/// The execution's own, or its workflow version's.
pub(crate) fn graph(id: ExecutionId, version: VersionId, own: bool) -> String {
    match own {
        true => format!("graph of execution {id}"),
        false => format!("graph of workflow version {}", version.0),
    }
}

pub(crate) fn result_of(id: ExecutionId) -> String {
    format!("the result of execution {id}")
}

pub(crate) fn input_of(task: TaskKey) -> String {
    format!("the input of task {task}")
}
