//! Which database a store is. Both drivers answer the same questions; whoever asks does not know
//! which one it is.

use std::sync::Arc;

#[cfg(feature = "postgres")]
use crate::postgres::Postgres;
#[cfg(feature = "sqlite")]
use crate::sqlite::Sqlite;

/// A store's database.
#[derive(Clone)]
pub(crate) enum Driver {
    #[cfg(feature = "sqlite")]
    Sqlite(Arc<Sqlite>),
    #[cfg(feature = "postgres")]
    Postgres(Arc<Postgres>),
}

/// Says the same to whichever driver it is.
macro_rules! on {
    ($driver:expr, $it:ident => $said:expr) => {
        match &$driver {
            #[cfg(feature = "sqlite")]
            $crate::driver::Driver::Sqlite($it) => $said,
            #[cfg(feature = "postgres")]
            $crate::driver::Driver::Postgres($it) => $said,
        }
    };
}

/// Runs the query of that name on a read connection of whichever driver it is. While a server is
/// away it is asked again, for as long as a write would wait.
macro_rules! query {
    ($driver:expr, $name:ident($($argument:expr),*)) => {
        match &$driver {
            #[cfg(feature = "sqlite")]
            $crate::driver::Driver::Sqlite(it) => it.read(|reader| reader.$name($($argument),*)),
            #[cfg(feature = "postgres")]
            $crate::driver::Driver::Postgres(it) => {
                let mut patience = it.patience();
                loop {
                    let answer = match it.session().await {
                        Ok(session) => it.reader(&session).$name($($argument),*).await,
                        Err(error) => Err(error),
                    };
                    match answer {
                        Err(error) if patience.allows(&error).await => {}
                        answer => break answer,
                    }
                }
            }
        }
    };
}

pub(crate) use {on, query};
