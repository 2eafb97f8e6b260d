//! Rows of a store as tests look at them, in the same form from every backend.

use std::collections::BTreeMap;

/// What a column holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(String),
}

impl Value {
    pub(crate) fn integer(&self) -> i64 {
        match self {
            Value::Integer(number) => *number,
            other => panic!("{other:?} is no number"),
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Value::Text(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }
}

/// A row's columns with their names.
pub(crate) type Row = Vec<(String, Value)>;

/// Every table's rows, in the order of their keys.
pub(crate) type Dump = BTreeMap<String, Vec<Row>>;

/// A row's column.
pub(crate) fn column<'a>(row: &'a Row, name: &str) -> &'a Value {
    let found = row.iter().find(|(column, _)| column == name);
    &found.expect("the column exists").1
}
