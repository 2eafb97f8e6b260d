//! What the tests of examples share: the built programs, processes that can be killed, and the
//! store that they leave behind.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::Once;
use std::time::SystemTime;

use abide::client::EventRecord;
use abide::{Engine, ExecutionId, HistoryFilter, TaskView};

/// An example as cargo built it with these tests. It does, unless it is told to run some tests
/// only: then they are built here.
pub(crate) fn example(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    let test = std::env::current_exe().expect("this program has a path");
    let target = test.ancestors().nth(2).expect("it is in target/debug/deps");
    let path = |name: &str| target.join("examples").join(name);
    BUILT.call_once(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let sources = [
            "examples",
            "crates/core/src",
            "crates/engine/src",
            "crates/macros/src",
            "crates/store/src",
        ];
        let newest = sources.map(|sources| newest(&root.join(sources)));
        let newest = newest.into_iter().max().expect("several");
        let is_current = |name| modified(&path(name)).is_some_and(|built| built >= newest);
        if !["ingest", "approval"].into_iter().all(is_current) {
            build(target);
        }
    });
    path(name)
}

fn build(target: &Path) {
    let mut cargo = Command::new(env!("CARGO"));
    // As a whole, so that nothing is compiled with other features than the tests have.
    cargo.args(["build", "--workspace", "--examples"]);
    if target.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.status().expect("cargo is there");
    assert!(built.success(), "the examples don't compile");
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata()
        .and_then(|metadata| metadata.modified())
        .ok()
}

fn newest(directory: &Path) -> SystemTime {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in directory.read_dir().expect("a directory") {
        let path = entry.expect("an entry").path();
        newest = newest.max(match path.is_dir() {
            true => self::newest(&path),
            false => modified(&path).expect("a file"),
        });
    }
    newest
}

/// An example that runs, in a directory of the test.
pub(crate) struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    pub(crate) fn start(name: &str, home: &Path, args: &[&OsStr]) -> Process {
        let mut child = command(name, home, args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let stdout = child.stdout.take().expect("it is piped");
        Process {
            child,
            stdout: BufReader::new(stdout),
        }
    }

    /// Reads what it prints up to the line that has `text` in it, and returns that line.
    pub(crate) fn prints(&mut self, text: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            let read = self.stdout.read_line(&mut line);
            assert_ne!(read.expect("UTF-8"), 0, "no `{text}` in:\n{all}");
            if line.contains(text) {
                return line;
            }
            all.push_str(&line);
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and it is gone when this returns.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Waits until it has ended well, and returns the rest of what it printed.
    pub(crate) fn ends(mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("UTF-8");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}:\n{rest}");
        rest
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _ended = self.child.kill();
    }
}

/// Runs an example to its end.
pub(crate) fn run(name: &str, home: &Path, args: &[&OsStr]) -> Output {
    command(name, home, args).output().expect("it starts")
}

fn command(name: &str, home: &Path, args: &[&OsStr]) -> Command {
    let mut command = Command::new(example(name));
    command.current_dir(home).args(args).stdin(Stdio::null());
    command
}

/// An engine that looks into a store of the test, and runs nothing.
pub(crate) async fn look_into(url: String) -> Engine {
    Engine::connect(url).await.expect("a store")
}

pub(crate) async fn all_tasks(engine: &Engine, id: ExecutionId) -> Vec<TaskView> {
    let tasks = engine.store().tasks(id, 0, u32::MAX).await;
    tasks.expect("an execution")
}

pub(crate) async fn history(engine: &Engine, id: ExecutionId) -> Vec<EventRecord> {
    let all = HistoryFilter::default();
    let history = engine.history(id, &all, None, u32::MAX).await;
    history.expect("an execution").items
}

/// That everything the store holds keeps the published promises.
pub(crate) async fn assert_sound(engine: &Engine) {
    let report = engine.store().verify(Default::default()).await;
    let report = report.expect("readable");
    assert!(report.is_clean(), "{report}");
}
