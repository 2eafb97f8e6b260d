//! The floor: the rows that the engine leaves, written by plain statements, with nothing decided,
//! checked or awaited. What the engine takes beyond this is its own doing.

mod postgres;
mod sqlite;

use crate::home::{Home, file};
use crate::measure::Error;

/// Workflows in one transaction.
const BATCH: u32 = 1000;

macro_rules! floors {
    ($($(#[$doc:meta])* $name:ident($($arg:ident),*);)+) => {$(
        $(#[$doc])*
        pub(crate) async fn $name(home: &Home $(, $arg: u32)*) -> Result<f64, Error> {
            match home {
                Home::Sqlite(directory) => Ok(sqlite::$name(&file(directory) $(, $arg)*)?),
                Home::Postgres(schema) => postgres::$name(schema $(, $arg)*).await,
            }
        }
    )+};
}

floors! {
    /// One-task workflows a second through three transactions per batch: submit, claim, finish.
    one_step_workflows_per_s(workflows);
    /// Milliseconds for a step of a chain: the end of one task and the claim of the next, in one
    /// commit.
    chain_step_ms(steps);
    /// Steps a second of so many chains side by side: in each transaction every chain takes a step.
    chains_steps_per_s(chains, links);
    /// Milliseconds for one recorded step of a function: one row, one commit.
    function_step_ms(steps);
    /// Steps a second of so many functions side by side: in each transaction every one records one.
    functions_steps_per_s(functions, steps);
    /// Milliseconds for a commit of one small row: what durability costs by itself.
    commit_ms(commits);
    /// Seconds to write all rows of a graph of `width` independent tasks between a first and a last,
    /// a thousand tasks in a transaction.
    fanout_s(width);
}

/// Bytes of the database once its log is worked off.
pub(crate) async fn bytes(home: &Home) -> Result<u64, Error> {
    match home {
        Home::Sqlite(directory) => Ok(sqlite::bytes(&file(directory))?),
        Home::Postgres(_) => home.bytes().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn empty() -> Result<Home, Error> {
        let home = Home::Sqlite(tempfile::tempdir()?);
        home.builder().connect().await?.store().close().await;
        Ok(home)
    }

    #[tokio::test]
    async fn its_rows_fit_the_tables_of_a_store() -> Result<(), Error> {
        assert!(one_step_workflows_per_s(&empty().await?, 2).await? > 0.0);
        assert!(chain_step_ms(&empty().await?, 2).await? > 0.0);
        assert!(chains_steps_per_s(&empty().await?, 2, 2).await? > 0.0);
        assert!(functions_steps_per_s(&empty().await?, 2, 2).await? > 0.0);
        assert!(fanout_s(&empty().await?, 2).await? > 0.0);
        assert!(commit_ms(&empty().await?, 1).await? > 0.0);
        Ok(())
    }
}
