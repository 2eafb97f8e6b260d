//! Reads history: in the order of positions, and as a feed.
//!
//! Positions are given before transactions commit, so what a reader finds after the last position it
//! saw may lack an event that is committed later with a smaller one. A feed's cursor is therefore a
//! snapshot: the next page is what a newer snapshot sees and the older one doesn't. No writer
//! elsewhere holds it up, and no event is skipped or comes twice. The events of one execution come in
//! their order, since whoever writes the next holds its lock, and so sees the last committed.
//!
//! Nothing is sorted that isn't answered: stretches of positions are looked at until a page is full,
//! which is what the index of positions is for.

use std::fmt;
use std::sync::LazyLock;

use crate::error::StoreError;
use crate::rows::{Columns, EVENT, FromColumns};
use crate::views::{EventFilter, EventView};

use super::queries::{Reader, all, int, one, text};
use super::rows::Cells;
use super::statement::{Execute, Param, Statement};

/// The shortest stretch of positions that is looked at in one go. One that held too little is
/// followed by one four times as long: transactions that were rolled back leave gaps.
const STRETCH: i64 = 1024;

impl<E: Execute + Sync> Reader<'_, E> {
    /// Oldest first, after a position.
    pub(crate) async fn events(
        &self,
        filter: &EventFilter,
        after: i64,
        limit: u32,
    ) -> Result<Vec<EventView>, StoreError> {
        if let Some((of, params)) = stream(filter, 3) {
            // Relies on execution_events_stream; positions of one execution are few.
            let sql = format!(
                "SELECT {EVENT} FROM ~execution_events WHERE position > $1::bigint AND {of} \
                 ORDER BY position LIMIT $2::bigint"
            );
            let params = [vec![int(after), int(limit)], params].concat();
            let statement = Statement {
                sql: sql.into(),
                params,
            };
            return all(self.execute, statement, "an event", EventView::from_columns).await;
        }
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {EVENT} FROM ~execution_events WHERE position > $1::bigint AND position <= $2::bigint \
                 ORDER BY position LIMIT $3::bigint"
            )
        });
        let last = self.last_given().await?;
        let mut stretches = Stretches::after(after, last, limit);
        let mut found = Vec::new();
        while let Some((from, to)) = stretches.next(found.len()) {
            let params = vec![
                int(from),
                int(to),
                int(i64::from(limit) - found.len() as i64),
            ];
            let statement = Statement::new(&SQL, params);
            found.extend(all(self.execute, statement, "an event", EventView::from_columns).await?);
        }
        Ok(found)
    }

    /// The position of the last event; 0 if there is none.
    pub(crate) async fn last_position(&self) -> Result<i64, StoreError> {
        let sql = "SELECT max(position) FROM ~execution_events WHERE position > $1::bigint AND position <= $2::bigint";
        let mut to = self.last_given().await?;
        let mut length = STRETCH;
        while to > 0 {
            let from = to.saturating_sub(length).max(0);
            let statement = Statement::new(sql, vec![int(from), int(to)]);
            let found = one(self.execute, statement, "an event", Cells::int_option).await?;
            if let Some(position) = found.flatten() {
                return Ok(position);
            }
            (to, length) = (from, length.saturating_mul(4));
        }
        Ok(0)
    }

    /// The next page of events after a cursor, none for the beginning, and the cursor after it. A
    /// page that is shorter than `limit` is the last for now.
    pub(crate) async fn feed(
        &self,
        cursor: Option<&str>,
        filter: &EventFilter,
        limit: u32,
    ) -> Result<(Vec<EventView>, String), StoreError> {
        let mut cursor = cursor.map_or(Ok(Cursor::BEGINNING), Cursor::parse)?;
        let limit = limit.max(1) as usize;
        let mut found = Vec::new();
        loop {
            let goes_on = cursor.page.is_some();
            let left = limit - found.len();
            cursor = self.feed_page(cursor, filter, left, &mut found).await?;
            // What a page that was cut left over says nothing of what came after it.
            if found.len() == limit || !goes_on {
                return Ok((found, cursor.to_string()));
            }
        }
    }

    /// Adds the rest of the page that the cursor is in, or the next one.
    async fn feed_page(
        &self,
        mut cursor: Cursor,
        filter: &EventFilter,
        limit: usize,
        events: &mut Vec<EventView>,
    ) -> Result<Cursor, StoreError> {
        let (snapshot, last) = self.now().await?;
        let page = cursor.page.take().unwrap_or(Page {
            upto: snapshot,
            position: 0,
        });
        let most = limit as u32;
        let found = match stream(filter, 6) {
            Some((of, params)) => self.feed_stream(&cursor, &page, of, params, most).await?,
            None => self.feed_all(&cursor, &page, last, most).await?,
        };
        let position = found.last().map_or(page.position, |event| event.position);
        let next = if found.len() == limit {
            Cursor {
                page: Some(Page { position, ..page }),
                ..cursor
            }
        } else {
            Cursor {
                after: page.upto,
                floor: cursor.floor.max(position),
                page: None,
            }
        };
        events.extend(found);
        Ok(next)
    }

    async fn feed_stream(
        &self,
        cursor: &Cursor,
        page: &Page,
        of: &str,
        params: Vec<Param<'static>>,
        limit: u32,
    ) -> Result<Vec<EventView>, StoreError> {
        let sql = format!(
            "SELECT {EVENT} FROM ~execution_events WHERE (tx >= $1::text::xid8 OR tx = ANY ($2::text[]::xid8[])) \
             AND position > $3::bigint AND pg_visible_in_snapshot(tx, $4::text::pg_snapshot) AND {of} \
             ORDER BY position LIMIT $5::bigint"
        );
        let xmax = Param::Text(Some(cursor.after.xmax.to_string().into()));
        let upto = Param::Text(Some(page.upto.plain().into()));
        let own = vec![
            xmax,
            cursor.after.under_way(),
            int(page.position),
            upto,
            int(limit),
        ];
        let statement = Statement {
            sql: sql.into(),
            params: [own, params].concat(),
        };
        all(self.execute, statement, "an event", EventView::from_columns).await
    }

    async fn feed_all(
        &self,
        cursor: &Cursor,
        page: &Page,
        last: i64,
        limit: u32,
    ) -> Result<Vec<EventView>, StoreError> {
        // What was under way at the cursor's snapshot, or may have been, can have any position, and its
        // few transactions are found by execution_events_feed; the rest lies above the floor.
        static SQL: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {EVENT} FROM (SELECT {EVENT}, tx FROM ~execution_events \
                 WHERE tx = ANY ($1::text[]::xid8[]) AND position > $2::bigint AND position <= $4::bigint \
                 UNION ALL SELECT {EVENT}, tx FROM ~execution_events \
                 WHERE tx >= $5::text::xid8 AND tx <= $8::text::xid8 AND position > $2::bigint AND position <= $4::bigint \
                 UNION ALL SELECT {EVENT}, tx FROM ~execution_events \
                 WHERE tx > $8::text::xid8 AND position > $3::bigint AND position <= $4::bigint) e \
                 WHERE pg_visible_in_snapshot(tx, $6::text::pg_snapshot) ORDER BY position LIMIT $7::bigint"
            )
        });
        let (xmax, upto) = (cursor.after.xmax.to_string(), page.upto.plain());
        let begun = cursor.after.begun.max(cursor.after.xmax).to_string();
        let mut stretches = Stretches::after(cursor.floor.max(page.position), last, limit);
        let mut seen = page.position;
        let mut found = Vec::new();
        // What was under way is looked for even if nothing lies above the floor.
        let under_way = cursor.after.xmin <= cursor.after.begun;
        let mut stretch = stretches.next(0).or(under_way.then_some((last, last)));
        while let Some((from, to)) = stretch {
            let params = vec![
                cursor.after.under_way(),
                int(seen),
                int(from),
                int(to),
                text(&xmax),
                text(&upto),
                int(i64::from(limit) - found.len() as i64),
                text(&begun),
            ];
            let statement = Statement::new(&SQL, params);
            found.extend(all(self.execute, statement, "an event", EventView::from_columns).await?);
            seen = to;
            stretch = stretches.next(found.len());
        }
        Ok(found)
    }

    /// A position that nothing committed is above.
    async fn last_given(&self) -> Result<i64, StoreError> {
        let sql = "SELECT last_value FROM ~execution_events_position_seq";
        let last = one(
            self.execute,
            Statement::new(sql, Vec::new()),
            "an event",
            Cells::int,
        );
        let last = last.await?;
        last.ok_or_else(|| StoreError::Internal("no position was answered".to_owned()))
    }

    /// What is committed now, and a position that none of it is above. Takes a transaction's id.
    async fn now(&self) -> Result<(Snapshot, i64), StoreError> {
        // The snapshot of a statement is older than what its expressions find in a sequence, and than
        // the id of a transaction that is given to it. A snapshot's own `xmax` says only which id was
        // the last to be committed: transactions beyond it may have long begun.
        let sql = "SELECT pg_current_snapshot()::text || ':' || pg_current_xact_id()::text, \
             (SELECT last_value FROM ~execution_events_position_seq)";
        let read = |cells: &mut Cells| Ok((cells.text()?, cells.int()?));
        let found = one(
            self.execute,
            Statement::new(sql, Vec::new()),
            "an event",
            read,
        )
        .await?;
        let parsed = found.and_then(|(snapshot, last)| Some((Snapshot::parse(&snapshot)?, last)));
        parsed.ok_or_else(|| StoreError::Internal("no snapshot was answered".to_owned()))
    }
}

