//! `abide-test-postgres exec COMMAND ARGUMENTS..`: runs a command with a PostgreSQL server that ends
//! with it, and whose address it finds in `ABIDE_TEST_POSTGRES_URL`.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use abide_test_postgres::{Durability, Server};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let (Some(verb), Some(program)) = (arguments.first(), arguments.get(1)) else {
        eprintln!("usage: abide-test-postgres exec COMMAND ARGUMENTS..");
        return ExitCode::from(2);
    };
    if verb != "exec" {
        eprintln!("there is only `exec`, not `{}`", verb.display());
        return ExitCode::from(2);
    }
    // Before the server is there: a signal must not end this process without ending it.
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be waited for");
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be waited for");
    let server = Server::start(Durability::None);
    let child = Command::new(program)
        .args(&arguments[2..])
        .env("ABIDE_TEST_POSTGRES_URL", server.url())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            eprintln!("{} can't be run: {error}", program.display());
            return ExitCode::from(127);
        }
    };
    let status = loop {
        let signal = tokio::select! {
            status = child.wait() => break status.expect("a child can be waited for"),
            _ = interrupt.recv() => "INT",
            _ = terminate.recv() => "TERM",
        };
        if let Some(process) = child.id() {
            abide_test_postgres::send_signal(signal, process);
        }
    };
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(u8::try_from(code.unwrap_or(1)).unwrap_or(1))
}
