//! Reads the events of one execution in order, each once, whether there are ten or a million, and
//! continues with events that are appended meanwhile.
//!
//! There are two ways: through the execution's index, where every page reads the whole index of the
//! execution; or through all events of the store. The second way is used if most of those events
//! belong to the execution anyway: for large executions, and at the end, where only new events are
//! left to read.

use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey};
use abide_store::{EventFilter, EventView, Store, StoreError};

use super::records::EventRecord;

/// Events read at a time, unless fewer are asked for.
const PAGE: u32 = 4096;

/// The second way is used if at least one in this many events belongs to the execution.
const DENSE: i64 = 20;

/// The events of an execution to read. Every condition that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct HistoryFilter {
    /// Of the task with this number. Default: of the execution itself and all of its tasks.
    pub task: Option<u32>,
    /// With a position higher than this: see [`EventRecord::position`]. Default 0: all.
    pub after: i64,
}

/// The records of events of an execution with this graph.
pub(super) fn records(views: Vec<EventView>, graph: &Graph) -> Vec<EventRecord> {
    let views = views.into_iter();
    views.map(|view| EventRecord::new(view, graph)).collect()
}

/// A position in the history of an execution, or of one of its tasks, after which events are read.
#[derive(Debug)]
pub(super) struct History<'a> {
    store: &'a Store,
    filter: EventFilter,
    after: i64,
    by_index: bool,
    /// Events read at a time.
    read: u32,
}

impl<'a> History<'a> {
    pub(super) fn new(store: &'a Store, id: ExecutionId, filter: &HistoryFilter) -> History<'a> {
        History {
            store,
            filter: EventFilter {
                execution: Some(id),
                task: filter.task.map(|number| TaskKey::new(id, number)),
            },
            after: filter.after,
            by_index: true,
            read: PAGE,
        }
    }

    /// The same, but at most so many events are read at a time.
    pub(super) fn read_by(mut self, limit: u32) -> History<'a> {
        self.read = self.read.min(limit);
        self
    }

    /// The same, after an event that was read before. The events that follow it are tried first: so a
    /// history that is read page by page does not read its index for each page.
    pub(super) fn resumed(mut self, after: i64) -> History<'a> {
        self.after = after;
        self.by_index = !self.store.has_ordered_positions();
        self
    }

    /// The next events. Empty if there are none at the moment. After an error, asking again goes on
    /// at the same place.
    pub(super) async fn next_page(&mut self) -> Result<Vec<EventView>, StoreError> {
        loop {
            let (own, is_last) = match self.by_index {
                true => self.page_by_index().await?,
                false => self.page_of_all().await?,
            };
            if is_last || !own.is_empty() {
                return Ok(own);
            }
        }
    }

    async fn page_by_index(&mut self) -> Result<(Vec<EventView>, bool), StoreError> {
        if !self.store.has_ordered_positions() {
            // The events of one execution are in order in both ways.
            let own = self
                .store
                .events(&self.filter, self.after, self.read)
                .await?;
            self.after = own.last().map_or(self.after, |event| event.position);
            let is_last = own.len() < self.read as usize;
            return Ok((own, is_last));
        }
        // Read this first: an event that is appended later has a higher position.
        let end = self.store.last_position().await?;
        let own = self
            .store
            .events(&self.filter, self.after, self.read)
            .await?;
        let last = own.last().map_or(self.after, |event| event.position);
        if own.len() < self.read as usize {
            self.after = self.after.max(end).max(last);
            self.by_index = false;
        } else {
            self.by_index = last - self.after > i64::from(self.read) * DENSE;
            self.after = last;
        }
        Ok((own, false))
    }

    async fn page_of_all(&mut self) -> Result<(Vec<EventView>, bool), StoreError> {
        let mut page = self
            .store
            .events(&EventFilter::default(), self.after, self.read)
            .await?;
        let is_last = page.len() < self.read as usize;
        self.after = page.last().map_or(self.after, |event| event.position);
        page.retain(|event| self.is_own(event));
        self.by_index = !is_last && (page.len() as i64) * DENSE < i64::from(self.read);
        Ok((page, is_last))
    }

    fn is_own(&self, event: &EventView) -> bool {
        match (self.filter.task, self.filter.execution) {
            (Some(key), _) => key == TaskKey::new(event.execution, event.task),
            (None, Some(execution)) => execution == event.execution,
            (None, None) => true,
        }
    }
}
