//! The errors of the program, in words, and their exit codes.

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use abide::EngineError;

/// A failure, to be reported once.
pub(crate) struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    /// The execution failed, or could not be run.
    pub(crate) fn new(message: String) -> Failure {
        Failure { status: 1, message }
    }

    /// A file, directory or address on the command line cannot be used.
    pub(crate) fn usage(what: &Path, why: impl Display) -> Failure {
        let message = format!("{}: {why}", what.display());
        Failure { status: 2, message }
    }

    /// Ctrl-C.
    pub(crate) fn interrupted() -> Failure {
        Failure {
            status: 130,
            message: "Stopped. The same command goes on from here.".to_owned(),
        }
    }

    pub(crate) fn report(self) -> ExitCode {
        eprintln!("{}", self.message);
        ExitCode::from(self.status)
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        Failure::new(error.to_string())
    }
}
