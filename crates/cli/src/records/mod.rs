//! What is shown of executions, tasks and events: one record for each, whatever the command and
//! the format, so that what a list says is what a description says.

mod description;
mod event;
mod execution;
mod task;

pub(crate) use description::{Description, OperationRecord, WorkerRecord};
pub(crate) use event::EventRecord;
pub(crate) use execution::{ExecutionRecord, status_text};
pub(crate) use task::TaskRecord;
