//! Following an execution: its events as they are written, until it has ended.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use abide_core::graph::Graph;
use abide_core::ids::ExecutionId;

use crate::error::EngineError;

use super::Client;
use super::history::{self, History};
use super::live::Changes;
use super::records::EventRecord;

/// The events of an execution, both existing and new ones: see [`Client::follow`].
#[derive(Debug)]
pub struct Follow<'a> {
    client: &'a Client,
    id: ExecutionId,
    history: History<'a>,
    /// Read with the first events.
    graph: Option<Arc<Graph>>,
    changes: Changes,
}

impl<'a> Follow<'a> {
    pub(super) fn new(client: &'a Client, id: ExecutionId, history: History<'a>) -> Follow<'a> {
        let changes = client.changes();
        Follow {
            client,
            id,
            history,
            graph: None,
            changes,
        }
    }

    /// Why new events arrive late, if they do: see [`Changes::trouble`].
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Waits for the next events. Returns none when the execution has ended and all of its events
    /// were returned, or when it no longer exists.
    ///
    /// # Errors
    ///
    /// The store cannot be read. Another call continues at the same place.
    pub async fn next_page(&mut self) -> Result<Option<Vec<EventRecord>>, EngineError> {
        let (client, id, history) = (self.client, self.id, &mut self.history);
        let graph = match &self.graph {
            Some(graph) => Arc::clone(graph),
            None => match client.graph_of(id).await {
                Err(EngineError::UnknownExecution(_)) => return Ok(None),
                graph => Arc::clone(self.graph.insert(graph?)),
            },
        };
        let look = async || {
            // Read this first: if it has ended by now, all of its events can be read.
            let now = client.store().end(id).await?;
            let has_ended = now.is_none_or(|end| end.status.is_terminal());
            let page = history.next_page().await?;
            Ok::<_, EngineError>(match (page.is_empty(), has_ended) {
                (false, _) => ControlFlow::Break(Some(page)),
                (true, true) => ControlFlow::Break(None),
                (true, false) => ControlFlow::Continue(()),
            })
        };
        let page = self.changes.until(Duration::ZERO, None, look).await?;
        Ok(page.flatten().map(|page| history::records(page, &graph)))
    }
}
