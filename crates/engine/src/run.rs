//! One execution, for the program that started it.

use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::sync::Arc;

use abide_core::failure::{Failure, kinds};
use abide_core::ids::ExecutionId;
use abide_core::kernel::{Acted, Started};
use abide_core::status::ExecutionStatus;
use abide_store::{EndView, ExecutionView, StoreError};
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::authoring::{BoxFuture, TaskError};
use crate::client::Client;
use crate::error::EngineError;

/// An execution whose result is an `O`.
///
/// A `Run` only names the execution. Dropping it has no effect, and any process can make another
/// one with [`Client::find`].
pub struct Run<O> {
    client: Client,
    id: ExecutionId,
    instance: Arc<str>,
    created: bool,
    output: PhantomData<fn() -> O>,
}

/// Why an execution has no result.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// A task failed and no other task caught the failure. The error is the task's own:
    /// [`downcast`](TaskError::downcast) returns it with its type.
    #[error("task `{node}` failed: {error}")]
    Failed {
        /// The node of the failed task.
        node: String,
        /// Its error.
        error: TaskError,
    },
    /// The execution was cancelled.
    #[error("the execution was cancelled: {reason}")]
    Cancelled {
        /// Why.
        reason: String,
    },
    /// The execution's deadline passed.
    #[error("the execution's deadline passed")]
    TimedOut,
    /// The execution ended by starting its next generation.
    #[error("the execution went on as the instance's next generation")]
    ContinuedAsNew,
    /// The result cannot be read as the type that this program expects.
    #[error("the result can't be read as {type_name}: {error}")]
    Undecodable {
        /// The expected type.
        type_name: &'static str,
        /// Why it cannot be read.
        error: serde_json::Error,
    },
    /// There is no such execution. The transaction in which it was started is not committed, or was
    /// rolled back; or the store was restored from an earlier backup; or a standby took over
    /// without the last transactions of the earlier server. Start the execution again with the same
    /// instance id.
    #[error("no execution {0} in this store")]
    Unknown(ExecutionId),
    /// The store failed. The execution continues regardless.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<O> Run<O> {
    pub(crate) fn new(client: Client, id: ExecutionId, instance: Arc<str>, created: bool) -> Self {
        Run {
            client,
            id,
            instance,
            created,
            output: PhantomData,
        }
    }

    /// The result of a start.
    pub(crate) fn of(client: &Client, instance: Arc<str>, started: &Started) -> Self {
        Run::new(client.clone(), started.id, instance, started.created)
    }

    /// The execution's id.
    pub fn id(&self) -> ExecutionId {
        self.id
    }

    /// The instance: the stable id that the execution was started with.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Whether the start that returned this created the execution (true) or found it (false).
    pub fn is_new(&self) -> bool {
        self.created
    }

    /// Waits until the execution has ended, without polling, and returns what it gave.
    ///
    /// # Errors
    ///
    /// [`RunError`] says how it ended instead; [`RunError::Unknown`] also if the execution vanishes
    /// while this waits, as it may when a PostgreSQL standby takes over that lacked its start; and
    /// [`StoreError::FileGone`] if the database's file is deleted or replaced while this waits, or
    /// [`StoreError::TooNew`] if a newer program brings the store to a schema that this one does not know. The
    /// execution goes on then in processes of the newer program.
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
        self.client.watch()?;
        let store = self.client.store();
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
            watch.ended().await?;
        }
    }

    /// The present state of the execution.
    pub async fn status(&self) -> Result<ExecutionView, EngineError> {
        self.client.execution(self.id).await
    }

    /// Requests that the execution stops; see [`Client::cancel`].
    pub async fn cancel(&self, reason: &str) -> Result<Acted, EngineError> {
        self.client.cancel(self.id, reason).await
    }

    /// Gives the execution another priority; see [`Client::set_priority`].
    pub async fn set_priority(&self, priority: i16, reason: &str) -> Result<Acted, EngineError> {
        self.client.set_priority(self.id, priority, reason).await
    }
}

fn decode<T: DeserializeOwned>(end: &EndView) -> Result<T, RunError> {
    let json = end.output.as_ref().map_or("null", |output| output.as_str());
    serde_json::from_str(json).map_err(|error| RunError::Undecodable {
        type_name: std::any::type_name::<T>(),
        error,
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

/// `run.await` is [`run.result().await`](Run::result).
impl<O: DeserializeOwned + 'static> IntoFuture for Run<O> {
    type Output = Result<O, RunError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.result().await })
    }
}

impl<O> Clone for Run<O> {
    fn clone(&self) -> Run<O> {
        Run {
            client: self.client.clone(),
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
