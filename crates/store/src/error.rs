//! Errors of a store. Every error says whether the write definitely did not happen, and whether it
//! may help to ask again.

use abide_core::kernel::Refusal;

/// An error of the store.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process or transaction kept a lock for longer than the timeout. On PostgreSQL also:
    /// a statement took longer than the `statement_timeout`.
    #[error("the database {0} is locked by another process or too busy; nothing was written")]
    Busy(String),
    /// There is no space left.
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
    /// The file or schema belongs to something else.
    #[error("{0} is not an Abide database; name another file or schema, which will be created")]
    NotADatabase(String),
    /// The database has the schema of a newer Abide. A process that had opened the database before gets this
    /// from every write, once a newer program has opened it. The store writes nothing more then.
    #[error(
        "the database {path} has schema {found}, this program knows up to {known}: it was written by a newer version; nothing was written; stop this program and upgrade it"
    )]
    TooNew {
        /// The file, or the server and schema.
        path: String,
        /// Its schema.
        found: i64,
        /// The newest schema known here.
        known: i64,
    },
    /// The database was made by a build of Abide from before the first release. Until then the first schema
    /// is changed in place, and no step leads from one build's tables to another's.
    #[error(
        "the database {path} was made by another build of Abide that was never published (its tables are not those of schema {found} as this program knows it): nothing was changed; set it aside (move the file, or rename the schema) and a new store is made in its place, or go back to the build that made it"
    )]
    Unpublished {
        /// The file, or the server and schema.
        path: String,
        /// Its schema.
        found: i64,
    },
    /// The file, its directory or the server's database cannot be opened.
    #[error("cannot open the database {path}: {detail}")]
    CannotOpen {
        /// The file, or the server and schema.
        path: String,
        /// Why.
        detail: String,
    },
    /// SQLite: the file that was opened, or its log, was deleted, renamed or replaced while it was
    /// in use. The store writes nothing more until the program is started again.
    #[error("the database {path} is no longer the file that was opened: {detail}; {}; stop this program, put the right file in its place, and start it again", if *.unknown { "the last write may be lost with it" } else { "nothing was written" })]
    FileGone {
        /// The file.
        path: String,
        /// What happened to which file.
        detail: String,
        /// Whether the write may have happened.
        unknown: bool,
    },
    /// Reading or writing failed below the database. After a failed commit it is unknown whether
    /// the write happened.
    #[error("input or output failed on the database {path} ({detail}){}", if *.unknown { "; the write may or may not have happened: ask again with the same id" } else { "" })]
    Io {
        /// The file, or the server and schema.
        path: String,
        /// The system's message.
        detail: String,
        /// Whether the write may have happened.
        unknown: bool,
    },
    /// The server is out of reach, starting, stopping, a standby, or has no room for a connection.
    #[error("the database {database} is out of reach ({detail}); nothing was written")]
    Unavailable {
        /// The server and schema.
        database: String,
        /// The server's message.
        detail: String,
    },
    /// The server does not allow the request.
    #[error("the database {database} refuses it ({detail}); nothing was written")]
    Denied {
        /// The server and schema.
        database: String,
        /// The server's message.
        detail: String,
    },
    /// The database returned an error that Abide does not know. Nothing shows that the request is
    /// the cause: a request gets this error only after it also failed alone, and on PostgreSQL on a
    /// new connection. Ask again.
    #[error("the database {database} failed unexpectedly ({detail}); nothing was written")]
    Unexpected {
        /// The file, or the server and schema.
        database: String,
        /// What it said.
        detail: String,
    },
    /// Another process changed the same rows first. Ask again, at once.
    #[error("another process was first ({what}); nothing was written")]
    Raced {
        /// The constraint that was violated, or the server's message.
        what: String,
    },
    /// The server ended a deadlock by ending this transaction. Ask again, at once.
    #[error("a deadlock on the database {0}; nothing was written")]
    Deadlock(String),
    /// A user's own transaction conflicts with another one that changed the same rows, or rows that
    /// it had read. Roll it back and run it again from its beginning.
    #[error("{0}; nothing was written: roll the transaction back and run it again")]
    Conflict(String),
    /// A user's own transaction does not belong to the store's database.
    #[error(
        "the transaction is not one of the store's database {store}: {detail}; nothing was written"
    )]
    OtherDatabase {
        /// The store's file, or its server and schema.
        store: String,
        /// The transaction's database.
        detail: String,
    },
    /// A row contradicts itself, or a stored text cannot be parsed.
    #[error("{what} cannot be read: {detail}; `abide verify` says more")]
    Undecodable {
        /// The row.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A workflow version is recorded with another graph than the one with which it is now
    /// registered or started. A version's graph never changes, because executions that were started
    /// with it depend on it.
    #[error(
        "workflow `{workflow}` version `{version}` is recorded in this store with another graph: {difference}; nothing was written. Give the changed workflow another `version`: executions of the recorded one go on in programs that still register it"
    )]
    OtherGraph {
        /// The workflow's name.
        workflow: String,
        /// The version that its author chose.
        version: String,
        /// The difference.
        difference: String,
    },
    /// Another process made the same id for an execution or a worker. Ask again with the next id.
    #[error("the id is taken; nothing was written")]
    IdTaken,
    /// The caller passed a value that cannot be stored.
    #[error("{0}")]
    Invalid(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// A defect of the store itself, or a value that the database does not accept.
    #[error("internal error of the store: {0}; nothing was written")]
    Internal(String),
}

impl StoreError {
    /// Whether the write definitely did not happen.
    pub fn is_definite(&self) -> bool {
        !matches!(
            self,
            StoreError::Io { unknown: true, .. }
                | StoreError::FileGone { unknown: true, .. }
                | StoreError::Closed
        )
    }

    /// Whether this process can write nothing more to the store, whatever is asked and however often.
    pub(crate) fn is_for_good(&self) -> bool {
        matches!(
            self,
            StoreError::TooNew { .. } | StoreError::FileGone { .. }
        )
    }

    /// Whether the cause is a stored or requested value, rather than the database.
    pub(crate) fn is_content(&self) -> bool {
        matches!(
            self,
            StoreError::Undecodable { .. } | StoreError::Invalid(_)
        )
    }

    /// Whether one of several requests in the same transaction may be the cause.
    pub(crate) fn may_be_of_one(&self) -> bool {
        matches!(self, StoreError::Unexpected { .. }) || !self.is_transient()
    }

    /// Whether the cause may disappear by itself, so that it is worth asking again.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            StoreError::Busy(_)
                | StoreError::Full(_)
                | StoreError::ReadOnly(_)
                | StoreError::Io { .. }
                | StoreError::Unavailable { .. }
                | StoreError::Unexpected { .. }
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
