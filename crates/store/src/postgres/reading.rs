//! Reading for queries, on connections apart from those that write.

use abide_core::graph::Uses;
use abide_core::ids::ExecutionId;
use abide_core::kernel::Claimed;

use crate::error::StoreError;
use crate::health::Health;
use crate::verify::{self, VerifyOptions, VerifyReport};
use crate::views::{EndView, TaskInputs};

use super::connect::Session;
use super::pool;
use super::queries::Reader;
use super::statement::{Execute, Param, Statement, Value};
use super::{Postgres, Shared, connect, export, health};

impl Postgres {
    /// A connection to read on.
    pub(crate) async fn session(&self) -> Result<pool::Reader, StoreError> {
        self.shared.counters.add_read();
        self.shared.readers.get().await
    }

    /// How long what is read is asked again while the server is away.
    pub(crate) fn patience(&self) -> pool::Patience {
        pool::Patience::of(self.shared.patience)
    }

    /// How an execution stands, with what it gave if it has ended.
    pub(crate) async fn end(&self, id: ExecutionId) -> Result<Option<EndView>, StoreError> {
        let mut patience = self.patience();
        loop {
            match self.ends.read(id).await {
                Err(error) if patience.allows(&error).await => {}
                end => return end,
            }
        }
    }

    /// What a claimed task is given to work with, as far as its code asks for it.
    pub(crate) async fn inputs(
        &self,
        claimed: &Claimed,
        uses: &Uses,
    ) -> Result<TaskInputs, StoreError> {
        if uses.outputs || uses.context || claimed.input.is_some() {
            let session = self.session().await?;
            return self.reader(&session).inputs(claimed, uses).await;
        }
        let mut inputs = TaskInputs::default();
        if uses.input {
            inputs.input = self.inputs.read(claimed.task.key).await?;
        }
        Ok(inputs)
    }

    /// The queries, on that connection.
    pub(crate) fn reader<'a>(&'a self, session: &'a Session) -> Reader<'a, Session> {
        self.shared.reader(session)
    }

    /// Verifies a copy of the store as of one moment. On a thread of its own: it may take long.
    pub(crate) async fn verify(&self, options: VerifyOptions) -> Result<VerifyReport, StoreError> {
        let address = self.shared.address.clone();
        let name = self.name();
        let work = move || {
            let directory = tempfile::tempdir().map_err(|error| no_copy(&error))?;
            let path = directory.path().join("copy.db");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| no_copy(&error))?;
            let copied = runtime.block_on(async {
                let session = connect(&address).await?;
                export::export(&session, &path).await
            });
            match copied {
                Ok(damage) => verify::run_copy(&path, &name, &options, damage),
                // A page that the server cannot read, a table that is gone.
                Err(StoreError::Corrupt { detail, .. }) => {
                    Ok(verify::unreadable(&detail, &options))
                }
                Err(error) => Err(error),
            }
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(StoreError::Internal(error.to_string())))
    }
}

impl Shared {
    /// The queries, on that connection.
    pub(super) fn reader<'a>(&'a self, session: &'a Session) -> Reader<'a, Session> {
        Reader {
            execute: session,
            graphs: &self.graphs,
        }
    }
}

fn no_copy(error: &std::io::Error) -> StoreError {
    StoreError::Internal(format!("no room for a copy of the store: {error}"))
}

impl Reader<'_, Session> {
    /// How the server fares.
    pub(crate) async fn health(&self) -> Result<Health, StoreError> {
        health::health(self.execute).await
    }
}

/// Those of these executions that have ended.
pub(crate) async fn ended_among(
    execute: &impl Execute,
    ids: &[ExecutionId],
) -> Result<Vec<ExecutionId>, StoreError> {
    let ids = ids.iter().map(|id| Some(id.0)).collect();
    let ended = Statement::new(
        "SELECT id FROM ~executions WHERE id = ANY ($1::bigint[]) AND closed_at IS NOT NULL",
        vec![Param::Ints(ids)],
    );
    let answers = execute.run(vec![ended]).await?;
    let values = answers.into_iter().flatten().flatten();
    let id = |value| match value {
        Value::Int(id) => Some(ExecutionId(id)),
        _ => None,
    };
    Ok(values.filter_map(id).collect())
}
