//! Who is to blame for the death of a process: a task that aborts it is abandoned, tasks that ran beside it are not,
//! nor is a task whose process is killed from outside a few times.

use std::process::{Child, Stdio};
use std::time::Duration;

use abide::authoring::WorkflowSpec;
use abide::{Engine, Run, RunError, TaskBuilder, TaskError, TaskHandle, WorkflowBuilder};
use serde_json::{Value, json};

use crate::child::Home;
use crate::kill_points::lines;
use crate::place::Place;
use crate::scene::Log;

/// How long is looked away between two looks at a file or a process.
const LOOK: Duration = Duration::from_millis(2);
/// Where a lease tells that a process is dead, it does so soon.
const LEASE: Duration = Duration::from_secs(1);
/// What the default of `max_crashes` is.
const SURVIVED: usize = 5;

fn function(task: TaskBuilder) -> WorkflowSpec {
    let spec = WorkflowBuilder::function(task).build();
    spec.expect("a workflow without mistakes")
}

fn begun(home: &Home, task: &str) -> usize {
    lines(home).iter().filter(|line| *line == task).count()
}

/// A sound task that takes as long as the test wants.
fn long(home: &Home) -> WorkflowSpec {
    let home = home.clone();
    function(TaskBuilder::new("long", move || {
        let home = home.clone();
        async move {
            Log::at(&home.log()).begin("long");
            while !home.file("gate").exists() {
                tokio::time::sleep(LOOK).await;
            }
            Ok::<_, TaskError>("done")
        }
    }))
}

/// A task that takes its process down; at first when the other one runs.
fn poison(home: &Home) -> WorkflowSpec {
    let home = home.clone();
    function(TaskBuilder::new("poison", move |handle: TaskHandle| {
        let home = home.clone();
        async move {
            Log::at(&home.log()).begin("poison");
            let attempt = handle.attempt() as usize;
            while attempt <= 2 && begun(&home, "long") < attempt {
                tokio::time::sleep(LOOK).await;
            }
            std::process::abort();
            #[expect(unreachable_code, reason = "it gives the body its type")]
            Ok::<(), TaskError>(())
        }
    }))
}

/// A worker, until it dies or is told to stop.
pub(crate) async fn run(home: &Home) {
    let engine = home.engine().lease(LEASE);
    let engine = engine
        .register_spec(long(home))
        .register_spec(poison(home))
        .start()
        .await
        .expect("starts");
    while !home.file("stop").exists() {
        tokio::time::sleep(LOOK).await;
    }
    engine.shutdown().await;
    engine.store().close().await;
}

struct Process(Child);

impl Process {
    fn spawn(home: &Home) -> Process {
        let mut command = home.process("blame");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Process(command.spawn().expect("it can be started"))
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("it is ours").is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

async fn client(home: &Home) -> Engine {
    let engine = home.engine().register_spec(long(home));
    let engine = engine.register_spec(poison(home)).connect().await;
    engine.expect("opens")
}

async fn begin(client: &Engine, workflow: &str) -> Run<Value> {
    let started = client.start_named(workflow, workflow, &()).await;
    started.expect("durable")
}

async fn has_ended(run: &Run<Value>) -> bool {
    let status = run.status().await.expect("reads");
    status.execution.status.is_terminal()
}

async fn assert_sound(client: &Engine) {
    let report = client.store().verify(Default::default()).await;
    let report = report.expect("reads");
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_aborts_its_process_is_abandoned_and_its_neighbour_completes() {
    let place = Place::new();
    let home = place.home();
    let client = client(&home).await;
    let (poison, long) = (begin(&client, "poison").await, begin(&client, "long").await);
    while !(has_ended(&poison).await && has_ended(&long).await) {
        let mut process = Process::spawn(&home);
        while !process.has_ended() && !has_ended(&poison).await {
            // It ends once it was not blamed for two deaths and runs again.
            if begun(&home, "long") > 2 {
                std::fs::write(home.file("gate"), "").expect("written");
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    assert_eq!(long.result().await.expect("completes"), json!("done"));
    let error = poison.result().await.expect_err("abandoned");
    assert!(matches!(error, RunError::Failed { .. }), "{error}");
    assert_eq!(begun(&home, "poison"), SURVIVED + 1);
    assert_sound(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_task_survives_that_its_process_is_killed_five_times() {
    let place = Place::new();
    let home = place.home();
    let client = client(&home).await;
    let long = begin(&client, "long").await;
    for killed in 1..=SURVIVED {
        let process = Process::spawn(&home);
        while begun(&home, "long") < killed {
            tokio::time::sleep(LOOK).await;
        }
        drop(process);
    }
    std::fs::write(home.file("gate"), "").expect("written");
    let _last = Process::spawn(&home);
    assert_eq!(long.result().await.expect("completes"), json!("done"));
    assert_sound(&client).await;
}
