//! How a command ends: the exit codes, and the error messages.

use std::io::{self, Write};
use std::process::ExitCode;

use abide::client::{NameError, NameHint};
use abide::{EngineError, Refusal, StoreError};

use crate::output::text::{escape, without_passwords};

/// How a command ended that did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With the wished-for result.
    Good,
    /// With another result, such as findings of `verify`.
    Bad,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The arguments are not valid.
    Usage(String),
    /// The named thing does not exist.
    NotFound(String),
    /// The present state does not allow the request.
    Conflict(String),
    /// The time is up.
    TimedOut(String),
    /// Another failure.
    Failed(String),
    /// The store cannot be read or written.
    Store(StoreError),
    /// The output cannot be written.
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
            // The reader of the output has closed it, as `head` does.
            Problem::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Problem::Output(_) => 1,
        }
    }

    /// The message, if there is one.
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

/// Prints the error, and returns the exit code.
pub(crate) fn conclude(end: Result<Outcome, Problem>) -> ExitCode {
    match end {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::FAILURE,
        Err(problem) => {
            if let Some(words) = problem.words() {
                crate::output::note(format_args!("error: {words}"));
            }
            ExitCode::from(problem.code())
        }
    }
}

/// Prints the usage error or the requested help, and returns the exit code. A usage error repeats
/// the arguments, but never a password in them.
pub(crate) fn misused(error: &clap::Error) -> ExitCode {
    let words = error.render().to_string();
    match without_passwords(&words) == words {
        // Standard error may be closed.
        true => drop(error.print()),
        false => eprint_all(&without_passwords(&words)),
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn eprint_all(words: &str) {
    io::stderr().lock().write_all(words.as_bytes()).ok();
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

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Problem {
        match error {
            EngineError::Store(error) => error.into(),
            EngineError::Name(error) => error.into(),
            EngineError::Refused(
                refusal @ (Refusal::UnknownInstance(_) | Refusal::UnknownExecution(_)),
            ) => Problem::NotFound(format!("{refusal}: `abide list` shows what there is")),
            EngineError::Refused(refusal) => Problem::Conflict(refusal.to_string()),
            EngineError::Cursor(error) => Problem::Usage(error.to_string()),
            error @ EngineError::UnknownExecution(_) => Problem::NotFound(error.to_string()),
            other => Problem::Failed(other.to_string()),
        }
    }
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Problem {
        let NameError::Unknown { name, store, hint } = error else {
            return Problem::Conflict(error.to_string());
        };
        let hint = match hint {
            NameHint::TaskOf(id) => format!(
                "that is how a task is named: its execution is {id}, see `abide tasks {id}`"
            ),
            NameHint::Generations {
                instance,
                latest: 1,
            } => format!(
                "instance `{}` exists and has generation 1 only",
                escape(&instance)
            ),
            NameHint::Generations { instance, latest } => format!(
                "instance `{}` exists and has generations 1 to {latest}",
                escape(&instance)
            ),
            _ if name.contains('…') => "a table shortens long names: say the id".to_owned(),
            NameHint::Similar(near) => format!("did you mean `{}`?", escape(&near)),
            _ => "`abide list` shows what there is".to_owned(),
        };
        Problem::NotFound(format!(
            "no execution or instance `{}` in {store}: {hint}",
            escape(&name)
        ))
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Problem {
        Problem::Output(error)
    }
}
