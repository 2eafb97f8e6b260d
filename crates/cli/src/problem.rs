//! How a command ends: the exit codes, and what went wrong in words.

use std::io;
use std::process::ExitCode;

use abide_core::kernel::Refusal;
use abide_store::{ApplyError, StoreError};

/// How a command that did its work ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It did, and all is well.
    Good,
    /// It did, and what it found is not what was hoped for.
    Bad,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) enum Problem {
    /// It was asked in a way that makes no sense.
    Usage(String),
    /// What it was asked about does not exist.
    NotFound(String),
    /// The rules refuse it as things stand.
    Conflict(String),
    /// Its time is up.
    TimedOut(String),
    /// It failed.
    Failed(String),
    /// The store cannot be read or written.
    Store(StoreError),
    /// Its output cannot be written.
    Output(io::Error),
}

impl Problem {
    /// The exit code.
    fn code(&self) -> u8 {
        match self {
            Problem::Failed(_) | Problem::Store(_) => 1,
            Problem::Usage(_) => 2,
            Problem::NotFound(_) => 3,
            Problem::Conflict(_) => 4,
            Problem::TimedOut(_) => 124,
            // Whoever read the output has enough, as `head` does.
            Problem::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Problem::Output(_) => 1,
        }
    }

    /// What to tell, if there is anyone to tell.
    fn words(&self) -> Option<String> {
        match self {
            Problem::Usage(words)
            | Problem::NotFound(words)
            | Problem::Conflict(words)
            | Problem::TimedOut(words)
            | Problem::Failed(words) => Some(words.clone()),
            Problem::Store(error) => Some(error.to_string()),
            Problem::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            Problem::Output(error) => Some(format!("cannot write the output: {error}")),
        }
    }
}

/// Says what went wrong, and answers the exit code.
pub(crate) fn conclude(end: Result<Outcome, Problem>) -> ExitCode {
    match end {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::FAILURE,
        Err(problem) => {
            if let Some(words) = problem.words() {
                crate::output::note(format_args!(
                    "error: {}",
                    crate::output::text::escape(&words)
                ));
            }
            ExitCode::from(problem.code())
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        match error {
            StoreError::Invalid(words) => Problem::Usage(words),
            StoreError::NotADatabase(path) => {
                Problem::Failed(format!("{path} is not an Abide database"))
            }
            other => Problem::Store(other),
        }
    }
}

impl From<ApplyError> for Problem {
    fn from(error: ApplyError) -> Problem {
        match error {
            ApplyError::Store(error) => error.into(),
            ApplyError::Refused(
                refusal @ (Refusal::UnknownInstance(_) | Refusal::UnknownExecution(_)),
            ) => Problem::NotFound(format!("{refusal}: `abide list` shows what there is")),
            ApplyError::Refused(refusal) => Problem::Conflict(refusal.to_string()),
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Problem {
        Problem::Output(error)
    }
}
