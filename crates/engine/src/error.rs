//! Errors of an engine as a whole. The errors of tasks are [`TaskError`](crate::TaskError)s, and
//! the end of an execution without a result is a [`RunError`](crate::RunError).

use abide_core::ids::ExecutionId;
use abide_core::kernel::Refusal;
use abide_store::{ApplyError, StoreError};
use thiserror::Error;

use crate::authoring::AuthoringError;
use crate::client::{CursorError, NameError};
use crate::registry::RegistrationError;

/// Why an engine did not start, or could not carry out a request.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Two registered workflows conflict, or a task's state is missing.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// A workflow, or a graph built at run time, has a mistake.
    #[error(transparent)]
    Authoring(#[from] AuthoringError),
    /// The present state does not allow the request. Nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store failed. [`StoreError::is_definite`] says whether nothing was written for sure; if
    /// not, ask again with the same instance id.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A value cannot be written as JSON.
    #[error("{what} can't be written as JSON: {error}")]
    Encode {
        /// The value.
        what: String,
        /// Why it cannot.
        error: serde_json::Error,
    },
    /// The workflow's tasks take inputs of different types, so each node needs its own input.
    #[error("the tasks of workflow `{0}` take inputs of several types: start it with a graph")]
    NeedsGraph(String),
    /// The engine runs tasks, but not those of this workflow, so the execution would wait for ever.
    #[error(
        "workflow `{0}` is not registered with this engine: `.register::<..>()` it, or start it from another process"
    )]
    NotRegistered(String),
    /// The instance has no execution.
    #[error("no instance `{0}` in this store")]
    UnknownInstance(String),
    /// A name means no execution, or several.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A cursor is not one of this list.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// There is no such execution.
    #[error("no execution {0} in this store")]
    UnknownExecution(ExecutionId),
    /// The instance belongs to another workflow than the requested one. All workflows of a store
    /// share one set of instance ids.
    #[error(
        "instance `{instance}` is one of workflow `{found}`, not of `{asked}`: all workflows of a store share its instance ids, so instances of `{asked}` need ids of their own, such as `{asked}-{instance}`"
    )]
    OtherWorkflow {
        /// The instance.
        instance: String,
        /// Its workflow.
        found: String,
        /// The requested workflow.
        asked: String,
    },
    /// An option is out of its range.
    #[error("{0}")]
    Option(String),
}

/// What a program can do about an [`EngineError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The call, or the program, is wrong: the same call fails again. Nothing was written.
    Invalid,
    /// The store does not allow the request as things stand, for example because the execution has
    /// ended. Nothing was written.
    Refused,
    /// There is no such instance or execution. Nothing was written.
    NotFound,
    /// The cause may pass by itself: ask again. Nothing was written.
    Transient,
    /// The request may have been written, or not: ask again with the same instance id.
    Unknown,
    /// The store does not work until a person changes something: for example it is damaged, or belongs to
    /// another program. Nothing was written.
    Store,
}

impl EngineError {
    /// What a program can do about the error: whether to ask again, and whether anything was written.
    ///
    /// ```
    /// use abide::{EngineError, ErrorKind, StoreError};
    ///
    /// let error = EngineError::Store(StoreError::Busy("app.db".to_owned()));
    /// assert_eq!(error.kind(), ErrorKind::Transient);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        match self {
            EngineError::Registration(_)
            | EngineError::Authoring(_)
            | EngineError::Encode { .. }
            | EngineError::NeedsGraph(_)
            | EngineError::NotRegistered(_)
            | EngineError::Cursor(_)
            | EngineError::Option(_) => ErrorKind::Invalid,
            EngineError::Name(NameError::Ambiguous { .. }) => ErrorKind::Invalid,
            EngineError::Refused(Refusal::UnknownInstance(_) | Refusal::UnknownExecution(_))
            | EngineError::Name(NameError::Unknown { .. })
            | EngineError::UnknownInstance(_)
            | EngineError::UnknownExecution(_) => ErrorKind::NotFound,
            EngineError::Refused(_) | EngineError::OtherWorkflow { .. } => ErrorKind::Refused,
            EngineError::Store(error) => kind_of(error),
        }
    }
}

fn kind_of(error: &StoreError) -> ErrorKind {
    if !error.is_definite() {
        return ErrorKind::Unknown;
    }
    if error.is_transient() {
        return ErrorKind::Transient;
    }
    match error {
        StoreError::Invalid(_)
        | StoreError::OtherDatabase { .. }
        | StoreError::OtherGraph { .. } => ErrorKind::Invalid,
        _ => ErrorKind::Store,
    }
}

impl From<ApplyError> for EngineError {
    fn from(error: ApplyError) -> EngineError {
        match error {
            ApplyError::Refused(Refusal::OtherWorkflow {
                instance,
                found,
                asked,
                ..
            }) => EngineError::OtherWorkflow {
                instance,
                found,
                asked,
            },
            ApplyError::Refused(refusal) => EngineError::Refused(refusal),
            ApplyError::Store(error) => EngineError::Store(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn kinds_tell_whether_to_ask_again() {
        let check = |error: EngineError, kind| assert_eq!(error.kind(), kind, "{error}");
        let io = |unknown| StoreError::Io {
            path: "app.db".to_owned(),
            detail: "the disk".to_owned(),
            unknown,
        };
        check(io(true).into(), ErrorKind::Unknown);
        check(io(false).into(), ErrorKind::Transient);
        let another = StoreError::NotADatabase("app.db".to_owned());
        check(another.into(), ErrorKind::Store);
        let none = Refusal::UnknownInstance("order-1".to_owned());
        check(none.into(), ErrorKind::NotFound);
        let none = EngineError::UnknownInstance("order-1".to_owned());
        check(none, ErrorKind::NotFound);
        let nameless = StoreError::Invalid("no name".to_owned());
        check(nameless.into(), ErrorKind::Invalid);
    }

    #[test]
    fn nothing_is_printed_twice_in_a_chain() {
        let json = serde_json::from_str::<u8>("x").expect_err("no number");
        let cause = json.to_string();
        let error = EngineError::Encode {
            what: "the input".to_owned(),
            error: json,
        };
        assert!(error.to_string().contains(&cause), "{error}");
        assert!(error.source().is_none());
    }
}
