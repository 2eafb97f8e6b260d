//! Reading for queries, on connections apart from those that write.

use abide_core::graph::Uses;
use abide_core::ids::ExecutionId;
use abide_core::kernel::Claimed;

use crate::error::StoreError;
use crate::health::Health;
use crate::views::{EndView, TaskInputs};

use super::connect::Session;
use super::pool;
use super::queries::Reader;
use super::statement::{Execute, Param, Statement, Value};
use super::{Postgres, Shared, health};

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
            let read = || async {
                let session = self.session().await?;
                self.reader(&session).inputs(claimed, uses).await
            };
            return pool::ask_again(|| self.shared.address.database(), read).await;
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

impl Reader<'_, Session> {
    /// How the server fares.
    pub(crate) async fn health(&self) -> Result<Health, StoreError> {
        health::health(self.execute).await
    }
}

/// Those of these executions that have ended, or are not there any more: a server that took over without
/// the last transactions of the one before doesn't know them.
pub(crate) async fn gone_among(
    execute: &impl Execute,
    ids: &[ExecutionId],
) -> Result<Vec<ExecutionId>, StoreError> {
    let ids = ids.iter().map(|id| Some(id.0)).collect();
    let gone = Statement::new(
        "SELECT w.id FROM unnest($1::bigint[]) AS w (id) \
         WHERE NOT EXISTS (SELECT FROM ~executions e WHERE e.id = w.id AND e.closed_at IS NULL)",
        vec![Param::Ints(ids)],
    );
    let answers = execute.run(vec![gone]).await?;
    let values = answers.into_iter().flatten().flatten();
    let id = |value| match value {
        Value::Int(id) => Some(ExecutionId(id)),
        _ => None,
    };
    Ok(values.filter_map(id).collect())
}
