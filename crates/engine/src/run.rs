//! One execution, as the program that started it sees it.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use abide_core::failure::{Failure, kinds};
use abide_core::ids::ExecutionId;
use abide_core::kernel::{CancelReply, Started};
use abide_core::status::ExecutionStatus;
use abide_store::{EndView, ExecutionView, StoreError};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::authoring::TaskError;
use crate::engine::Engine;
use crate::error::EngineError;

/// An execution that gives an `O`.
///
/// It is a name, not the execution itself: dropping it changes nothing, and any process can make
/// another with [`Engine::run`].
pub struct Run<O> {
    engine: Engine,
    id: ExecutionId,
    instance: Arc<str>,
    created: bool,
    output: PhantomData<fn() -> O>,
}

/// Why an execution has no result.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// A task failed and nothing caught it. The error is the task's own:
    /// [`downcast`](TaskError::downcast) gives it back typed.
    #[error("task `{node}` failed: {error}")]
    Failed {
        /// The node whose error this is.
        node: String,
        /// Its error.
        error: TaskError,
    },
    /// It was cancelled.
    #[error("the execution was cancelled: {reason}")]
    Cancelled {
        /// Why.
        reason: String,
    },
    /// Its deadline passed.
    #[error("the execution's deadline passed")]
    TimedOut,
    /// It ended by starting its next generation.
    #[error("the execution went on as the instance's next generation")]
    ContinuedAsNew,
    /// The result isn't what this program expects.
    #[error("the result can't be read as {type_name}: {source}")]
    Undecodable {
        /// What was expected.
        type_name: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// There is no such execution: the transaction that it was started in is not committed, or was
    /// rolled back; or the store was restored from an earlier backup.
    #[error("no execution {0} in this store")]
    Unknown(ExecutionId),
    /// The store failed. The execution goes on regardless.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<O> Run<O> {
    pub(crate) fn new(engine: Engine, id: ExecutionId, instance: Arc<str>, created: bool) -> Self {
        Run {
            engine,
            id,
            instance,
            created,
            output: PhantomData,
        }
    }

    /// What a start came to.
    pub(crate) fn of(engine: &Engine, instance: Arc<str>, started: &Started) -> Self {
        Run::new(engine.clone(), started.id, instance, started.created)
    }

    /// The execution's id.
    pub fn id(&self) -> ExecutionId {
        self.id
    }

    /// The stable id it was started with.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Whether the start that returned this made the execution, rather than find it.
    pub fn is_new(&self) -> bool {
        self.created
    }

    /// Waits until the execution has ended, without polling, and returns what it gave.
    pub async fn result(&self) -> Result<O, RunError>
    where
        O: DeserializeOwned,
    {
        let end = self.ended().await?;
        match end.status {
            ExecutionStatus::Completed => decode(&end),
            ExecutionStatus::Cancelled => {
                let reason = end.reason.unwrap_or_default();
                Err(RunError::Cancelled { reason })
            }
            ExecutionStatus::TimedOut => Err(RunError::TimedOut),
            ExecutionStatus::ContinuedAsNew => Err(RunError::ContinuedAsNew),
            _ => Err(failed(end)),
        }
    }

    async fn ended(&self) -> Result<EndView, RunError> {
        let store = self.engine.store();
        loop {
            // Before the status is read, so that no end is missed in between.
            let mut watch = store.watch_end(self.id);
            let end = store
                .end(self.id)
                .await?
                .ok_or(RunError::Unknown(self.id))?;
            if end.status.is_terminal() {
                return Ok(end);
            }
            watch.ended().await;
        }
    }

    /// How the execution stands now.
    pub async fn status(&self) -> Result<ExecutionView, EngineError> {
        self.engine.describe(self.id).await
    }

    /// Asks the execution to stop; see [`Engine::cancel`].
    pub async fn cancel(&self, reason: &str) -> Result<CancelReply, EngineError> {
        self.engine.cancel(self.id, reason).await
    }
}

fn decode<T: DeserializeOwned>(end: &EndView) -> Result<T, RunError> {
    let json = end.output.as_ref().map_or("null", |output| output.as_str());
    serde_json::from_str(json).map_err(|source| RunError::Undecodable {
        type_name: std::any::type_name::<T>(),
        source,
    })
}

fn failed(end: EndView) -> RunError {
    let reason = end.reason.unwrap_or_default();
    let failure = end
        .error
        // An abandoned task has no error of its own.
        .unwrap_or_else(|| Failure::new(kinds::CRASHED, reason));
    RunError::Failed {
        node: end.failed_node.unwrap_or_default(),
        error: TaskError::of_failure(failure),
    }
}

impl<O> Clone for Run<O> {
    fn clone(&self) -> Run<O> {
        Run {
            engine: self.engine.clone(),
            id: self.id,
            instance: Arc::clone(&self.instance),
            created: self.created,
            output: PhantomData,
        }
    }
}

impl<O> fmt::Debug for Run<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("id", &format_args!("{}", self.id))
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}
