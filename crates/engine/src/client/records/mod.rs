//! Records: what is known of an execution, a task, an event, as the command line and an API write it.
//! Names of fields are stable; new ones may come.

mod description;
mod event;
mod execution;
mod task;

pub use description::{
    Description, ErrorRecord, OperationRecord, OperationState, TaskCount, Times, WorkerRecord,
};
pub use event::EventRecord;
pub use execution::ExecutionRecord;
pub use task::TaskRecord;

/// A status and what refines it: `Running::Active`.
pub(super) fn status_text(status: impl std::fmt::Display, sub_status: Option<&str>) -> String {
    match sub_status {
        Some(sub_status) => format!("{status}::{sub_status}"),
        None => status.to_string(),
    }
}
