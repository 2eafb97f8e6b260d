//! `abide cancel`.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use abide_core::ids::ExecutionId;
use abide_core::kernel::Cancel as Request;
use abide_core::status::ExecutionStatus;
use clap::Args;
use serde::Serialize;

use crate::output::document;
use crate::output::text::escape;
use crate::problem::{Outcome, Problem};
use crate::records::ExecutionRecord;
use crate::reference;
use crate::session::Session;
use crate::values;

/// Stop an execution.
///
/// Tasks that run are told, and cut off after the grace period; nothing else starts. On a stopped
/// system the execution has ended when this command has. Asking twice is asking once.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    #[arg(help = reference::HELP, value_name = "EXEC")]
    execution: String,

    /// Why, for history
    #[arg(long, default_value = "cancelled on request", value_parser = values::reason)]
    reason: String,

    /// Who asks, for history [default: user:$USER]
    #[arg(long, value_parser = values::actor)]
    actor: Option<String>,

    /// How long running tasks may take to stop
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = values::duration)]
    grace: Duration,

    /// Don't ask, even on a terminal
    #[arg(long, short)]
    yes: bool,
}

/// What a cancellation came to.
#[derive(Serialize)]
struct Answer {
    execution: ExecutionId,
    instance: String,
    generation: u32,
    status: ExecutionStatus,
    /// False if it was stopping, or had been cancelled, already.
    changed: bool,
}

impl Cancel {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let store = session.open().await?;
        let id = reference::resolve(store, &self.execution)
            .await?
            .execution
            .id;
        let record = super::record(store, id).await?;
        if !record.status.is_terminal() && !self.is_meant(&record)? {
            return Err(Problem::Failed("not cancelled".to_owned()));
        }
        let request = Request {
            execution: id,
            reason: self.reason.clone(),
            grace_us: values::us(self.grace),
            actor: Some(
                self.actor
                    .clone()
                    .unwrap_or_else(super::default_actor)
                    .into(),
            ),
        };
        let reply = store.cancel(request).await?;
        let answer = Answer {
            execution: id,
            instance: record.instance.clone(),
            generation: record.generation,
            status: reply.status,
            changed: reply.changed,
        };
        document(session.format, &id.to_string(), &answer, |out| {
            let unchanged = if reply.changed { "" } else { " (unchanged)" };
            let called = record.called();
            let called = escape(&called);
            writeln!(out, "{called} ({id}): {}{unchanged}", reply.status)
        })?;
        Ok(Outcome::Good)
    }

    /// Asks, if there is somebody to ask.
    fn is_meant(&self, record: &ExecutionRecord) -> io::Result<bool> {
        let mut words = io::stderr();
        if self.yes || !io::stdin().is_terminal() || !words.is_terminal() {
            return Ok(true);
        }
        write!(
            words,
            "Cancel {} ({}, {}, {} tasks ended)? [y/N] ",
            escape(&record.called()),
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