/// The condition for events of one execution or task, with parameters from the n-th on.
fn stream(filter: &EventFilter, n: usize) -> Option<(&'static str, Vec<Param<'static>>)> {
    let execution = filter.task.map(|key| key.execution).or(filter.execution)?;
    let mut params = vec![int(execution.0)];
    params.extend(filter.task.map(|key| int(key.number)));
    let of = match (n, filter.task) {
        (3, None) => "execution = $3::bigint",
        (3, Some(_)) => "execution = $3::bigint AND task = $4::bigint",
        (_, None) => "execution = $6::bigint",
        (_, Some(_)) => "execution = $6::bigint AND task = $7::bigint",
    };
    Some((of, params))
}

/// Walks through positions until enough was found.
struct Stretches {
    from: i64,
    last: i64,
    limit: usize,
    length: i64,
}

impl Stretches {
    fn after(from: i64, last: i64, limit: u32) -> Stretches {
        Stretches {
            from,
            last,
            limit: limit as usize,
            length: i64::from(limit).saturating_mul(2).max(STRETCH),
        }
    }

    /// The next stretch: positions above the first number, up to the second.
    fn next(&mut self, found: usize) -> Option<(i64, i64)> {
        if found >= self.limit || self.from >= self.last {
            return None;
        }
        let from = self.from;
        self.from = from.saturating_add(self.length).min(self.last);
        self.length = self.length.saturating_mul(4);
        Some((from, self.from))
    }
}

