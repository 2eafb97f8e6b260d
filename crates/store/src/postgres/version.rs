//! Whether the schema is still of the version with which this process opened it. A newer program may have brought
//! it to another since, and then nothing more is written with the statements of this one.
//!
//! Every transaction that writes reads the version in its first statement but those that pick from the queue, or in
//! the statement that writes where that is the only one. Reading takes a lock on the table `store`, which the
//! transaction keeps to its end. A migration takes the opposite lock (`schema`): it waits for the transactions that
//! read the version from before, and those that come later read the new one.

use crate::error::StoreError;

use super::connect::{BEGIN, ROLLBACK, Session};
use super::statement::{Execute, Row, Statement, Value};
use super::{Postgres, Shared};

/// Reads the version.
pub(super) const SELECT_VERSION: &str = "SELECT schema FROM ~store";

/// The same in a transaction that sees the store as it was at its beginning: it fails if that is no longer so.
const LOCK_VERSION: &str = "SELECT schema FROM ~store FOR SHARE";

/// The version that a statement answered.
pub(super) fn version(answer: Option<Vec<Row>>) -> Result<i64, StoreError> {
    match answer.into_iter().flatten().next().as_deref() {
        Some([Value::Int(version)]) => Ok(*version),
        other => Err(StoreError::Internal(format!("no version but {other:?}"))),
    }
}

impl Shared {
    /// Refuses to write if the store is of another version by now. This process's worker is told.
    pub(super) fn require_version(&self, found: i64) -> Result<(), StoreError> {
        let required = self.migrations.require(|| self.address.database(), found);
        required.inspect_err(|error| self.lose_if_for_good(error))
    }

    /// Tells this process's worker, and callers that wait for an end, about an error after which nothing more can
    /// be written.
    pub(super) fn lose_if_for_good(&self, error: &StoreError) {
        if error.is_for_good() {
            self.hints.lose(error.clone());
        }
    }

    /// Asks for the version in a statement of its own, where a write failed or came to nothing.
    pub(super) async fn ask_version(&self, execute: &impl Execute) -> Result<(), StoreError> {
        let ask = vec![Statement::new(SELECT_VERSION, Vec::new())];
        self.require_version(version(execute.run(ask).await?.pop())?)
    }

    /// Asks for the version in a transaction that sees nothing that was committed after its beginning.
    pub(super) async fn ask_present_version(
        &self,
        execute: &impl Execute,
    ) -> Result<(), StoreError> {
        let ask = vec![Statement::new(LOCK_VERSION, Vec::new())];
        self.require_version(version(execute.run(ask).await?.pop())?)
    }

    /// What an error of a write means that the server does not explain: the schema may be another by now, whose
    /// tables have other columns.
    pub(super) async fn explained(&self, execute: &impl Execute, error: StoreError) -> StoreError {
        let is_explained = !matches!(
            error,
            StoreError::Corrupt { .. } | StoreError::Internal(_) | StoreError::Unexpected { .. }
        );
        if is_explained {
            return error;
        }
        match self.ask_version(execute).await {
            Err(refused) if refused.is_for_good() => refused,
            _ => error,
        }
    }
}

impl Postgres {
    /// Begins a transaction that writes.
    pub(super) async fn begin(&self, session: &Session) -> Result<(), StoreError> {
        let begin = [BEGIN, SELECT_VERSION].map(|sql| Statement::new(sql, Vec::new()));
        let found = version(session.run(begin.into()).await?.pop())?;
        if let Err(refused) = self.shared.require_version(found) {
            let end = vec![Statement::new(ROLLBACK, Vec::new())];
            session.run(end).await?;
            return Err(refused);
        }
        Ok(())
    }

    /// After a statement that reads the version itself: if it changed nothing, the store may be of another version by
    /// now, which is an error.
    pub(super) async fn unless_outdated(
        &self,
        session: &Session,
        is_written: bool,
    ) -> Result<(), StoreError> {
        match is_written {
            true => Ok(()),
            false => self.shared.ask_version(session).await,
        }
    }
}
