//! Feeds: all events of a store, each once, however many processes write, for subscribers that
//! remember how far they came.

use crate::driver::Driver;
use crate::error::StoreError;
use crate::store::Store;
use crate::views::{EventFilter, EventView};

/// What a cursor of a file begins with.
const POSITION: &str = "p";

impl Store {
    /// The next events after a cursor, at most `limit`, and the cursor after them. No cursor is the
    /// beginning. A page with fewer than `limit` events is the last for now.
    ///
    /// Whoever keeps the cursor together with what it made of the page sees each event once. Events
    /// of one execution come in their order. A cursor is text of the store's own; on PostgreSQL it
    /// is what was visible when the page was read, so that a transaction that commits late is not
    /// skipped, and none that stays open holds others up.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] for a cursor that is not of this kind of store.
    pub async fn feed(
        &self,
        cursor: Option<&str>,
        filter: &EventFilter,
        limit: u32,
    ) -> Result<(Vec<EventView>, String), StoreError> {
        let limit = limit.max(1);
        match &self.driver {
            Driver::Sqlite(_) => {
                let after = cursor.map_or(Ok(0), position)?;
                let page = self.events(filter, after, limit).await?;
                let last = page.last().map_or(after, |event| event.position);
                Ok((page, format!("{POSITION}{last}")))
            }
            Driver::Postgres(driver) => {
                let session = driver.session().await?;
                driver.reader(&session).feed(cursor, filter, limit).await
            }
        }
    }

    /// Whether no event is ever committed after one with a later position, so that who remembers the
    /// last position has seen everything before. If not, [`Store::feed`] reads all events once.
    /// Those of one execution are always in order.
    pub fn has_ordered_positions(&self) -> bool {
        matches!(self.driver, Driver::Sqlite(_))
    }
}

fn position(cursor: &str) -> Result<i64, StoreError> {
    let position = cursor
        .strip_prefix(POSITION)
        .and_then(|text| text.parse().ok());
    position.ok_or_else(|| {
        StoreError::Invalid(format!(
            "`{}` is no cursor of a SQLite store: begin without one, or go on with one that it gave",
            cursor.escape_debug()
        ))
    })
}
