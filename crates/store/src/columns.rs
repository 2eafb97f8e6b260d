//! What a column is, above the drivers: its name, how a statement sets it, and how its value goes
//! between a row in memory and the database. SQLite binds values one row at a time, PostgreSQL as one
//! array a column; both make the text of their statements from the same lists.

use std::borrow::Cow;
use std::sync::Arc;

use abide_core::execution::StopCause;
use abide_core::ids::{ExecutionId, Timestamp, VersionId, WorkerId};
use abide_core::payload::Payload;
use abide_core::status::{ExecutionStatus, SubStatus, TaskStatus};
use abide_core::step::{StepKind, StepState};

use crate::rows::Columns;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number.
    Int,
    /// A text.
    Text,
    /// A text that may be long: SQLite keeps a long one apart.
    Payload,
}

/// What a statement does with a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Part of the key: an update finds its row by it.
    Key,
    /// Set by every update.
    State,
    /// Set when the row is inserted, never changed after.
    Fixed,
    /// Read only: an expression over other columns.
    Seen,
    /// No column of the table: a value that the statement's text speaks of.
    Told,
    /// Set by an update that tells `ended` as 1; stays as it is otherwise, though the new value is NULL.
    Ended,
    /// Set by an update that has a value for it; stays as it is otherwise.
    Given,
}

/// A column's value in one row.
pub(crate) enum Cell<'r> {
    Int(Option<i64>),
    /// Of a text's or a payload's column.
    Text(Option<Cow<'r, str>>),
}

impl<'r> Cell<'r> {
    pub(crate) fn text(text: impl Into<Cow<'r, str>>) -> Cell<'r> {
        Cell::Text(Some(text.into()))
    }

    fn int(number: impl Into<i64>) -> Cell<'r> {
        Cell::Int(Some(number.into()))
    }
}

/// A column as the text of a statement knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    pub(crate) kind: Kind,
}

impl Head {
    /// What an update sets the column to, if it sets it. `u` is the row that is given, `t` the one that
    /// is stored.
    pub(crate) fn set(&self) -> Option<String> {
        let name = self.name;
        match self.role {
            Role::State => Some(format!("{name} = u.{name}")),
            // A column that stays keeps its value out of line where it is.
            Role::Ended => Some(format!(
                "{name} = CASE u.ended WHEN 1 THEN u.{name} ELSE t.{name} END"
            )),
            Role::Given => Some(format!("{name} = coalesce(u.{name}, t.{name})")),
            Role::Key | Role::Fixed | Role::Seen | Role::Told => None,
        }
    }
}

/// A column of the rows of type `T`.
pub(crate) struct Column<T> {
    pub(crate) head: Head,
    pub(crate) cell: for<'r> fn(&'r T) -> Cell<'r>,
}

impl<T> Clone for Column<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Column<T> {}

impl<T> Column<T> {
    pub(crate) const fn new(
        name: &'static str,
        role: Role,
        kind: Kind,
        cell: for<'r> fn(&'r T) -> Cell<'r>,
    ) -> Column<T> {
        Column {
            head: Head { name, role, kind },
            cell,
        }
    }
}

/// `a, b, c`: the columns' names.
pub(crate) fn names(heads: &[Head]) -> String {
    let names: Vec<&str> = heads.iter().map(|head| head.name).collect();
    names.join(", ")
}

/// A type that a column can hold.
pub(crate) trait Field: Sized {
    const KIND: Kind;

    fn cell(&self) -> Cell<'_>;

    /// The value, or none for NULL.
    fn read_option<C: Columns>(columns: &mut C) -> Result<Option<Self>, C::Error>;

    fn read<C: Columns>(columns: &mut C) -> Result<Self, C::Error> {
        Self::read_option(columns)?.ok_or_else(|| columns.missing())
    }
}

impl<F: Field> Field for Option<F> {
    const KIND: Kind = F::KIND;

    fn cell(&self) -> Cell<'_> {
        match (self, F::KIND) {
            (Some(value), _) => value.cell(),
            (None, Kind::Int) => Cell::Int(None),
            (None, Kind::Text | Kind::Payload) => Cell::Text(None),
        }
    }

    fn read_option<C: Columns>(columns: &mut C) -> Result<Option<Self>, C::Error> {
        F::read_option(columns).map(Some)
    }
}

