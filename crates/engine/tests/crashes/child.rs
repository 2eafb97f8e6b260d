//! The process that is killed: this test binary, run again with a role in its environment.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use abide::{Engine, EngineBuilder, ExecutionId};

use crate::place;
use crate::scene::{Log, errand, errand_result, features, features_result};

const ROLE: &str = "ABIDE_CHILD";
const HOME: &str = "ABIDE_CHILD_HOME";
const URL: &str = "ABIDE_CHILD_URL";

/// Where a store is and the directory of its log, as the process and its parent know it.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    directory: PathBuf,
    url: String,
}

impl Home {
    pub(crate) fn new(directory: &Path, url: String) -> Home {
        let directory = directory.to_owned();
        Home { directory, url }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.file("log")
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn engine(&self) -> EngineBuilder {
        Engine::builder(&self.url)
    }

    /// This binary as a process with a role.
    pub(crate) fn process(&self, role: &str) -> Command {
        let binary = std::env::current_exe().expect("this binary has a path");
        let mut command = Command::new(binary);
        command
            .args(["--exact", "child::child", "--nocapture"])
            .env(ROLE, role)
            .env(HOME, &self.directory)
            .env(URL, &self.url)
            .env_remove("LD_PRELOAD")
            .stdin(Stdio::null());
        command
    }

    /// Runs a process to its end, however that comes; answers what it said.
    pub(crate) fn run(&self, command: &mut Command) -> (ExitStatus, String) {
        let output = command.output().expect("it can be started");
        let said = [output.stdout, output.stderr].concat();
        (output.status, String::from_utf8_lossy(&said).into_owned())
    }
}

/// Not a test by itself: what the processes run.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let home = std::env::var_os(HOME).expect("set with the role");
    let url = std::env::var(URL).expect("set with the role");
    let home = Home::new(Path::new(&home), url);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    match role.as_str() {
        "features" => runtime.block_on(run_features(&home, 10_000)),
        "features evicted" => runtime.block_on(run_features(&home, 0)),
        "blame" => runtime.block_on(crate::blame::run(&home)),
        "storm" => runtime.block_on(crate::storm::run(&home)),
        other => runtime.block_on(place::run(other, &home)),
    }
}

/// Ends when the function waits for its signal, or has ended without.
async fn waits_for_signal(engine: &Engine, id: ExecutionId) -> bool {
    loop {
        let tasks = engine.store().tasks(id, 0, 1).await.expect("reads");
        let task = &tasks[0].task;
        let waits = task.wait.as_deref().is_some_and(|wait| wait.contains("go"));
        if waits || task.phase.is_terminal() {
            return waits;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Starts both workflows, unless they were started before, and waits for their results.
async fn run_features(home: &Home, parked: usize) {
    let engine = home
        .engine()
        .state(Log::at(&home.log()))
        .register::<features::Workflow>()
        .register::<errand>()
        .max_parked_tasks(parked)
        .start()
        .await
        .expect("starts");
    let graph = features::graph()
        .node::<features::part>("part:1", &1)
        .node::<features::part>("part:2", &2);
    let features = engine
        .start_graph::<features::Workflow>("features", graph)
        .await
        .expect("durable");
    let errand = engine
        .start::<errand>("errand", &10)
        .await
        .expect("durable");
    // A process that was killed may have sent it already; it is read once.
    if waits_for_signal(&engine, errand.id()).await {
        let sent = engine.signal("errand", "go", &"onwards").await;
        sent.expect("it is live");
    }
    assert_eq!(
        features.result().await.expect("completes"),
        features_result()
    );
    assert_eq!(errand.result().await.expect("completes"), errand_result());
    engine.shutdown().await;
    engine.store().close().await;
}
