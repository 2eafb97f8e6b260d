//! What else this program is started as: a process that runs the tasks of a store which another one
//! fills.

use std::io::Write as _;
use std::process::Stdio;

use clap::ValueEnum;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::home;
use crate::measure::Error;

/// A part in a measurement of several processes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    /// Runs tasks until its standard input ends.
    Worker,
}

/// What a worker says when it is there.
const THERE: &str = "there";

/// Plays a role to its end.
pub(crate) async fn run(role: Role, url: &str) -> Result<(), Error> {
    match role {
        Role::Worker => {
            let engine = home::builder(url.to_owned()).start().await?;
            let mut out = std::io::stdout();
            writeln!(out, "{THERE}")?;
            out.flush()?;
            tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
            engine.shutdown().await;
            engine.store().close().await;
            Ok(())
        }
    }
}

/// Another process that runs tasks. It ends when this is dropped.
pub(crate) struct Worker(Child);

impl Worker {
    /// Starts one, and waits until it is there.
    pub(crate) async fn start(url: &str) -> Result<Worker, Error> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--role", "worker", "--url", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let out = child.stdout.as_mut().ok_or("a worker without output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).await?;
        if line.trim_end() != THERE {
            return Err("a worker did not start".into());
        }
        Ok(Worker(child))
    }

    /// Starts so many.
    pub(crate) async fn start_all(workers: usize, url: &str) -> Result<Vec<Worker>, Error> {
        let mut all = Vec::new();
        for _ in 0..workers {
            all.push(Worker::start(url).await?);
        }
        Ok(all)
    }

    /// Lets them finish what they do.
    pub(crate) async fn stop_all(workers: Vec<Worker>) -> Result<(), Error> {
        for worker in workers {
            worker.stop().await?;
        }
        Ok(())
    }

    /// Lets it finish what it does.
    pub(crate) async fn stop(mut self) -> Result<(), Error> {
        drop(self.0.stdin.take());
        let status = self.0.wait().await?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("a worker ended with {status}").into())
        }
    }
}
