//! What the behaviour tests share: a store in a directory of its own, and readings of its history.

use abide::{Engine, EngineBuilder, EventView, ExecutionId};
use tempfile::TempDir;

/// A store that goes away with the test.
pub(crate) struct Home {
    directory: TempDir,
}

impl Home {
    pub(crate) fn new() -> Home {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Home { directory }
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.directory.path().join("app.db").display())
    }

    pub(crate) fn engine(&self) -> EngineBuilder {
        Engine::builder(self.url())
    }
}

/// The whole history of an execution.
pub(crate) async fn history(engine: &Engine, id: ExecutionId) -> Vec<EventView> {
    let events = engine.history(id, 0, 1_000_000).await;
    events.expect("the history is there")
}

/// The event types of one task, in order.
pub(crate) async fn task_events(engine: &Engine, id: ExecutionId, task: u32) -> Vec<&'static str> {
    let events = history(engine, id).await;
    let of_task = events.into_iter().filter(|event| event.task == task);
    of_task.map(|event| event.kind).collect()
}
