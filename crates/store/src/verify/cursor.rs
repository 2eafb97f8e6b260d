//! A table read in the order of its executions, one row ahead, so that several can be walked side
//! by side in bounded memory. A row whose key cannot be read is reported and left out.

use rusqlite::{Row, Rows, Statement};

use crate::sqlite::rows::is_content;

/// Where a row stands in the walk.
pub(super) trait Keyed {
    /// Its execution.
    fn execution(&self) -> i64;
    /// Its task; 0 for the execution itself.
    fn task(&self) -> u32;
}

pub(super) struct Cursor<'s, T> {
    rows: Rows<'s>,
    parse: fn(&Row<'_>) -> rusqlite::Result<T>,
    head: Option<T>,
    /// How many rows were read.
    pub(super) read: u64,
    /// What was wrong with rows that were left out.
    pub(super) unreadable: Vec<String>,
}

impl<'s, T: Keyed> Cursor<'s, T> {
    pub(super) fn new(
        statement: &'s mut Statement<'_>,
        parse: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Cursor<'s, T>> {
        let mut cursor = Cursor {
            rows: statement.query([])?,
            parse,
            head: None,
            read: 0,
            unreadable: Vec::new(),
        };
        cursor.advance()?;
        Ok(cursor)
    }

    fn advance(&mut self) -> rusqlite::Result<()> {
        self.head = None;
        while let Some(row) = self.rows.next()? {
            self.read += 1;
            match (self.parse)(row) {
                Ok(row) => {
                    self.head = Some(row);
                    return Ok(());
                }
                Err(error) if is_content(&error) => self.unreadable.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The execution of the next row.
    pub(super) fn execution(&self) -> Option<i64> {
        self.head.as_ref().map(Keyed::execution)
    }

    /// The task of the next row, if that belongs to this execution.
    pub(super) fn task(&self, execution: i64) -> Option<u32> {
        let head = self
            .head
            .as_ref()
            .filter(|row| row.execution() == execution);
        head.map(Keyed::task)
    }

    /// The next row, if it belongs to this execution.
    pub(super) fn next_of_execution(&mut self, execution: i64) -> rusqlite::Result<Option<T>> {
        match self.execution() == Some(execution) {
            true => self.pop(),
            false => Ok(None),
        }
    }

    /// The next row, if it belongs to this task.
    pub(super) fn next_of_task(
        &mut self,
        execution: i64,
        task: u32,
    ) -> rusqlite::Result<Option<T>> {
        match self.task(execution) == Some(task) {
            true => self.pop(),
            false => Ok(None),
        }
    }

    fn pop(&mut self) -> rusqlite::Result<Option<T>> {
        let row = self.head.take();
        self.advance()?;
        Ok(row)
    }
}
