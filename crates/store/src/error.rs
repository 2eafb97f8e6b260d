//! What can go wrong with a store. Every error says whether the write is known not to have
//! happened, and whether asking again may help.

use abide_core::kernel::Refusal;

/// An error of the store.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process or transaction kept what this one needs locked for longer than the timeout; on
    /// PostgreSQL also: a statement took longer than the `statement_timeout`.
    #[error("the database {0} is locked by another process or too busy; nothing was written")]
    Busy(String),
    /// No space left.
    #[error(
        "no space left for the database {0}; nothing was written; free some space and the engine goes on"
    )]
    Full(String),
    /// The file, its directory or the connection does not allow writing.
    #[error(
        "the database {0} is read-only; nothing was written; make the file and its directory writable"
    )]
    ReadOnly(String),
    /// The content is damaged, or parts of it are missing.
    #[error(
        "the database {path} is damaged ({detail}); restore it from a backup, or look into it with `abide verify`"
    )]
    Corrupt {
        /// The file, or the server and schema.
        path: String,
        /// What was found.
        detail: String,
    },
    /// The file or schema is something else's.
    #[error("{0} is not an Abide database; name another file or schema, which will be created")]
    NotADatabase(String),
    /// The database was written by a newer Abide.
    #[error(
        "the database {path} has schema {found}, this program knows up to {known}: it was written by a newer version; upgrade this program"
    )]
    TooNew {
        /// The file, or the server and schema.
        path: String,
        /// Its schema.
        found: i64,
        /// The newest schema known here.
        known: i64,
    },
    /// The file, its directory or the server's database cannot be opened.
    #[error("cannot open the database {path}: {detail}")]
    CannotOpen {
        /// The file, or the server and schema.
        path: String,
        /// Why.
        detail: String,
    },
    /// Reading or writing failed below the database. After a failed commit it is unknown whether
    /// the write happened.
    #[error("input or output failed on the database {path} ({detail}){}", if *.unknown { "; the write may or may not have happened: ask again with the same id" } else { "" })]
    Io {
        /// The file, or the server and schema.
        path: String,
        /// What the system said.
        detail: String,
        /// Whether the write may have happened.
        unknown: bool,
    },
    /// The server is out of reach, starting, stopping, a standby, or has no room for a connection.
    #[error("the database {database} is out of reach ({detail}); nothing was written")]
    Unavailable {
        /// The server and schema.
        database: String,
        /// What it said.
        detail: String,
    },
    /// The server does not allow it.
    #[error("the database {database} refuses it ({detail}); nothing was written")]
    Denied {
        /// The server and schema.
        database: String,
        /// What it said.
        detail: String,
    },
    /// Another process changed the same rows first. Ask again, at once.
    #[error("another process was first ({what}); nothing was written")]
    Raced {
        /// The constraint that says that there is only one, or what the server said.
        what: String,
    },
    /// The server ended a transaction that others waited for in a circle. Ask again, at once.
    #[error("a deadlock on the database {0}; nothing was written")]
    Deadlock(String),
    /// A transaction of the user's own met another one that changed the same, or what it had read.
    /// Roll it back and run it again, from its beginning.
    #[error("{0}; nothing was written: roll the transaction back and run it again")]
    Conflict(String),
    /// A transaction of the user's own is not one of the store's database.
    #[error(
        "the transaction is not one of the store's database {store}: {detail}; nothing was written"
    )]
    OtherDatabase {
        /// The store's file, or its server and schema.
        store: String,
        /// Where the transaction is.
        detail: String,
    },
    /// A row contradicts itself, or a stored text does not parse.
    #[error("{what} cannot be read: {detail}; `abide verify` says more")]
    Undecodable {
        /// The row.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Another process made the same id, of an execution or a worker. Ask again with the next one.
    #[error("the id is taken; nothing was written")]
    IdTaken,
    /// The caller gave something that cannot be stored.
    #[error("{0}")]
    Invalid(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A defect of the store itself.
    #[error("internal error of the store: {0}; nothing was written")]
    Internal(String),
}

impl StoreError {
    /// Whether nothing was written for sure.
    pub fn is_definite(&self) -> bool {
        !matches!(
            self,
            StoreError::Io { unknown: true, .. } | StoreError::Closed
        )
    }

    /// Whether it is about what is stored or asked, rather than about the database.
    pub(crate) fn is_content(&self) -> bool {
        matches!(
            self,
            StoreError::Undecodable { .. } | StoreError::Invalid(_)
        )
    }

    /// Whether the cause may go away by itself, so that asking again is worth it.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            StoreError::Busy(_)
                | StoreError::Full(_)
                | StoreError::ReadOnly(_)
                | StoreError::Io { .. }
                | StoreError::Unavailable { .. }
                | StoreError::Raced { .. }
                | StoreError::Deadlock(_)
                | StoreError::Conflict(_)
        )
    }
}

/// Why a request was not applied.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ApplyError {
    /// The rules refused it. Nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store could not write it.
    #[error(transparent)]
    Store(#[from] StoreError),
}
