//! How records are shown in tables. The client decides what stands in a record.

mod event;
mod execution;
mod task;

pub(crate) use event::{EVENT_COLUMNS, usual_event_widths};
pub(crate) use execution::EXECUTION_COLUMNS;
pub(crate) use task::TASK_COLUMNS;
