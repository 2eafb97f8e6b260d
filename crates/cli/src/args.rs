//! The command line: the options of all commands, and the list of commands.

use std::sync::OnceLock;

use clap::{Parser, Subcommand};

use crate::commands::{
    act, completions, describe, events, list, signal, stats, tasks, tenant, verify, wait, watch,
};
use crate::output::Format;
use crate::problem::{Outcome, Problem};
use crate::session::Session;

/// Inspect durable executions, and act on them.
///
/// Works on the database of a program that uses Abide, whether that program runs or not.
#[derive(Debug, Parser)]
#[command(name = "abide", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// The store: a SQLite file, or the address of a PostgreSQL database
    #[arg(
        long,
        global = true,
        env = "ABIDE_DB",
        hide_env_values = true,
        value_name = "FILE|URL",
        help_heading = "Everywhere"
    )]
    db: Option<String>,

    /// The output format
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t = Format::Table,
        value_name = "FORMAT",
        help_heading = "Everywhere"
    )]
    output: Format,

    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 124 time is up.
Data goes to standard output, words to standard error. Colours only on a terminal, never with NO_COLOR.";

#[derive(Debug, Subcommand)]
enum Command {
    /// List executions, newest first
    #[command(visible_alias = "ls")]
    List(list::List),
    /// Show everything about an execution
    Describe(describe::Describe),
    /// List the tasks of an execution
    Tasks(tasks::Tasks),
    /// Show the history of an execution, and follow it
    Events(events::Events),
    /// Watch an execution's progress until it ends
    Watch(watch::Watch),
    /// Wait until an execution has a status
    Wait(wait::Wait),
    #[command(flatten)]
    Act(act::Action),
    /// Send a signal to an instance
    Signal(signal::Signal),
    /// Show statistics of a store: its queue, its workers, its size
    Stats(stats::Stats),
    /// Check that a store keeps its promises
    Verify(verify::Verify),
    /// Create, list and drop stores in one PostgreSQL database
    Tenant(tenant::Tenant),
    /// Write a completion script for a shell
    Completions(completions::Completions),
}

impl Cli {
    /// Runs the command.
    pub(crate) async fn run(self) -> Result<Outcome, Problem> {
        let session = Session {
            database: self.db,
            format: self.output,
            opened: OnceLock::new(),
        };
        let outcome = match self.command {
            Command::List(list) => list.run(&session).await,
            Command::Describe(describe) => describe.run(&session).await,
            Command::Tasks(tasks) => tasks.run(&session).await,
            Command::Events(events) => events.run(&session).await,
            Command::Watch(watch) => watch.run(&session).await,
            Command::Wait(wait) => wait.run(&session).await,
            Command::Act(action) => action.run(&session).await,
            Command::Signal(signal) => signal.run(&session).await,
            Command::Stats(stats) => stats.run(&session).await,
            Command::Verify(verify) => verify.run(&session).await,
            Command::Tenant(tenant) => tenant.run(&session).await,
            Command::Completions(completions) => completions.run(),
        };
        session.close().await;
        outcome
    }
}
