//! The processes that run workflows: this test binary, run again with a role in its environment.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use abide::{Engine, EngineBuilder};
use abide_test_postgres::send_signal;
use tempfile::TempDir;

use crate::scene::{Log, Order, chore, first, gated, parcel, second, visit};

const ROLE: &str = "ABIDE_CHILD";
const URL: &str = "ABIDE_CHILD_URL";
const HOME: &str = "ABIDE_CHILD_HOME";
const LEASE: &str = "ABIDE_CHILD_LEASE_MS";
const SLOTS: &str = "ABIDE_CHILD_SLOTS";
const POLL: &str = "ABIDE_CHILD_POLL_MS";
const ORDER: &str = "ABIDE_CHILD_ORDER";
const VERSION: &str = "ABIDE_CHILD_VERSION";

/// Longer than any outage of these tests: a request waits for the server rather than be refused.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A store, and a directory for what the bodies leave behind.
pub(crate) struct Home {
    pub(crate) url: String,
    directory: TempDir,
}

impl Home {
    pub(crate) fn of(url: &str) -> Home {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Home {
            url: url.to_owned(),
            directory,
        }
    }

    pub(crate) fn log(&self) -> Log {
        log_in(self.directory.path())
    }

    /// An engine that starts and watches, and in tests of one process runs.
    pub(crate) fn engine(&self) -> EngineBuilder {
        engine(&self.url, self.log())
    }

    /// A process that runs workflows, once it does.
    pub(crate) fn worker(&self, lease: Duration, slots: usize) -> Worker {
        Worker::spawn(self.command(lease, slots))
    }

    /// One that looks by itself only so often.
    pub(crate) fn polling_worker(&self, lease: Duration, slots: usize, poll: Duration) -> Worker {
        let mut command = self.command(lease, slots);
        command.env(POLL, poll.as_millis().to_string());
        Worker::spawn(command)
    }

    /// A process that does this to an order and is gone as soon as that is acknowledged.
    pub(crate) fn do_and_vanish(&self, what: &str, order: &Order) {
        let mut command = self.process(what);
        command.env(ORDER, order.number.to_string());
        let status = command.stdout(Stdio::null()).status();
        assert!(status.expect("it can be started").success(), "{what}");
    }

    /// One that knows a single version of a workflow.
    pub(crate) fn worker_of_version(&self, version: u32) -> Worker {
        let mut command = self.command(Duration::from_secs(60), 2);
        command.env(VERSION, version.to_string());
        Worker::spawn(command)
    }

    fn command(&self, lease: Duration, slots: usize) -> Command {
        let mut command = self.process("worker");
        command.env(LEASE, lease.as_millis().to_string());
        command.env(SLOTS, slots.to_string());
        command
    }

    fn process(&self, role: &str) -> Command {
        let binary = std::env::current_exe().expect("this binary has a path");
        let mut command = Command::new(binary);
        command
            .args(["--exact", "child::child", "--nocapture"])
            .env(ROLE, role)
            .env(URL, &self.url)
            .env(HOME, self.directory.path());
        command
    }
}

fn log_in(home: &Path) -> Log {
    Log::at(&home.join("log"))
}

fn engine(url: &str, log: Log) -> EngineBuilder {
    Engine::builder(url)
        .state(log)
        .register::<parcel::Workflow>()
        .register::<visit>()
        .register::<chore>()
        .register::<gated>()
        .busy_timeout(PATIENCE)
}

/// A process that runs workflows. It ends when its input is closed: at the latest with the test.
pub(crate) struct Worker {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Worker {
    fn spawn(mut command: Command) -> Worker {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut process = command.spawn().expect("it can be started");
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().expect("it has an output"));
        let mut worker = Worker {
            process,
            input,
            output,
        };
        worker.until("READY");
        worker
    }

    /// The rest of the line in which it says that word.
    fn until(&mut self, word: &str) -> String {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("utf-8");
            assert!(read > 0, "it ended without `{word}`:\n{said}");
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_owned();
            }
            said.push_str(&line);
        }
    }

    /// As the store's `workers` knows it.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Lets it stop in order. Answers how many deadlocks it met.
    pub(crate) fn stop(mut self) -> u64 {
        drop(self.input.take());
        let deadlocks = self.until("DEADLOCKS");
        let status = self.process.wait().expect("it ends");
        assert!(status.success(), "it failed: {status}");
        deadlocks.parse().expect("a number")
    }

    pub(crate) fn kill(mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it ends");
    }

    /// Stops its clock and everything else of it, until it is told to continue.
    pub(crate) fn freeze(&self) {
        send_signal("STOP", self.id());
    }

    pub(crate) fn thaw(&self) {
        send_signal("CONT", self.id());
    }
}

/// Not a test by itself: what the processes run.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let home = PathBuf::from(variable(HOME));
    let url = variable(URL);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    match role.as_str() {
        "worker" => {
            let log = log_in(&home);
            let engine = match std::env::var(VERSION).as_deref() {
                Ok("1") => Engine::builder(url).state(log).register::<first::shape>(),
                Ok("2") => Engine::builder(url).state(log).register::<second::shape>(),
                _ => engine(&url, log),
            };
            runtime.block_on(work(engine));
        }
        what => {
            runtime.block_on(act(what, engine(&url, log_in(&home))));
            // Nothing is closed, and nothing dropped.
            std::process::exit(0);
        }
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).expect("set with the role")
}

/// Does one thing to an order.
async fn act(what: &str, engine: EngineBuilder) {
    let number = variable(ORDER).parse().expect("a number");
    let order = Order { number };
    let engine = engine.poll_interval(Duration::from_secs(3600));
    let engine = engine.connect().await.expect("opens");
    let instance = order.instance();
    match what {
        "start" => drop(
            engine
                .start::<visit>(&instance, &order)
                .await
                .expect("durable"),
        ),
        "signal" => {
            for word in [5, 6] {
                let sent = engine.signal(&instance, "extra", &word).await;
                sent.expect("durable");
            }
        }
        "cancel" => {
            let run = engine.find::<visit>(&instance).await.expect("it is there");
            run.cancel("not wanted").await.expect("durable");
        }
        other => panic!("no role is called {other}"),
    }
}

/// Runs what there is until its input is closed.
async fn work(engine: EngineBuilder) {
    let number = |name| variable(name).parse::<u32>().expect("a number");
    let engine = match std::env::var_os(POLL) {
        Some(_) => engine.poll_interval(Duration::from_millis(number(POLL).into())),
        None => engine,
    };
    let engine = engine
        .lease(Duration::from_millis(number(LEASE).into()))
        .max_concurrent_tasks(number(SLOTS) as usize)
        .max_crashes(10_000)
        .start()
        .await
        .expect("starts");
    println!("READY");
    let closed = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    closed.await.expect("it ends").expect("it is closed");
    engine.shutdown().await;
    let deadlocks = engine.store().stats().deadlocks;
    engine.store().close().await;
    println!("DEADLOCKS {deadlocks}");
}
