//! `abide signal`.

use std::io::{self, Read, Write};

use abide::{Client, EngineError, ExecutionId, ExecutionView, Refusal};
use clap::Args;
use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::login;
use crate::output::document;
use crate::output::json::{Layout, lay_out, raw};
use crate::output::text::escape;
use crate::problem::{Outcome, Problem};
use crate::session::Session;
use crate::values;

/// Send a signal to an instance.
///
/// The signal is durable when this command has succeeded. It is read once, now or later, by a task
/// of the instance that waits for its name.
#[derive(Debug, Args)]
pub(crate) struct Signal {
    /// The instance, which means its latest generation, or that execution's id
    instance: String,

    /// The signal's name
    name: String,

    /// The payload: JSON, `@FILE` for a file's content, `-` for standard input
    #[arg(
        value_name = "JSON|@FILE|-",
        default_value = "null",
        allow_hyphen_values = true
    )]
    payload: String,

    /// The sender, for history [default: `user:` and your login name]
    #[arg(long, value_parser = values::actor)]
    actor: Option<String>,
}

/// Where the signal was stored.
#[derive(Serialize)]
struct Answer<'a> {
    execution: ExecutionId,
    instance: &'a str,
    generation: u32,
    name: &'a str,
    /// Its number in the mailbox of that name.
    number: i64,
}

impl Signal {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let payload = self.payload()?;
        let client = session.open().await?;
        let latest = self.latest(client).await?.execution;
        let actor = self.actor.clone().unwrap_or_else(login::actor);
        let sender = client.acting_as(actor);
        let generation = latest.generation.unwrap_or_default();
        let sent = match sender.signal(&latest.instance, &self.name, &payload).await {
            Err(EngineError::Refused(Refusal::InstanceEnded { status, .. })) => {
                let name = full(&latest.instance, generation);
                return Err(Problem::Conflict(format!(
                    "{name} ({}) has ended ({status}): nothing will read this signal",
                    latest.id
                )));
            }
            sent => sent?,
        };
        let generation = match sent.execution == latest.id {
            true => generation,
            // The next generation began in between, and got the signal.
            false => super::record(client, sent.execution).await?.generation,
        };
        let answer = Answer {
            execution: sent.execution,
            instance: &latest.instance,
            generation,
            name: &self.name,
            number: sent.number,
        };
        document(
            session.format,
            &sent.execution.to_string(),
            &answer,
            |out| {
                let full = full(&latest.instance, generation);
                let (name, full) = (escape(&self.name), escape(&full));
                let (number, id) = (sent.number, sent.execution);
                writeln!(out, "{full} ({id}): sent `{name}` number {number}")
            },
        )?;
        Ok(Outcome::Good)
    }

    /// The execution that is meant. A signal goes to the latest generation, so naming an older one
    /// is a mistake.
    async fn latest(&self, client: &Client) -> Result<ExecutionView, Problem> {
        let view = client.resolve(&self.instance).await?;
        let instance = &view.execution.instance;
        match client.latest(instance).await? {
            Some(latest) if latest.execution.id != view.execution.id => {
                Err(Problem::Conflict(format!(
                    "{} is not the latest execution of instance `{instance}`, which is {}: signals go to that one",
                    view.execution.id, latest.execution.id
                )))
            }
            _ => Ok(view),
        }
    }

    /// The payload, on one line.
    fn payload(&self) -> Result<Box<RawValue>, Problem> {
        let (text, source) = match self.payload.strip_prefix('@') {
            Some(file) => (read_file(file)?, format!("`{}`", escape(file))),
            None if self.payload == "-" => (read_input()?, "standard input".to_owned()),
            None => (self.payload.clone(), "the payload".to_owned()),
        };
        match serde_json::from_str::<IgnoredAny>(&text) {
            Ok(_) => Ok(raw(&lay_out(&text, Layout::Line))),
            Err(error) => {
                let quoted = serde_json::Value::from(text.trim()).to_string();
                let is_word = text
                    .trim()
                    .chars()
                    .all(|c| c.is_alphanumeric() || "_-. ".contains(c));
                let hint = match is_word && source == "the payload" && !text.trim().is_empty() {
                    true => format!("; for a string, say '{quoted}'"),
                    false => String::new(),
                };
                Err(Problem::Usage(format!(
                    "{source} is not JSON: {error}{hint}"
                )))
            }
        }
    }
}

fn full(instance: &str, generation: u32) -> String {
    format!("{instance}/{generation}")
}

fn read_file(file: &str) -> Result<String, Problem> {
    let fail = |error| Problem::Usage(format!("cannot read `{}`: {error}", escape(file)));
    std::fs::read_to_string(file).map_err(fail)
}

fn read_input() -> Result<String, Problem> {
    let mut text = String::new();
    let fail = |error| Problem::Usage(format!("cannot read standard input: {error}"));
    io::stdin().lock().read_to_string(&mut text).map_err(fail)?;
    Ok(text)
}
