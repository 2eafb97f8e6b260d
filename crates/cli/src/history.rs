//! Reads the events of one execution in order, each once, whether there are ten or a million, and
//! goes on with those that are appended meanwhile.
//!
//! There are two ways: by the execution's index, whose every page looks through the whole of it; or
//! through all events of the store. The second is used where most events are its own anyway: for
//! large executions, and at the end, where only new events are left to look at.

use abide_core::ids::TaskKey;
use abide_store::{EventFilter, EventView, Store, StoreError};

/// Events read at a time.
const PAGE: u32 = 4096;

/// One in so many events must be its own for looking through all of them to pay.
const DENSE: i64 = 20;

/// A place in the history of an execution, or of one of its tasks.
pub(crate) struct History<'a> {
    store: &'a Store,
    filter: EventFilter,
    after: i64,
    by_index: bool,
}

impl<'a> History<'a> {
    /// The events of the filter's execution after a position.
    pub(crate) fn new(store: &'a Store, filter: EventFilter, after: i64) -> History<'a> {
        History {
            store,
            filter,
            after,
            by_index: true,
        }
    }

    /// The next events. None are left, for now, when there are none.
    pub(crate) async fn next_page(&mut self) -> Result<Vec<EventView>, StoreError> {
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
            // Those of one execution are in order all the same.
            let own = self.store.events(&self.filter, self.after, PAGE).await?;
            self.after = own.last().map_or(self.after, |event| event.position);
            let is_last = own.len() < PAGE as usize;
            return Ok((own, is_last));
        }
        // Read first: whatever is appended later is beyond it.
        let end = self.store.last_position().await?;
        let own = self.store.events(&self.filter, self.after, PAGE).await?;
        let last = own.last().map_or(self.after, |event| event.position);
        if own.len() < PAGE as usize {
            self.after = self.after.max(end).max(last);
            self.by_index = false;
        } else {
            self.by_index = last - self.after > i64::from(PAGE) * DENSE;
            self.after = last;
        }
        Ok((own, false))
    }

    async fn page_of_all(&mut self) -> Result<(Vec<EventView>, bool), StoreError> {
        let mut page = self
            .store
            .events(&EventFilter::default(), self.after, PAGE)
            .await?;
        let is_last = page.len() < PAGE as usize;
        self.after = page.last().map_or(self.after, |event| event.position);
        page.retain(|event| self.is_own(event));
        self.by_index = !is_last && (page.len() as i64) * DENSE < i64::from(PAGE);
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
