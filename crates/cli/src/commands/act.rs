//! Actions on executions: `abide cancel`, `abide priority`. An action is its arguments and its call here; how its subject is
//! found and what is answered is the same for all.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use abide::{Acted, Client, EngineError, ExecutionId, ExecutionRecord, Refusal};
use abide_core::kernel::not_allowed;
use abide_core::status::ExecutionStatus;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::login;
use crate::output::document;
use crate::output::text::escape;
use crate::problem::{Outcome, Problem};
use crate::session::Session;
use crate::values;

/// The actions, each a command.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Stop an execution
    Cancel(Cancel),
    /// Give an execution another priority
    Priority(Priority),
}

impl Action {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        match self {
            Action::Cancel(cancel) => cancel.run(session).await,
            Action::Priority(priority) => priority.run(session).await,
        }
    }
}

/// Stop an execution.
///
/// Running tasks are told to stop, and are cut off after the grace period. No other task starts. If
/// no worker runs, the execution has ended when this command returns. A repeated cancellation
/// changes nothing.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    #[command(flatten)]
    on: On,

    /// The reason, for history
    #[arg(long, default_value = "cancelled on request", value_parser = values::reason)]
    reason: String,

    /// How long running tasks may take to stop
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = values::duration)]
    grace: Duration,

    /// Don't ask for confirmation, even on a terminal
    #[arg(long, short)]
    yes: bool,
}

impl Cancel {
    async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let subject = self.on.find(session).await?;
        let record = &subject.record;
        if !record.status.is_terminal() && !self.is_meant(record)? {
            return Err(Problem::Failed("not cancelled".to_owned()));
        }
        let Subject { client, .. } = &subject;
        let cancelled = client.cancel_within(record.id, &self.reason, self.grace);
        subject.answer(session, cancelled.await, |acted| acted.status().to_string())
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

/// Give an execution another priority.
///
/// Its tasks are claimed before those of executions with a lower priority. Tasks that are ready already move
/// to their new place in the queue. Tasks that run are not interrupted.
#[derive(Debug, Args)]
pub(crate) struct Priority {
    #[command(flatten)]
    on: On,

    /// The priority, from -32768 to 32767: a higher one goes first. A workflow's own is 0 unless it says another
    #[arg(allow_negative_numbers = true)]
    priority: i16,

    /// The reason, for history
    #[arg(long, default_value = "set on request", value_parser = values::reason)]
    reason: String,
}

impl Priority {
    async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let subject = self.on.find(session).await?;
        let Subject { client, record } = &subject;
        let set = client.set_priority(record.id, self.priority, &self.reason);
        subject.answer(session, set.await, |_| {
            format!("priority {}", self.priority)
        })
    }
}

/// What an action is done to, and who does it.
#[derive(Debug, Args)]
struct On {
    #[arg(help = values::EXECUTION_HELP, value_name = "EXEC")]
    execution: String,

    /// The actor, for history [default: `user:` and your login name]
    #[arg(long, value_parser = values::actor)]
    actor: Option<String>,
}

/// The execution as it stands before the action, and a client that acts as the actor.
struct Subject {
    client: Client,
    record: ExecutionRecord,
}

/// What came of an action.
#[derive(Serialize)]
struct Answer<'a> {
    execution: ExecutionId,
    instance: &'a str,
    generation: u32,
    status: ExecutionStatus,
    /// False if everything was as asked already.
    changed: bool,
}

impl On {
    async fn find(&self, session: &Session) -> Result<Subject, Problem> {
        let client = session.open().await?;
        let id = client.resolve(&self.execution).await?.execution.id;
        let record = super::record(client, id).await?;
        let actor = self.actor.clone().unwrap_or_else(login::actor);
        let client = client.acting_as(actor);
        Ok(Subject { client, record })
    }
}

impl Subject {
    /// Prints what came of the action. `now` says in words how the execution is after it.
    fn answer(
        &self,
        session: &Session,
        acted: Result<Acted, EngineError>,
        now: impl FnOnce(&Acted) -> String,
    ) -> Result<Outcome, Problem> {
        let (id, name) = (self.record.id, self.record.full_name());
        let acted = match acted {
            Err(EngineError::Refused(Refusal::NotAllowed {
                status,
                action,
                allowed,
                ..
            })) => {
                let why = not_allowed(status, action, &allowed);
                return Err(Problem::Conflict(format!(
                    "{name} ({id}) is {status}: {why}"
                )));
            }
            acted => acted?,
        };
        let answer = Answer {
            execution: id,
            instance: &self.record.instance,
            generation: self.record.generation,
            status: acted.status(),
            changed: acted.is_changed(),
        };
        document(session.format, &id.to_string(), &answer, |out| {
            let unchanged = match acted.is_changed() {
                true => "",
                false => " (unchanged)",
            };
            writeln!(out, "{} ({id}): {}{unchanged}", escape(&name), now(&acted))
        })?;
        Ok(Outcome::Good)
    }
}
