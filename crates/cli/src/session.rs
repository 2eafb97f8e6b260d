//! What every command has: the store that was named, and the format that was asked for.

use abide_store::{Store, StoreOptions};

use crate::output::Format;
use crate::problem::Problem;

/// The part of the command line that all commands share.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) database: Option<String>,
    pub(crate) format: Format,
}

impl Session {
    /// The database that was named.
    pub(crate) fn database(&self) -> Result<&str, Problem> {
        let named = self.database.as_deref().filter(|name| !name.is_empty());
        named.ok_or_else(|| {
            Problem::Usage("no store named: say `--db FILE` or `--db postgres://user@host/database`, or set ABIDE_DB".to_owned())
        })
    }

    /// Opens the store. It is kept until the process ends: closing it would work off the log,
    /// which whoever runs the tasks does better and without being waited for.
    pub(crate) async fn open(&self) -> Result<&'static Store, Problem> {
        let database = self.database()?;
        let options = StoreOptions {
            create: false,
            ..StoreOptions::default()
        };
        Ok(Box::leak(Box::new(Store::open(database, options).await?)))
    }
}
