//! What can go wrong with an engine as a whole; a task's own errors are
//! [`TaskError`](crate::TaskError)s, an execution's end is a [`RunError`](crate::RunError).

use abide_core::ids::ExecutionId;
use abide_core::kernel::Refusal;
use abide_store::{ApplyError, StoreError};
use thiserror::Error;

use crate::authoring::AuthoringError;
use crate::registry::RegistrationError;

/// Why an engine didn't start, or didn't do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The workflows don't fit together, or lack state.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// A workflow, or a graph built at run time, is wrong in itself.
    #[error(transparent)]
    Authoring(#[from] AuthoringError),
    /// The request can't be granted as things stand. Nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed. [`StoreError::is_definite`] tells whether nothing was written for sure;
    /// if not, ask again with the same instance id.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A value can't be written as JSON.
    #[error("{what} can't be written as JSON: {source}")]
    Encode {
        /// What was to be written.
        what: String,
        /// Why it can't.
        source: serde_json::Error,
    },
    /// The workflow's tasks take inputs of several types, so each node needs its own.
    #[error("the tasks of workflow `{0}` take inputs of several types: start it with a graph")]
    NeedsGraph(String),
    /// The engine runs tasks, but not those of this workflow: the execution would wait for ever.
    #[error(
        "workflow `{0}` is not registered with this engine: `.register::<..>()` it, or start it from another process"
    )]
    NotRegistered(String),
    /// The instance has no execution.
    #[error("no instance `{0}` in this store")]
    UnknownInstance(String),
    /// There is no such execution.
    #[error("no execution {0} in this store")]
    UnknownExecution(ExecutionId),
    /// The instance belongs to another workflow than the one it was asked for.
    #[error("instance `{instance}` runs workflow `{found}`, not `{asked}`")]
    OtherWorkflow {
        /// The instance.
        instance: String,
        /// Its workflow.
        found: String,
        /// What was asked for.
        asked: String,
    },
    /// An option makes no sense.
    #[error("{0}")]
    Option(String),
}

impl From<ApplyError> for EngineError {
    fn from(error: ApplyError) -> EngineError {
        match error {
            ApplyError::Refused(refusal) => EngineError::Refused(refusal),
            ApplyError::Store(error) => EngineError::Store(error),
        }
    }
}
