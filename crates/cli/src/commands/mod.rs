//! The commands, one in each file but for actions: the arguments, then the work.

pub(crate) mod act;
pub(crate) mod completions;
pub(crate) mod describe;
pub(crate) mod events;
pub(crate) mod list;
pub(crate) mod signal;
pub(crate) mod stats;
pub(crate) mod tasks;
pub(crate) mod tenant;
pub(crate) mod verify;
pub(crate) mod wait;
pub(crate) mod watch;

use abide::client::Changes;
use abide::{Client, EngineError, ExecutionId, ExecutionRecord, ExecutionView, Rollup};

use crate::output::note;
use crate::problem::Problem;

/// An execution that is known to exist, in its present state.
async fn execution(client: &Client, id: ExecutionId) -> Result<ExecutionView, Problem> {
    let view = client.execution(id).await;
    view.map_err(|error| gone(client, error))
}

/// The same, with the sums over its tasks.
async fn summary(client: &Client, id: ExecutionId) -> Result<(ExecutionView, Rollup), Problem> {
    let summary = client.summary(id).await;
    summary.map_err(|error| gone(client, error))
}

/// Its record.
async fn record(client: &Client, id: ExecutionId) -> Result<ExecutionRecord, Problem> {
    let record = client.record(id).await;
    record.map_err(|error| gone(client, error))
}

fn gone(client: &Client, error: EngineError) -> Problem {
    match error {
        EngineError::UnknownExecution(id) => Problem::NotFound(format!(
            "execution {id} is gone from {}",
            client.store_name()
        )),
        other => other.into(),
    }
}

/// Prints a note if the execution has not ended and no worker of the store is alive to run it.
async fn note_without_workers(client: &Client, view: &ExecutionView) -> Result<(), Problem> {
    if !view.execution.status.is_terminal() && client.live_workers().await?.is_empty() {
        note("note: no worker is alive: it goes on when a program that has this workflow runs");
    }
    Ok(())
}

/// Starts to watch for changes. Prints a note if changes by other processes come late.
fn changes(client: &Client) -> Changes {
    let changes = client.changes();
    note_trouble(&changes);
    changes
}

fn note_trouble(changes: &Changes) {
    if let Some(error) = changes.trouble() {
        let backstop = changes.backstop();
        note(format_args!(
            "note: looking every {backstop:?}, since {error}"
        ));
    }
}

/// A generation of an instance, by its full name.
fn full_name(view: &ExecutionView) -> String {
    let execution = &view.execution;
    let generation = execution.generation.unwrap_or_default();
    format!("{}/{generation}", execution.instance)
}
