//! Tables of columns: from one list follow the text of a set-based statement and its arrays, so
//! that names and values cannot get out of step.

use std::borrow::Cow;

use super::statement::Param;

/// Rows that one statement writes at most: bounds the memory that a statement takes on both sides.
pub(super) const ROWS_AT_ONCE: usize = 4096;

/// How a column's value is taken from a row of type `T`. Texts may be moved out of it.
pub(super) enum Of<'a, T> {
    /// Any number: the assignment narrows it.
    Int(fn(&T) -> Option<i64>),
    /// A text.
    Text(fn(&mut T) -> Option<Cow<'a, str>>),
}

/// A column that a statement writes.
pub(super) struct Column<'a, T> {
    pub(super) name: &'static str,
    pub(super) of: Of<'a, T>,
}

/// A number's column.
pub(super) const fn int<'a, T>(name: &'static str, of: fn(&T) -> Option<i64>) -> Column<'a, T> {
    Column {
        name,
        of: Of::Int(of),
    }
}

/// A text's column.
pub(super) const fn text<'a, T>(
    name: &'static str,
    of: fn(&mut T) -> Option<Cow<'a, str>>,
) -> Column<'a, T> {
    Column {
        name,
        of: Of::Text(of),
    }
}

/// Some columns and more.
pub(super) fn also<'a, T>(
    mut columns: Vec<Column<'a, T>>,
    more: Vec<Column<'a, T>>,
) -> Vec<Column<'a, T>> {
    columns.extend(more);
    columns
}

/// `(a, b, c)`: the columns' names.
pub(super) fn names<T>(columns: &[Column<'_, T>]) -> String {
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    format!("({})", names.join(", "))
}

/// `unnest($1::bigint[], $2::text[])`: the rows. Their order is that of the arrays.
pub(super) fn unnest<T>(columns: &[Column<'_, T>]) -> String {
    format!("unnest({})", parameters(columns).join(", "))
}

fn parameters<T>(columns: &[Column<'_, T>]) -> Vec<String> {
    let parameters = columns.iter().zip(1..).map(|(column, at)| match column.of {
        Of::Int(_) => format!("${at}::bigint[]"),
        Of::Text(_) => format!("${at}::text[]"),
    });
    parameters.collect()
}

/// Inserts the rows into a table, in the order of the arrays. They are taken apart side by side: in
/// `FROM` the server would store what comes of each array before it reads the first row.
pub(super) fn insert<T>(table: &str, columns: &[Column<'_, T>]) -> String {
    let parameters = parameters(columns);
    let values = parameters.iter().map(|array| format!("unnest({array})"));
    format!(
        "INSERT INTO ~{table} {} SELECT {}",
        names(columns),
        values.collect::<Vec<_>>().join(", ")
    )
}

/// Updates the rows `t` of a table that have the keys of the rows `u` that are given. `set` says what
/// a column that is no key is set to, or nothing if it stays as it is.
pub(super) fn update<T>(
    table: &str,
    columns: &[Column<'_, T>],
    key: &[&str],
    set: impl Fn(&str) -> String,
) -> String {
    let set: Vec<String> = columns
        .iter()
        .filter(|column| !key.contains(&column.name))
        .map(|column| set(column.name))
        .filter(|set| !set.is_empty())
        .collect();
    format!(
        "UPDATE ~{table} t SET {} FROM {} AS u {} WHERE {}",
        set.join(", "),
        unnest(columns),
        names(columns),
        on(key)
    )
}

/// `t.a = u.a AND t.b = u.b`
pub(super) fn on(key: &[&str]) -> String {
    let equal: Vec<String> = key
        .iter()
        .map(|name| format!("t.{name} = u.{name}"))
        .collect();
    equal.join(" AND ")
}

/// `a = u.a`: what a column is set to as a rule.
pub(super) fn plainly(name: &str) -> String {
    format!("{name} = u.{name}")
}

/// The arrays of these rows.
pub(super) fn arrays<'a, T>(columns: &[Column<'a, T>], rows: &mut [T]) -> Vec<Param<'a>> {
    let array = |column: &Column<'a, T>| match column.of {
        Of::Int(of) => Param::Ints(rows.iter().map(of).collect()),
        Of::Text(of) => Param::Texts(rows.iter_mut().map(of).collect()),
    };
    columns.iter().map(array).collect()
}