/// Which transactions were committed: those below `xmax`, but for some that were under way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Snapshot {
    xmin: u64,
    xmax: u64,
    under_way: Vec<u64>,
    /// Transactions from `xmax` up to here may have been under way too; those beyond had not begun.
    begun: u64,
}

impl Snapshot {
    /// As PostgreSQL writes it, `xmin:xmax:xip,xip`, and after another colon the last that had begun.
    fn parse(text: &str) -> Option<Snapshot> {
        let mut parts = text.split(':');
        let (xmin, xmax, under_way) = (parts.next()?, parts.next()?, parts.next()?);
        let begun = parts.next()?.parse().ok()?;
        if parts.next().is_some() {
            return None;
        }
        let under_way = under_way.split(',').filter(|xid| !xid.is_empty());
        let snapshot = Snapshot {
            xmin: xmin.parse().ok()?,
            xmax: xmax.parse().ok()?,
            under_way: under_way.map(str::parse).collect::<Result<_, _>>().ok()?,
            begun,
        };
        let Snapshot {
            xmin,
            xmax,
            under_way,
            ..
        } = &snapshot;
        let is_sorted = under_way.is_sorted_by(|a, b| a < b)
            && under_way.iter().all(|xid| (*xmin..*xmax).contains(xid));
        (0 < *xmin && xmin <= xmax && is_sorted).then_some(snapshot)
    }

