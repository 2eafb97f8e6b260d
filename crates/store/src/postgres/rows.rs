//! Reads rows that PostgreSQL answered.

use std::sync::Arc;

use abide_core::graph::Graph;
use abide_core::payload::Payload;

use crate::error::StoreError;
use crate::queries;
use crate::rows::Columns;

use super::statement::{Row, Value};

/// What is wrong with a row's content.
#[derive(Clone, Debug)]
pub(crate) struct Content(String);

impl Content {
    pub(crate) fn new(detail: String) -> Content {
        Content(detail)
    }

    /// The store's error for one met while reading `what`.
    pub(crate) fn of(self, what: impl std::fmt::Display) -> StoreError {
        StoreError::Undecodable {
            what: what.to_string(),
            detail: self.0,
        }
    }
}

pub(crate) type Read<T> = Result<T, Content>;

/// Reads a row from left to right, moving its texts out.
pub(crate) struct Cells {
    left: std::vec::IntoIter<Value>,
    /// How many were read.
    read: usize,
}

impl Cells {
    pub(crate) fn new(row: Row) -> Cells {
        Cells {
            left: row.into_iter(),
            read: 0,
        }
    }

    fn next(&mut self) -> Read<Value> {
        self.read += 1;
        self.left
            .next()
            .ok_or_else(|| self.mismatch("the row is too short".to_owned()))
    }

    fn unexpected(&self, value: &Value, wanted: &str) -> Content {
        self.mismatch(format!(
            "column {} is {value:?} instead of {wanted}",
            self.read
        ))
    }
}

impl Columns for Cells {
    type Error = Content;

    fn number(&mut self) -> Read<Option<i64>> {
        match self.next()? {
            Value::Int(number) => Ok(Some(number)),
            Value::Null => Ok(None),
            other => Err(self.unexpected(&other, "a number")),
        }
    }

    fn truth(&mut self) -> Read<bool> {
        match self.next()? {
            Value::Bool(truth) => Ok(truth),
            other => Err(self.unexpected(&other, "true or false")),
        }
    }

    fn read<R>(&mut self, read: impl FnOnce(&str) -> R) -> Read<Option<R>> {
        Ok(self.text_option()?.map(|text| read(&text)))
    }

    fn text_option(&mut self) -> Read<Option<String>> {
        match self.next()? {
            Value::Text(text) => Ok(Some(text)),
            Value::Null => Ok(None),
            other => Err(self.unexpected(&other, "a text")),
        }
    }

    fn payload(&mut self) -> Read<Option<Payload>> {
        Ok(self.text_option()?.map(Payload::from_json))
    }

    fn content(error: Content) -> Read<String> {
        Ok(error.0)
    }

    fn mismatch(&self, detail: String) -> Content {
        Content(detail)
    }
}

/// The rows of each need, or what is wrong with one of them.
pub(super) fn by_place<T>(
    needs: usize,
    rows: Vec<Row>,
    read: fn(&mut Cells) -> Read<T>,
) -> Vec<Read<Vec<T>>> {
    let mut of_needs: Vec<Read<Vec<T>>> = (0..needs).map(|_| Ok(Vec::new())).collect();
    for row in rows {
        let mut cells = Cells::new(row);
        let place = cells.int::<usize>().ok().and_then(|at| at.checked_sub(1));
        let of_need = place.and_then(|place| of_needs.get_mut(place));
        let of_need = of_need.expect("a row begins with the place of its need");
        match (read(&mut cells), &mut *of_need) {
            (Ok(value), Ok(values)) => values.push(value),
            (Err(error), Ok(_)) => *of_need = Err(error),
            (_, Err(_)) => {}
        }
    }
    of_needs
}

/// A graph from its stored form.
pub(super) fn parse_graph(stored: Option<Payload>) -> Read<Arc<Graph>> {
    let graph = queries::parse_graph(stored);
    graph.map(Arc::new).map_err(Content::new)
}
