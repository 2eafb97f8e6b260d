//! `abide wait`.

use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

use abide_core::execution::Execution;
use abide_core::status::ExecutionStatus;
use clap::Args;
use tokio::time::Instant;

use crate::output::{Tone, colours, document};
use crate::problem::{Outcome, Problem};
use crate::session::Session;
use crate::values::{self, Goal};

/// Wait until an execution has a status, and print it.
///
/// Exit code 0 if the execution reached the status, 1 if it ended otherwise, 124 if the time is up.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    #[arg(help = values::EXECUTION_HELP, value_name = "EXEC")]
    execution: String,

    /// The status to wait for
    #[arg(
        long = "for",
        value_name = "STATUS",
        default_value = "completed",
        value_parser = Goal::parser(),
        ignore_case = true
    )]
    goal: Goal,

    /// The longest time to wait, such as `5m`. Default: no limit
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,
}

impl Wait {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        // A time that no clock reaches means no limit.
        let deadline = self
            .timeout
            .and_then(|timeout| Instant::now().checked_add(timeout));
        let client = session.open().await?;
        let view = client.resolve(&self.execution).await?;
        let id = view.execution.id;
        if !self.is_reached(&view.execution) {
            super::note_without_workers(client, &view).await?;
        }
        let look = async || {
            let view = super::execution(client, id).await?;
            let reached = self.is_reached(&view.execution);
            Ok::<_, Problem>(match reached || view.execution.status.is_terminal() {
                true => ControlFlow::Break(reached),
                false => ControlFlow::Continue(()),
            })
        };
        let reached = super::changes(client)
            .until(Duration::ZERO, deadline, look)
            .await?;
        let record = super::record(client, id).await?;
        document(session.format, &record.id.to_string(), &record, |out| {
            let tone = Tone::from(record.status);
            writeln!(out, "{}", tone.paint(&record.status_text(), colours()))
        })?;
        match reached {
            Some(true) => Ok(Outcome::Good),
            Some(false) => Ok(Outcome::Bad),
            None => Err(Problem::TimedOut(format!(
                "the time is up: {} is {}",
                record.name(),
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
