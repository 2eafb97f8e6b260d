//! Which database a store is. Both drivers answer the same questions; whoever asks does not know
//! which one it is.

use std::sync::Arc;

use crate::postgres::Postgres;
use crate::sqlite::Sqlite;

/// A store's database.
#[derive(Clone)]
pub(crate) enum Driver {
    Sqlite(Arc<Sqlite>),
    Postgres(Arc<Postgres>),
}

/// Says the same to whichever driver it is.
macro_rules! on {
    ($driver:expr, $it:ident => $said:expr) => {
        match &$driver {
            $crate::driver::Driver::Sqlite($it) => $said,
            $crate::driver::Driver::Postgres($it) => $said,
        }
    };
}

/// Runs the query of that name on a read connection of whichever driver it is.
macro_rules! query {
    ($driver:expr, $name:ident($($argument:expr),*)) => {
        match &$driver {
            $crate::driver::Driver::Sqlite(it) => it.read(|reader| reader.$name($($argument),*)),
            $crate::driver::Driver::Postgres(it) => {
                let session = it.session().await?;
                it.reader(&session).$name($($argument),*).await
            }
        }
    };
}

pub(crate) use {on, query};
