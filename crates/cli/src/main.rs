//! The `abide` command: looks into durable executions, and acts on them.
//!
//! A command parses its arguments, asks the store, and writes records in the format asked for.
//! Rules and SQL are absent: what may be done is core's business, how it is stored the store's.

mod args;
mod commands;
mod estimate;
mod history;
mod live;
mod output;
mod problem;
mod records;
mod reference;
mod session;
mod values;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    problem::conclude(match runtime {
        Ok(runtime) => runtime.block_on(cli.run()),
        Err(error) => Err(problem::Problem::Failed(format!("cannot start: {error}"))),
    })
}