/// Types that are stored as a number or as a text.
macro_rules! fields {
    (ints $($int:ty),*; ids $($id:ident),*; statuses $($status:ident $what:literal),*;) => {
        $(impl Field for $int {
            const KIND: Kind = Kind::Int;
            fn cell(&self) -> Cell<'_> { Cell::int(*self) }
            fn read_option<C: Columns>(columns: &mut C) -> Result<Option<Self>, C::Error> {
                columns.int_option()
            }
        })*
        $(impl Field for $id {
            const KIND: Kind = Kind::Int;
            fn cell(&self) -> Cell<'_> { Cell::int(self.0) }
            fn read_option<C: Columns>(columns: &mut C) -> Result<Option<Self>, C::Error> {
                Ok(columns.int_option()?.map($id))
            }
        })*
        $(impl Field for $status {
            const KIND: Kind = Kind::Text;
            fn cell(&self) -> Cell<'_> { Cell::text(self.as_str()) }
            fn read_option<C: Columns>(columns: &mut C) -> Result<Option<Self>, C::Error> {
                columns.parse_option($what, $status::parse)
            }
        })*
    };
}

fields! {
    ints i64, u32, i16;
    ids Timestamp, ExecutionId, VersionId, WorkerId;
    statuses ExecutionStatus "status of an execution", StopCause "cause of a stop", TaskStatus "status of a task",
        SubStatus "sub-status", StepKind "kind of operation", StepState "state of an operation";
}

impl Field for bool {
    const KIND: Kind = Kind::Int;

    fn cell(&self) -> Cell<'_> {
        Cell::int(*self)
    }

    fn read_option<C: Columns>(columns: &mut C) -> Result<Option<Self>, C::Error> {
        columns.truth().map(Some)
    }
}

impl Field for String {
    const KIND: Kind = Kind::Text;

    fn cell(&self) -> Cell<'_> {
        Cell::text(self.as_str())
    }

    fn read_option<C: Columns>(columns: &mut C) -> Result<Option<Self>, C::Error> {
        columns.text_option()
    }
}

impl Field for Arc<str> {
    const KIND: Kind = Kind::Text;

    fn cell(&self) -> Cell<'_> {
        Cell::text(&**self)
    }

    fn read_option<C: Columns>(columns: &mut C) -> Result<Option<Self>, C::Error> {
        columns.read(|text| Arc::from(text))
    }
}

impl Field for Payload {
    const KIND: Kind = Kind::Payload;

    fn cell(&self) -> Cell<'_> {
        Cell::text(self.as_str())
    }

    fn read_option<C: Columns>(columns: &mut C) -> Result<Option<Self>, C::Error> {
        columns.payload()
    }
}

/// The kind of a row's field.
pub(crate) const fn kind_of<T, F: Field>(_: fn(&T) -> &F) -> Kind {
    F::KIND
}

/// Declares the columns of a type of rows. A *field* is a field of the row with the column's name; its
/// type says how it is stored and read. A *part* says so itself: `role name: type = |row| cell`, with
/// `as "sql"` before the colon where the column goes by another name.
macro_rules! columns {
    (@name $name:ident $sql:literal) => { $sql };
    (@name $name:ident) => { stringify!($name) };
    (
        $(#[$doc:meta])* $COLUMNS:ident: $Row:ty;
        fields { $($role:ident $field:ident,)* }
        parts { $($part_role:ident $part:ident $(as $sql:literal)?: $type:ty = |$row:pat_param| $cell:expr,)* }
    ) => {
        $(#[$doc])*
        pub(crate) static $COLUMNS: &[Column<$Row>] = &[
            $(Column::new(
                stringify!($field),
                Role::$role,
                kind_of(|row: &$Row| &row.$field),
                |row| Field::cell(&row.$field),
            ),)*
            $(Column::new(
                columns!(@name $part $($sql)?),
                Role::$part_role,
                <$type as Field>::KIND,
                |$row| $cell,
            ),)*
        ];
    };
}

/// Declares the columns of a type of rows that is also read, from all of the columns in the order of the
/// list. What is `made` are the fields of the row that follow from its parts.
macro_rules! row {
    (
        $(#[$doc:meta])* $COLUMNS:ident: $Row:ident, read from $columns:ident;
        fields { $($role:ident $field:ident,)* }
        parts { $($part_role:ident $part:ident $(as $sql:literal)?: $type:ty = |$row:pat_param| $cell:expr,)* }
        made { $($made:ident: $value:expr,)* }
    ) => {
        columns! {
            $(#[$doc])* $COLUMNS: $Row;
            fields { $($role $field,)* }
            parts { $($part_role $part $(as $sql)?: $type = |$row| $cell,)* }
        }

        impl FromColumns for $Row {
            fn from_columns<C: Columns>($columns: &mut C) -> Result<$Row, C::Error> {
                $(let $field = Field::read($columns)?;)*
                $(let $part = <$type as Field>::read($columns)?;)*
                Ok($Row { $($field,)* $($made: $value,)* })
            }
        }
    };
}

pub(crate) use {columns, row};
