//! Connection poolers between the program and the server. One that keeps a session on one server
//! process does no harm. One that gives each transaction another process is refused: settings,
//! prepared statements and `LISTEN` belong to a process, and other programs would inherit them.
//!
//! Invariant: before that is known nothing is set, prepared or written.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_postgres::{Client, Config, SimpleQueryMessage};

use super::address::Address;
use super::connect::silent;
use super::{error, tls};
use crate::error::StoreError;

/// A setting of no meaning that is made when a connection begins. A server has it, a pooler takes no
/// setting that it does not know, or passes none on.
pub(super) const MARK: &str = "abide.direct";

/// How often the processes of two connections are compared. Where many programs share a pool, each look
/// may see by chance what one would see without a pool.
const LOOKS: u32 = 10;

/// How long a second connection is waited for. A pool whose sessions are all in use gives none.
const PATIENCE: Duration = Duration::from_secs(5);

/// The same address, for a connection that shows by this mark whether a pooler is between.
pub(super) fn marked(config: &Config, mark: &str) -> Config {
    let mut config = config.clone();
    let options = config.get_options().unwrap_or_default();
    config.options(format!("{options} -c {MARK}={mark}"));
    config
}

/// Whether it is a pooler that refused a connection for its mark.
pub(super) fn refused_mark(error: &tokio_postgres::Error) -> bool {
    // PgBouncer's words, which are always English.
    let said = error.as_db_error().map(|error| error.message());
    said.is_some_and(|said| said.contains("unsupported startup parameter"))
}

/// That the pooler keeps a session on one server process, as far as that can be seen.
pub(super) async fn check(address: &Address, first: &Client) -> Result<(), StoreError> {
    if address.is_pooled_by_session.load(Ordering::Acquire) {
        return Ok(());
    }
    let database = address.database();
    let cannot_open = |detail| StoreError::CannotOpen {
        path: database.clone(),
        detail,
    };
    let connector = tls::connector(address.tls, &address.roots).map_err(cannot_open)?;
    let own = process(first, &database).await?;
    let second = tokio::time::timeout(PATIENCE, address.config.connect(connector)).await;
    // Without it nothing can be told: a connection that nobody can judge is not taken.
    let Ok(second) = second else {
        return Err(silent(&database, PATIENCE));
    };
    let (second, connection) = second.map_err(|e| error::of_connect(&database, &e))?;
    let driving = tokio::spawn(connection);
    let mut compared = Ok(());
    for _ in 0..LOOKS {
        compared = compare(first, &second, own, &database).await;
        if compared.is_err() {
            break;
        }
    }
    drop(second);
    driving.abort();
    compared?;
    address.is_pooled_by_session.store(true, Ordering::Release);
    Ok(())
}

/// That a process is the first connection's alone, while the second has one for a transaction.
async fn compare(
    first: &Client,
    second: &Client,
    own: i64,
    database: &str,
) -> Result<(), StoreError> {
    let fail = |e| of_pooler(database, &e);
    second.batch_execute("BEGIN").await.map_err(fail)?;
    let others = process(second, database).await?;
    // A pool of one process has none to spare now.
    let still = match others == own {
        true => None,
        false => Some(process(first, database).await?),
    };
    second.batch_execute("ROLLBACK").await.map_err(fail)?;
    match still == Some(own) {
        true => Ok(()),
        false => Err(refusal(database)),
    }
}

/// The server process that does the next transaction of a connection.
async fn process(client: &Client, database: &str) -> Result<i64, StoreError> {
    let rows = client.simple_query("SELECT pg_backend_pid()").await;
    let rows = rows.map_err(|e| of_pooler(database, &e))?;
    let process = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    process.ok_or_else(|| StoreError::Internal("no process was answered".to_owned()))
}

fn of_pooler(database: &str, error: &tokio_postgres::Error) -> StoreError {
    let said = error.as_db_error().map(|error| error.message());
    match said {
        Some(said) if said.contains("statement pooling") => refusal(database),
        _ => error::of_connect(database, error),
    }
}

/// The error of a pooler that keeps no sessions.
pub(super) fn refusal(database: &str) -> StoreError {
    StoreError::CannotOpen {
        path: database.to_owned(),
        detail: "a connection pooler between this program and the server gives each transaction another server \
                 connection; name the server itself in the address, or a pool that keeps a session on one server \
                 connection (PgBouncer: pool_mode = session)"
            .to_owned(),
    }
}
