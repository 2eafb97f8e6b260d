//! `abide signal`.

use std::io::{self, Read, Write};

use abide_core::ids::ExecutionId;
use abide_core::kernel::Signal as Request;
use abide_core::payload::Payload;
use abide_store::Store;
use clap::Args;
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::output::document;
use crate::output::json::{Layout, lay_out};
use crate::output::text::escape;
use crate::problem::{Outcome, Problem};
use crate::reference;
use crate::session::Session;
use crate::values;

/// Send a signal to an instance.
///
/// It is durable once this command has ended well, and is read once, now or later, by whatever
/// task of the instance waits for its name.
#[derive(Debug, Args)]
pub(crate) struct Signal {
    /// The instance, or the id of its latest execution
    instance: String,

    /// The signal's name
    name: String,

    /// What it carries: JSON, `@FILE` for a file's content, `-` for standard input
    #[arg(
        value_name = "JSON|@FILE|-",
        default_value = "null",
        allow_hyphen_values = true
    )]
    payload: String,

    /// Who sends it, for history [default: user:$USER]
    #[arg(long, value_parser = values::actor)]
    actor: Option<String>,
}

/// Where a signal went.
#[derive(Serialize)]
struct Answer<'a> {
    execution: ExecutionId,
    instance: &'a str,
    name: &'a str,
    /// Its number in the mailbox of that name.
    number: i64,
}

impl Signal {
    pub(crate) async fn run(&self, session: &Session) -> Result<Outcome, Problem> {
        let payload = self.payload()?;
        let store = session.open().await?;
        let instance = self.instance(store).await?;
        let request = Request {
            instance: instance.as_str().into(),
            name: self.name.as_str().into(),
            payload,
            actor: Some(
                self.actor
                    .clone()
                    .unwrap_or_else(super::default_actor)
                    .into(),
            ),
        };
        let sent = store.signal(request).await?;
        let answer = Answer {
            execution: sent.execution,
            instance: &instance,
            name: &self.name,
            number: sent.number,
        };
        document(
            session.format,
            &sent.execution.to_string(),
            &answer,
            |out| {
                let (name, instance) = (escape(&self.name), escape(&instance));
                let (number, id) = (sent.number, sent.execution);
                writeln!(out, "{instance} ({id}): sent `{name}` number {number}")
            },
        )?;
        Ok(Outcome::Good)
    }

    /// The instance that is meant. A signal goes to the latest generation, so an older one's id
    /// would be a mistake.
    async fn instance(&self, store: &Store) -> Result<String, Problem> {
        let view = reference::resolve(store, &self.instance).await?;
        let instance = view.execution.instance.to_string();
        match store.latest(&instance).await? {
            Some(latest) if latest.execution.id != view.execution.id => {
                Err(Problem::Conflict(format!(
                    "{} is not the latest execution of instance `{}`, which is {}: signals go to that one",
                    view.execution.id, instance, latest.execution.id
                )))
            }
            _ => Ok(instance),
        }
    }

    /// The payload, on one line.
    fn payload(&self) -> Result<Payload, Problem> {
        let (text, source) = match self.payload.strip_prefix('@') {
            Some(file) => (read_file(file)?, format!("`{}`", escape(file))),
            None if self.payload == "-" => (read_input()?, "standard input".to_owned()),
            None => (self.payload.clone(), "the payload".to_owned()),
        };
        match serde_json::from_str::<IgnoredAny>(&text) {
            Ok(_) => Ok(Payload::from_json(lay_out(&text, Layout::Line))),
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
