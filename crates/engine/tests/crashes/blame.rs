//! Who is to blame for the death of a process: a task that aborts it is abandoned, tasks that ran beside it are not,
//! nor is a task whose process is killed from outside a few times.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use abide::authoring::WorkflowSpec;
use abide::{Engine, Run, RunError, TaskBuilder, TaskError, TaskHandle, WorkflowBuilder};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

use crate::child::Home;
use crate::kill_points::lines;
use crate::place::Place;
use crate::scene::Log;

/// Where a lease tells that a process is dead, it does so soon.
const LEASE: Duration = Duration::from_secs(1);
/// What the default of `max_crashes` is.
const SURVIVED: usize = 5;
/// The file that lets the sound task complete.
const GATE: &str = "gate";
/// The line that a process prints when the sound task has begun in it.
const LONG_BEGAN: &str = "long began";

fn function(task: TaskBuilder) -> WorkflowSpec {
    let spec = WorkflowBuilder::function(task).build();
    spec.expect("a workflow without mistakes")
}

fn begun(home: &Home, task: &str) -> usize {
    lines(home).iter().filter(|line| *line == task).count()
}

/// A sound task. It runs until its process ends, unless the gate is open when it begins.
fn long(home: &Home, began: watch::Sender<bool>) -> WorkflowSpec {
    let home = home.clone();
    function(TaskBuilder::new("long", move || {
        let (home, began) = (home.clone(), began.clone());
        async move {
            Log::at(&home.log()).begin("long");
            println!("\n{LONG_BEGAN}");
            began.send_replace(true);
            if !home.file(GATE).exists() {
                std::future::pending::<()>().await;
            }
            Ok::<_, TaskError>("done")
        }
    }))
}

/// A task that takes its process down, twice while the other one runs.
fn poison(home: &Home, long_began: watch::Receiver<bool>) -> WorkflowSpec {
    let home = home.clone();
    function(TaskBuilder::new("poison", move |handle: TaskHandle| {
        let (home, mut long_began) = (home.clone(), long_began.clone());
        async move {
            Log::at(&home.log()).begin("poison");
            if handle.attempt() <= 2 {
                let began = long_began.wait_for(|began| *began).await;
                began.expect("the process lives, and so does the other task's function");
            }
            std::process::abort();
            #[expect(unreachable_code, reason = "it gives the body its type")]
            Ok::<(), TaskError>(())
        }
    }))
}

/// Both tasks.
fn workflows(home: &Home) -> [WorkflowSpec; 2] {
    let (began, long_began) = watch::channel(false);
    [long(home, began), poison(home, long_began)]
}

/// A worker, until its process dies.
pub(crate) async fn run(home: &Home) {
    let [long, poison] = workflows(home);
    let engine = home.engine().lease(LEASE).register_spec(long);
    let _engine = engine.register_spec(poison).start().await.expect("starts");
    std::future::pending().await
}

/// A process, and the lines that it prints. The lines end when the process does.
struct Process {
    child: Child,
    lines: UnboundedReceiver<String>,
}

impl Process {
    fn spawn(home: &Home) -> Process {
        let mut command = home.process("blame");
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it can be started");
        let printed = BufReader::new(child.stdout.take().expect("a pipe"));
        let (send, lines) = unbounded_channel();
        std::thread::spawn(move || {
            for line in printed.lines().map_while(Result::ok) {
                // An error means that the test reads no more.
                send.send(line).ok();
            }
        });
        Process { child, lines }
    }

    async fn long_began(&mut self) {
        while self.lines.recv().await.expect("it lives") != LONG_BEGAN {}
    }

    async fn ended(&mut self) {
        while self.lines.recv().await.is_some() {}
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn open_gate(home: &Home) {
    std::fs::write(home.file(GATE), "").expect("written");
}

async fn client(home: &Home) -> Engine {
    let [long, poison] = workflows(home);
    let engine = home.engine().register_spec(long);
    let engine = engine.register_spec(poison).connect().await;
    engine.expect("opens")
}

async fn begin(client: &Engine, workflow: &str) -> Run<Value> {
    let started = client.start_named(workflow, workflow, &()).await;
    started.expect("durable")
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
    // Neither is blamed for the deaths that both were there for.
    for _ in 1..=2 {
        Process::spawn(&home).ended().await;
    }
    open_gate(&home);
    let mut process = Process::spawn(&home);
    let result = loop {
        tokio::select! {
            result = poison.result() => break result,
            () = process.ended() => process = Process::spawn(&home),
        }
    };
    assert_eq!(long.result().await.expect("completes"), json!("done"));
    let error = result.expect_err("abandoned");
    assert!(matches!(error, RunError::Failed { .. }), "{error}");
    drop(process);
    assert_eq!(begun(&home, "poison"), SURVIVED + 1);
    assert_sound(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_task_survives_that_its_process_is_killed_five_times() {
    let place = Place::new();
    let home = place.home();
    let client = client(&home).await;
    let long = begin(&client, "long").await;
    for _ in 1..=SURVIVED {
        Process::spawn(&home).long_began().await;
    }
    open_gate(&home);
    let _last = Process::spawn(&home);
    assert_eq!(long.result().await.expect("completes"), json!("done"));
    assert_sound(&client).await;
}
