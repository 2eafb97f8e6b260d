//! Statements and rows as plain data, so that the same reads and writes go through a connection of
//! the store's own or through a transaction of its user, whichever library that one is of.

use std::borrow::Cow;
use std::future::Future;

use crate::error::StoreError;

/// One statement with its parameters.
#[derive(Clone, Debug)]
pub(crate) struct Statement<'a> {
    /// The text, in which `~` stands for the schema and its dot. A borrowed one is kept prepared.
    pub(crate) sql: Cow<'static, str>,
    /// `$1`, `$2` and so on.
    pub(crate) params: Vec<Param<'a>>,
}

impl<'a> Statement<'a> {
    /// A statement whose text never changes.
    pub(crate) fn new(sql: &'static str, params: Vec<Param<'a>>) -> Statement<'a> {
        Statement {
            sql: Cow::Borrowed(sql),
            params,
        }
    }
}

/// A parameter. Numbers are `bigint`s whatever the column: an assignment narrows them.
#[derive(Clone, Debug)]
pub(crate) enum Param<'a> {
    /// `bigint`
    Int(Option<i64>),
    /// `text`
    Text(Option<Cow<'a, str>>),
    /// `bigint[]`
    Ints(Vec<Option<i64>>),
    /// `text[]`
    Texts(Vec<Option<Cow<'a, str>>>),
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// NULL
    Null,
    /// Any integer type.
    Int(i64),
    /// `boolean`
    Bool(bool),
    /// `text`
    Text(String),
}

/// A row that a statement answered.
pub(crate) type Row = Vec<Value>;

/// Whoever runs statements in order on one connection, inside a transaction that it doesn't end.
pub(crate) trait Execute {
    /// Runs them, all at once where the connection can, and answers the rows of each. After an error
    /// the transaction is of no more use.
    fn run(
        &self,
        statements: Vec<Statement<'_>>,
    ) -> impl Future<Output = Result<Vec<Vec<Row>>, StoreError>> + Send;
}
