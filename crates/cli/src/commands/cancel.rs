//! `abide cancel`.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use abide::{EngineError, ExecutionId, ExecutionRecord, Refusal};
use abide_core::kernel::not_allowed;
use abide_core::status::ExecutionStatus;
use clap::Args;
use serde::Serialize;

use crate::login;
use crate::output::document;
use crate::output::text::escape;
use crate::problem::{Outcome, Problem};
use crate::session::Session;
use crate::values;

/// Stop an execution.
///
/// Running tasks are told to stop, and are cut off after the grace period. No other task starts. If
/// no worker runs, the execution has ended when this command returns. A repeated cancellation
/// changes nothing.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    #[arg(help = values::EXECUTION_HELP, value_name = "EXEC")]
    execution: String,

    /// The reason, for history
    #[arg(long, default_value = "cancelled on request", value_parser = values::reason)]
    reason: String,

    /// The actor, for history [default: `user:` and your login name]
    #[arg(long, value_parser = values::actor)]
    actor: Option<String>,

    /// How long running tasks may take to stop
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = values::duration)]
    grace: Duration,

    /// Don't ask for confirmation, even on a terminal
    #[arg(long, short)]
    yes: bool,
}

/// The result of a cancellation.
#[derive(Serialize)]
struct Answer {
    execution: ExecutionId,
    instance: String,
    generation: u32,
    status: ExecutionStatus,
    /// False if it was already stopping or cancelled.
    changed: bool,
}

impl Cancel {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let client = session.open().await?;
        let id = client.resolve(&self.execution).await?.execution.id;
        let record = super::record(client, id).await?;
        if !record.status.is_terminal() && !self.is_meant(&record)? {
            return Err(Problem::Failed("not cancelled".to_owned()));
        }
        let actor = self.actor.clone().unwrap_or_else(login::actor);
        let client = client.acting_as(actor);
        let cancelled = client.cancel_within(id, &self.reason, self.grace);
        let acted = match cancelled.await {
            Err(EngineError::Refused(Refusal::NotAllowed {
                status,
                action,
                allowed,
                ..
            })) => {
                let name = record.full_name();
                let why = not_allowed(status, action, &allowed);
                return Err(Problem::Conflict(format!(
                    "{name} ({id}) is {status}: {why}"
                )));
            }
            acted => acted?,
        };
        let answer = Answer {
            execution: id,
            instance: record.instance.clone(),
            generation: record.generation,
            status: acted.status(),
            changed: acted.is_changed(),
        };
        document(session.format, &id.to_string(), &answer, |out| {
            let unchanged = if acted.is_changed() {
                ""
            } else {
                " (unchanged)"
            };
            let name = record.full_name();
            let name = escape(&name);
            writeln!(out, "{name} ({id}): {}{unchanged}", acted.status())
        })?;
        Ok(Outcome::Good)
    }

    /// Asks for confirmation on a terminal.
    fn is_meant(&self, record: &ExecutionRecord) -> io::Result<bool> {
        let mut words = io::stderr();
        if self.yes || !io::stdin().is_terminal() || !words.is_terminal() {
            return Ok(true);
        }
        write!(
            words,
            "Cancel {} ({}, {}, {} tasks ended)? [y/N] ",
            escape(&record.full_name()),
            record.id,
            record.status_text(),
            record.tasks_text()
        )?;
        words.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}
