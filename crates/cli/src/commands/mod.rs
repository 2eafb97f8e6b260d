//! The commands, one a file: arguments, then what is done with them.

pub(crate) mod cancel;
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

use abide_core::ids::ExecutionId;
use abide_store::{ExecutionView, Rollup, Store};

use crate::problem::Problem;
use crate::records::ExecutionRecord;

/// Who acts if nobody is named: the person who is logged in.
fn default_actor() -> String {
    let name = ["USER", "LOGNAME", "USERNAME"]
        .iter()
        .find_map(|variable| std::env::var(variable).ok().filter(|name| !name.is_empty()));
    format!("user:{}", name.as_deref().unwrap_or("unknown"))
}

/// An execution that is known to exist, as it is now.
async fn execution(store: &Store, id: ExecutionId) -> Result<ExecutionView, Problem> {
    store.execution(id).await?.ok_or_else(|| gone(store, id))
}

/// The same, and what its tasks add up to.
async fn summary(store: &Store, id: ExecutionId) -> Result<(ExecutionView, Rollup), Problem> {
    store.summary(id).await?.ok_or_else(|| gone(store, id))
}

fn gone(store: &Store, id: ExecutionId) -> Problem {
    Problem::NotFound(format!("execution {id} is gone from {}", store.name()))
}

/// Its record.
async fn record(store: &Store, id: ExecutionId) -> Result<ExecutionRecord, Problem> {
    let (view, rollup) = summary(store, id).await?;
    Ok(ExecutionRecord::new(&view, &rollup, store.now()))
}
