//! Durable execution: workflows are ordinary async functions, recorded in a database, resumed
//! after any crash.

mod attempt;
pub mod authoring;
mod builder;
mod clock;
mod engine;
mod error;
mod handle;
mod options;
mod random;
mod registry;
mod run;
mod slot;
mod start;
mod versions;
mod worker;

/// What the attributes expand to. Not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use crate::authoring::private::*;
}

pub use abide_core::graph::{MAX_EDGES, MAX_NODES};
pub use abide_core::ids::{ExecutionId, TaskKey, Timestamp};
pub use abide_core::kernel::{CancelReply, IfExists, Refusal, Signalled};
pub use abide_core::status::{ExecutionStatus, Phase, SubStatus, TaskStatus};
pub use abide_core::trigger::{ContextOp, Ending, Trigger};
#[doc = include_str!("authoring/task.md")]
pub use abide_macros::task;
#[doc = include_str!("authoring/workflow.md")]
pub use abide_macros::workflow;
#[doc(inline)]
#[doc = include_str!("../../../docs/transactions.md")]
pub use abide_store::Transaction;
pub use abide_store::{EventView, ExecutionFilter, ExecutionView, Store, StoreError, TaskView};
pub use authoring::{
    AuthoringError, Backoff, Context, GraphOf, Input, NodesOnly, Output, Outputs, PartOf, State,
    StateMap, Task, TaskBuilder, TaskError, Workflow, WorkflowBuilder, trigger,
};
pub use builder::EngineBuilder;
pub use clock::{Clock, SystemClock, VirtualClock};
pub use engine::Engine;
pub use error::EngineError;
pub use handle::{
    CancellationToken, Condition, Deadline, Deferred, Immediate, Polled, ProgressError, TaskHandle,
    Verdict,
};
pub use registry::{RegistrationError, Registry};
pub use run::{Run, RunError};
pub use slot::SlotToken;
pub use start::StartRequest;

/// What is compiled with the crate's own examples, so that it stays true.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../../../README.md")]
    mod readme {}

    #[doc = include_str!("../../../docs/configuration.md")]
    mod configuration {}

    #[doc = include_str!("../../../docs/tutorial.md")]
    mod tutorial {}
}
