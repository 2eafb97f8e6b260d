//! The `abide` command: inspects durable executions and acts on them.
//!
//! A command parses its arguments, asks the store, and writes records in the chosen format. Rules
//! and SQL are absent here: core decides what is allowed, and the store knows how it is stored.

mod args;
mod commands;
mod login;
mod output;
mod problem;
mod records;
mod session;
mod values;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return problem::misused(&error),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    problem::conclude(match runtime {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(error) => Err(problem::Problem::Failed(format!("cannot start: {error}"))),
    })
}
