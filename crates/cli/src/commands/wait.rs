//! `abide wait`.

use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

use abide_core::execution::Execution;
use abide_core::status::ExecutionStatus;
use clap::Args;
use tokio::time::Instant;

use crate::live::Live;
use crate::output::{Tone, colours, document};
use crate::problem::{Outcome, Problem};
use crate::reference;
use crate::session::Session;
use crate::values::{self, Goal};

/// Wait until an execution has a status, and print it.
///
/// Exit code 0 if it came to that, 1 if the execution ended otherwise, 124 if the time is up.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    #[arg(help = reference::HELP, value_name = "EXEC")]
    execution: String,

    /// What to wait for
    #[arg(
        long = "for",
        value_name = "STATUS",
        default_value = "completed",
        value_parser = Goal::parser(),
        ignore_case = true
    )]
    goal: Goal,

    /// How long at most, such as `5m`. Default: without an end
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,
}

impl Wait {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let store = session.open().await?;
        let id = reference::resolve(store, &self.execution)
            .await?
            .execution
            .id;
        let look = async || {
            let view = super::execution(store, id).await?;
            let reached = self.is_reached(&view.execution);
            Ok(match reached || view.execution.status.is_terminal() {
                true => ControlFlow::Break(reached),
                false => ControlFlow::Continue(()),
            })
        };
        let reached = Live::new(store)
            .until(Duration::ZERO, deadline, look)
            .await?;
        let record = super::record(store, id).await?;
        document(session.format, &record.id.to_string(), &record, |out| {
            let tone = Tone::from(record.status);
            writeln!(out, "{}", tone.paint(&record.status_text(), colours()))
        })?;
        match reached {
            Some(true) => Ok(Outcome::Good),
            Some(false) => Ok(Outcome::Bad),
            None => Err(Problem::TimedOut(format!(
                "the time is up: {} is {}",
                record.called(),
                record.status_text()
            ))),
        }
    }

    fn is_reached(&self, execution: &Execution) -> bool {
        match self.goal {
            Goal::Ended => execution.status.is_terminal(),
            Goal::Status(ExecutionStatus::Running) => execution.started_at.is_some(),
            Goal::Status(status) => execution.status == status,
        }
    }
}
