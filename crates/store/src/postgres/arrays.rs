//! Rows as arrays, one for each column, and the text by which a statement takes them apart again.

use std::borrow::Cow;
use std::convert::Infallible;

use crate::columns::{Cell, Column, Head, Kind, names};
use crate::writes::Sink;

use super::statement::Param;

/// Takes rows apart into columns.
pub(super) struct Arrays<'r> {
    pub(super) params: Vec<Param<'r>>,
    next: usize,
}

impl Arrays<'_> {
    pub(super) fn of(heads: &[Head], rows: usize) -> Self {
        let array = |head: &Head| match head.kind {
            Kind::Int => Param::Ints(Vec::with_capacity(rows)),
            Kind::Text | Kind::Payload => Param::Texts(Vec::with_capacity(rows)),
        };
        let params = heads.iter().map(array).collect();
        Arrays { params, next: 0 }
    }

    /// The arrays, with texts of their own.
    pub(super) fn owned(self) -> Vec<Param<'static>> {
        let owned = |param| match param {
            Param::Int(number) => Param::Int(number),
            Param::Ints(numbers) => Param::Ints(numbers),
            Param::Text(text) => Param::Text(text.map(|text| text.into_owned().into())),
            Param::Texts(texts) => {
                let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
                Param::Texts(texts.into_iter().map(|text| text.map(owned)).collect())
            }
        };
        self.params.into_iter().map(owned).collect()
    }

    pub(super) fn next_row(&mut self) -> &mut Self {
        self.next = 0;
        self
    }
}

impl<'r> Sink<'r> for Arrays<'r> {
    type Error = Infallible;

    fn add<T>(
        &mut self,
        takes: impl Fn(&Head) -> bool,
        columns: &[Column<T>],
        row: &'r T,
    ) -> Result<(), Infallible> {
        for column in columns.iter().filter(|column| takes(&column.head)) {
            match (&mut self.params[self.next], (column.cell)(row)) {
                (Param::Ints(array), Cell::Int(number)) => array.push(number),
                (Param::Texts(array), Cell::Text(text)) => array.push(text),
                _ => unreachable!("column {} holds what its kind says", column.head.name),
            }
            self.next += 1;
        }
        Ok(())
    }
}

/// `unnest($1::bigint[], $2::text[]) AS u (a, b)`: the rows. Their order is that of the arrays. With
/// `ORDINALITY` a last column `at` tells the place of each, from 1.
pub(super) fn given(heads: &[Head], ordinality: bool) -> String {
    let (arrays, names) = (parameters(heads).join(", "), names(heads));
    match ordinality {
        true => format!("unnest({arrays}) WITH ORDINALITY AS u ({names}, at)"),
        false => format!("unnest({arrays}) AS u ({names})"),
    }
}

pub(super) fn parameters(heads: &[Head]) -> Vec<String> {
    let parameters = heads.iter().zip(1..).map(|(head, at)| match head.kind {
        Kind::Int => format!("${at}::bigint[]"),
        Kind::Text | Kind::Payload => format!("${at}::text[]"),
    });
    parameters.collect()
}
