//! What a store holds, without what backends are free to do in their own way.

use std::collections::BTreeMap;

use crate::value::{Dump, Row, Value as Cell};

/// Every table's rows, as columns with their names.
pub(crate) type Stored = BTreeMap<String, Vec<BTreeMap<String, Cell>>>;

/// With payloads where they belong, wherever they are kept, and the history in the order of its
/// streams.
pub(crate) fn normalised(dump: Dump) -> Stored {
    let named = |rows: Vec<Row>| rows.into_iter().map(|row| row.into_iter().collect());
    let tables = dump.into_iter();
    let mut stored: Stored = tables
        .map(|(table, rows)| (table, named(rows).collect()))
        .collect();
    let payloads = stored.remove("payloads").unwrap_or_default();
    let payloads: BTreeMap<String, Cell> = payloads
        .into_iter()
        .map(|row| match &row["id"] {
            Cell::Integer(id) => (format!("@{id}"), row["body"].clone()),
            other => panic!("{other:?} is no id"),
        })
        .collect();
    for (table, rows) in &mut stored {
        for row in rows.iter_mut() {
            row.remove("position");
            for cell in row.values_mut() {
                if let Cell::Text(text) = cell
                    && text.starts_with('@')
                {
                    *cell = payloads[text.as_str()].clone();
                }
            }
        }
        if table == "execution_events" {
            rows.sort_by_cached_key(|row| ["execution", "task", "n"].map(|key| row[key].clone()));
        }
    }
    stored
}
