//! Compares what a database holds with what the oracle says it should hold: every row of every table
//! that requests write, every column but those named here.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Oracle;
use crate::stored::Stored;
use crate::value::Value as Cell;

/// The columns of a table that say which row it is.
const KEYS: &[(&str, &[&str])] = &[
    ("executions", &["id"]),
    ("task_executions", &["execution", "number"]),
    (
        "task_outbox",
        &[
            "worker",
            "queue",
            "priority",
            "ready_at",
            "execution",
            "task",
        ],
    ),
    ("timers", &["due_at", "kind", "execution", "task", "piece"]),
    ("execution_events", &["execution", "task", "n"]),
    ("steps", &["execution", "task", "number"]),
    ("signals", &["instance", "name", "number"]),
];

/// Columns that the oracle says nothing of, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    // The transaction a row came with: of one backend, and as it pleases that backend.
    ("execution_events", "tx"),
];

/// One table, as it should be.
pub(super) struct Table {
    name: &'static str,
    rows: Vec<Row>,
}

/// One row, as it should be.
pub(super) struct Row(BTreeMap<&'static str, Expected>);

/// What a column should hold.
#[derive(Debug)]
pub(super) enum Expected {
    Is(Cell),
    /// This, however it is written.
    Json(Value),
    /// Words for readers, which nothing relies on.
    Words,
}

impl Table {
    pub(super) fn new(name: &'static str, rows: Vec<Row>) -> Table {
        Table { name, rows }
    }
}

impl Row {
    pub(super) fn new() -> Row {
        Row(BTreeMap::new())
    }

    pub(super) fn with(self, column: &'static str, value: impl Into<Expected>) -> Row {
        self.expecting(column, value.into())
    }

    pub(super) fn expecting(mut self, column: &'static str, value: Expected) -> Row {
        self.0.insert(column, value);
        self
    }
}

impl Expected {
    pub(super) const NULL: Expected = Expected::Is(Cell::Null);

    pub(super) fn text(text: &str) -> Expected {
        Expected::Is(Cell::Text(text.to_owned()))
    }

    fn fits(&self, cell: &Cell) -> bool {
        match (self, cell) {
            (Expected::Is(expected), cell) => expected == cell,
            (Expected::Words, Cell::Text(text)) => !text.is_empty(),
            (Expected::Json(expected), Cell::Text(text)) => {
                let found: Option<Value> = serde_json::from_str(text).ok();
                found.as_ref() == Some(expected)
            }
            _ => false,
        }
    }
}

macro_rules! from_numbers {
    ($($number:ty),+) => { $(
        impl From<$number> for Expected {
            fn from(number: $number) -> Expected {
                Expected::Is(Cell::Integer(i64::try_from(number).expect("a column holds it")))
            }
        }
    )+ };
}
from_numbers!(i16, i32, i64, u32, usize);

impl From<&str> for Expected {
    fn from(text: &str) -> Expected {
        Expected::text(text)
    }
}

impl<T: Into<Expected>> From<Option<T>> for Expected {
    fn from(value: Option<T>) -> Expected {
        value.map_or(Expected::NULL, Into::into)
    }
}

impl Oracle {
    /// How what is stored differs from what should be.
    pub(crate) fn differences(&self, stored: &Stored) -> Vec<String> {
        let tables = self.tables();
        let differences = tables.iter().flat_map(|table| table.differences(stored));
        differences.collect()
    }
}

impl Table {
    fn differences(&self, stored: &Stored) -> Vec<String> {
        let name = self.name;
        let (_, keys) = KEYS
            .iter()
            .find(|(table, _)| *table == name)
            .expect("known");
        let mut found: BTreeMap<Vec<&Cell>, _> = BTreeMap::new();
        for row in &stored[name] {
            found.insert(keys.iter().map(|key| &row[*key]).collect(), row);
        }
        let mut differences = Vec::new();
        for row in &self.rows {
            let cells = keys.iter().map(|key| match &row.0[key] {
                Expected::Is(cell) => cell,
                other => panic!("{other:?} is no part of a key"),
            });
            let key: Vec<&Cell> = cells.collect();
            match found.remove(&key) {
                None => differences.push(format!("{name} {key:?} is missing")),
                Some(stored) => {
                    let of_row = row.differences(name, stored);
                    differences.extend(of_row.map(|difference| format!("{key:?} {difference}")));
                }
            }
        }
        let more = found.keys();
        differences.extend(more.map(|key| format!("{name} {key:?} should not be there")));
        differences
    }
}

impl Row {
    fn differences<'a>(
        &'a self,
        table: &'a str,
        stored: &'a BTreeMap<String, Cell>,
    ) -> impl Iterator<Item = String> + 'a {
        stored.iter().filter_map(move |(column, cell)| {
            if LEFT_OUT.contains(&(table, column.as_str())) {
                return None;
            }
            let expected = self.0.get(column.as_str());
            let expected = expected.unwrap_or_else(|| panic!("{table}.{column} is unknown"));
            (!expected.fits(cell))
                .then(|| format!("{table}.{column}: expected {expected:?}, stored {cell:?}"))
        })
    }
}
