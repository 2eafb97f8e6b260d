//! Starts and signals inside a transaction of the user's own: they exist if and only if that
//! transaction commits. The same rules run as for everybody else, and the same statements are
//! written, over the user's connection.
//!
//! Invariants: a request leaves all of its rows in the user's transaction or none, whatever became
//! of it; nobody is woken, and nothing is claimed, before the transaction commits.

use std::future::Future;
#[cfg(feature = "sqlite")]
use std::future::ready;
use std::sync::Arc;

use abide_core::graph::Graph;
use abide_core::ids::VersionId;
use abide_core::kernel::{Ask, Reply, Request, Signal, Signalled, Start, Started};

use crate::checks::{check_name, check_signal, check_start};
use crate::driver::Driver;
use crate::error::{ApplyError, StoreError};
use crate::store::{Store, requests};
use crate::views::WorkflowKind;

/// A user's own open transaction, in the database of a store.
///
/// It is implemented for
///
/// - SQLite: with the feature `sqlite`, `rusqlite::Transaction`, `rusqlite::Savepoint`, and a
///   `rusqlite::Connection` on which a transaction was begun;
/// - PostgreSQL: with the feature `postgres`, `tokio_postgres::Transaction`; with the feature
///   `sqlx`, the transaction of `sqlx::Postgres`.
///
/// No other type can implement it.
pub trait Transaction: sealed::Within {}

pub(crate) mod sealed {
    use super::*;

    /// What a store asks of a transaction.
    pub trait Within {
        /// Applies the requests of one start or signal, and answers the last of them.
        fn apply(
            &mut self,
            store: &Store,
            requests: Vec<Request>,
        ) -> impl Future<Output = Result<Reply, ApplyError>>;

        /// See [`Store::version_in`].
        fn version(
            &mut self,
            store: &Store,
            version: NewVersion<'_>,
        ) -> impl Future<Output = Result<(VersionId, bool), StoreError>>;
    }

    /// A workflow version as it is recorded.
    #[derive(Clone)]
    pub struct NewVersion<'a> {
        pub(crate) name: &'a str,
        pub(crate) version: &'a str,
        pub(crate) kind: WorkflowKind,
        pub(crate) graph: Arc<Graph>,
    }
}

use sealed::{NewVersion, Within};

impl Store {
    /// Starts an execution inside a transaction of the user's own: it exists if and only if that
    /// commits. A large graph is written whole, however many tasks it has. Nothing is claimed with
    /// the start: an offer is left aside.
    ///
    /// # Errors
    ///
    /// What [`Store::start`] says; [`StoreError::OtherDatabase`]; and [`StoreError::Conflict`] if
    /// the transaction must be rolled back and run again. After all other errors it is as it was
    /// before, unless its connection is lost.
    pub async fn start_in<T: Transaction + ?Sized>(
        &self,
        transaction: &mut T,
        start: Start,
    ) -> Result<Started, ApplyError> {
        check_start(&start, self.payload_limit_bytes)?;
        let requests = requests(Start {
            offer: None,
            ..start
        });
        transaction.apply(self, requests).await.map(Start::answer)
    }

    /// Sends a signal inside a transaction of the user's own: it exists if and only if that commits.
    /// On PostgreSQL nobody else changes the execution meanwhile.
    ///
    /// # Errors
    ///
    /// What [`Store::signal`] and [`Store::start_in`] say. On PostgreSQL the transaction must be one
    /// of READ COMMITTED.
    pub async fn signal_in<T: Transaction + ?Sized>(
        &self,
        transaction: &mut T,
        signal: Signal,
    ) -> Result<Signalled, ApplyError> {
        check_signal(&signal, self.payload_limit_bytes)?;
        let requests = vec![Request::Signal(signal)];
        transaction.apply(self, requests).await.map(Signal::answer)
    }