    /// As PostgreSQL reads it.
    fn plain(&self) -> String {
        let under_way: Vec<String> = self.under_way.iter().map(u64::to_string).collect();
        format!("{}:{}:{}", self.xmin, self.xmax, under_way.join(","))
    }

    fn under_way(&self) -> Param<'static> {
        let xids = self
            .under_way
            .iter()
            .map(|xid| Some(xid.to_string().into()));
        Param::Texts(xids.collect())
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.plain(), self.begun)
    }
}

/// Where a feed stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cursor {
    /// What this snapshot sees was answered.
    after: Snapshot,
    /// Whatever begins after the snapshot (beyond its `begun`) writes above this position: it is that
    /// of an event the snapshot sees, and a transaction has its number before it draws positions,
    /// since it has locked or inserted an execution.
    floor: i64,
    /// The rest of a page that was cut off.
    page: Option<Page>,
}

/// What lies between two snapshots, answered up to a position.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Page {
    upto: Snapshot,
    position: i64,
}

impl Cursor {
    const BEGINNING: Cursor = Cursor {
        after: Snapshot {
            xmin: 1,
            xmax: 1,
            under_way: Vec::new(),
            begun: 0,
        },
        floor: 0,
        page: None,
    };

    fn parse(text: &str) -> Result<Cursor, StoreError> {
        let read = || {
            let mut parts = text.split(';');
            let (after, floor) = (Snapshot::parse(parts.next()?)?, parts.next()?.parse().ok()?);
            let page = match parts.next() {
                None => None,
                Some(upto) => Some(Page {
                    upto: Snapshot::parse(upto)?,
                    position: parts.next()?.parse().ok()?,
                }),
            };
            let cursor = Cursor { after, floor, page };
            parts.next().is_none().then_some(cursor)
        };
        read().ok_or_else(|| {
            let text: String = text.chars().take(80).collect();
            StoreError::Invalid(format!("`{}` is no cursor of a feed", text.escape_debug()))
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};{}", self.after, self.floor)?;
        match &self.page {
            Some(page) => write!(f, ";{};{}", page.upto, page.position),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back() {
        for text in [
            "1:1::0;0",
            "10:12:10,11:14;7",
            "10:12::12;7;13:20:14,19:25;8",
        ] {
            assert_eq!(Cursor::parse(text).expect("a cursor").to_string(), text);
        }
        assert_eq!(Cursor::BEGINNING.to_string(), "1:1::0;0");
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in [
            "",
            "7",
            "1:1:",
            "1:1:;0",
            "1:1::1;x",
            "0:1::1;0",
            "2:1::1;0",
            "1:5:9:9;0",
            "1:9:5,5:9;0",
            "1:1::1;0;1:1::1",
            "1:1::1;0;1:1::1;0;0",
            "1:1:':1;0",
        ] {
            Cursor::parse(text).expect_err(text);
        }
    }

    #[test]
    fn stretches_grow_until_enough_was_found() {
        let mut stretches = Stretches::after(10, 100_000, 100);
        assert_eq!(stretches.next(0), Some((10, 10 + STRETCH)));
        assert_eq!(stretches.next(99), Some((10 + STRETCH, 10 + 5 * STRETCH)));
        assert_eq!(stretches.next(100), None);
        let mut stretches = Stretches::after(10, 20, 100);
        assert_eq!(stretches.next(0), Some((10, 20)));
        assert_eq!(stretches.next(0), None);
    }
}
