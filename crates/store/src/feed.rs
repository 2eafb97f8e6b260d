//! Feeds: all events of a store, each once, however many processes write, for subscribers that
//! remember their position.

use crate::driver::Driver;
use crate::error::StoreError;
use crate::store::Store;
use crate::views::{EventFilter, EventView};

/// What a cursor of a file begins with.
#[cfg(feature = "sqlite")]
const POSITION: &str = "p";

impl Store {
    /// Returns the next events after a cursor, at most `limit`, and the cursor after them. Without
    /// a cursor, starts at the beginning. A page with fewer than `limit` events is the last for
    /// now.
    ///
    /// A subscriber that saves the cursor together with its own results sees each event once.
    /// Events of one execution come in their order. A cursor is an opaque text. On PostgreSQL it
    /// contains the snapshot in which the page was read, so that a transaction that commits late is
    /// not skipped, and a transaction that stays open does not delay others.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] for a cursor of another kind of store.
    pub async fn feed(
        &self,
        cursor: Option<&str>,
        filter: &EventFilter,
        limit: u32,
    ) -> Result<(Vec<EventView>, String), StoreError> {
        let limit = limit.max(1);
        match &self.driver {
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(_) => {
                let after = cursor.map_or(Ok(0), position)?;
                let page = self.events(filter, after, limit).await?;
                let last = page.last().map_or(after, |event| event.position);
                Ok((page, format!("{POSITION}{last}")))
            }
            #[cfg(feature = "postgres")]
            Driver::Postgres(driver) => {
                let session = driver.session().await?;
                driver.reader(&session).feed(cursor, filter, limit).await
            }
        }
    }

    /// Whether positions are committed in order, so that a reader which remembers the last position
    /// has seen everything before it. If not, [`Store::feed`] reads all events once. Events of one
    /// execution are always in order.
    pub fn has_ordered_positions(&self) -> bool {
        match self.driver {
            #[cfg(feature = "sqlite")]
            Driver::Sqlite(_) => true,
            #[cfg(feature = "postgres")]
            Driver::Postgres(_) => false,
        }
    }
}

#[cfg(feature = "sqlite")]
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