    /// The id of a workflow version for a start inside a transaction of the user's own, and whether
    /// it stays whatever becomes of that. On SQLite, where nobody else writes meanwhile, a new version
    /// is recorded there as well, and is gone if that is rolled back; on PostgreSQL it is recorded
    /// apart.
    pub async fn version_in<T: Transaction + ?Sized>(
        &self,
        transaction: &mut T,
        name: &str,
        version: &str,
        kind: WorkflowKind,
        graph: Arc<Graph>,
    ) -> Result<(VersionId, bool), StoreError> {
        check_name("workflow", name)?;
        let version = NewVersion {
            name,
            version,
            kind,
            graph,
        };
        transaction.version(self, version).await
    }
}

#[cfg(feature = "sqlite")]
macro_rules! on_sqlite {
    ($($kind:ty),+) => {$(
        impl Transaction for $kind {}

        impl Within for $kind {
            fn apply(
                &mut self,
                store: &Store,
                requests: Vec<Request>,
            ) -> impl Future<Output = Result<Reply, ApplyError>> {
                ready(match &store.driver {
                    #[cfg(feature = "sqlite")]
                    Driver::Sqlite(driver) => driver.apply_within(self, &requests),
                    #[cfg(feature = "postgres")]
                    Driver::Postgres(_) => Err(store.other_kind("SQLite").into()),
                })
            }

            fn version(
                &mut self,
                store: &Store,
                version: NewVersion<'_>,
            ) -> impl Future<Output = Result<(VersionId, bool), StoreError>> {
                ready(match &store.driver {
                    #[cfg(feature = "sqlite")]
                    Driver::Sqlite(driver) => driver.version_within(self, &version),
                    #[cfg(feature = "postgres")]
                    Driver::Postgres(_) => Err(store.other_kind("SQLite")),
                })
            }
        }
    )+};
}

#[cfg(feature = "sqlite")]
on_sqlite!(
    rusqlite::Connection,
    rusqlite::Transaction<'_>,
    rusqlite::Savepoint<'_>
);

#[cfg(feature = "postgres")]
impl Transaction for tokio_postgres::Transaction<'_> {}

#[cfg(feature = "postgres")]
impl Within for tokio_postgres::Transaction<'_> {
    async fn apply(&mut self, store: &Store, requests: Vec<Request>) -> Result<Reply, ApplyError> {
        match &store.driver {
            Driver::Postgres(driver) => driver.apply_within(self, &requests).await,
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(_) => Err(store.other_kind("PostgreSQL").into()),
        }
    }

    async fn version(
        &mut self,
        store: &Store,
        version: NewVersion<'_>,
    ) -> Result<(VersionId, bool), StoreError> {
        store.version_apart(version).await
    }
}

#[cfg(feature = "sqlx")]
impl Transaction for sqlx::Transaction<'_, sqlx::Postgres> {}

#[cfg(feature = "sqlx")]
impl Within for sqlx::Transaction<'_, sqlx::Postgres> {
    async fn apply(&mut self, store: &Store, requests: Vec<Request>) -> Result<Reply, ApplyError> {
        match &store.driver {
            Driver::Postgres(driver) => driver.apply_within_sqlx(self, &requests).await,
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(_) => Err(store.other_kind("PostgreSQL").into()),
        }
    }

    async fn version(
        &mut self,
        store: &Store,
        version: NewVersion<'_>,
    ) -> Result<(VersionId, bool), StoreError> {
        store.version_apart(version).await
    }
}

#[cfg(feature = "postgres")]
impl Store {
    /// A transaction of a library that isn't the store's database's.
    #[cfg(feature = "sqlite")]
    pub(crate) fn other_kind(&self, kind: &str) -> StoreError {
        StoreError::OtherDatabase {
            store: self.name(),
            detail: format!("it is one of {kind}"),
        }
    }

    /// Records a version on a connection of the store's own.
    pub(crate) async fn version_apart(
        &self,
        version: NewVersion<'_>,
    ) -> Result<(VersionId, bool), StoreError> {
        let NewVersion {
            name,
            version,
            kind,
            graph,
        } = version;
        match &self.driver {
            Driver::Postgres(_) => {
                let id = self.ensure_version(name, version, kind, graph).await?;
                Ok((id, true))
            }
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(_) => Err(self.other_kind("PostgreSQL")),
        }
    }
}
