//! What every command has: the named store and the output format.

use std::sync::OnceLock;

use abide::Client;
use abide::admin::is_postgres;

use crate::output::Format;
use crate::problem::Problem;

/// The part of the command line that all commands share.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) database: Option<String>,
    pub(crate) format: Format,
    /// The client, once a command has opened it.
    pub(crate) opened: OnceLock<Client>,
}

impl Session {
    /// The named database.
    pub(crate) fn database(&self) -> Result<&str, Problem> {
        let named = self.database.as_deref().filter(|name| !name.is_empty());
        named.ok_or_else(|| {
            Problem::Usage("no store named: say `--db FILE` or `--db postgres://user@host/database`, or set ABIDE_DB".to_owned())
        })
    }

    /// Opens the store. It stays open until the process ends.
    pub(crate) async fn open(&self) -> Result<&Client, Problem> {
        let client = Client::open(self.database()?).await?;
        Ok(self.opened.get_or_init(|| client))
    }

    /// If no process runs the tasks of this file, closes the file, so that the one file then
    /// contains everything, including the writes of this command. Otherwise the process that runs
    /// the tasks writes the log back later, and this command does not wait for that.
    pub(crate) async fn close(&self) {
        let is_file = self.database().is_ok_and(|url| !is_postgres(url));
        if let Some(client) = self.opened.get()
            && is_file
            && client.has_workers().await.is_ok_and(|alive| !alive)
        {
            client.close().await;
        }
    }
}
