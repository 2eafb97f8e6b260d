//! A store to look at, and the program to look with.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use abide_core::failure::Failure;
use abide_core::graph::{Graph, GraphBuilder, TaskSpec};
use abide_core::ids::{ExecutionId, IdGenerator, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{
    Await, Claimed, Defer, Finish, Held, IfExists, Outcome, Progress, Record, Request, Start,
    Started,
};
use abide_core::payload::Payload;
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::step::{Operation, StepEnd, StepId, StepKind, StepRecord};
use abide_core::timer::LATEST;
use abide_store::{EventFilter, NewWorker, Store, StoreOptions, WorkflowKind, system_now};

use crate::place::Place;

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;

/// The beginning of stores whose times are in expected texts: 2026-01-15T09:30:00Z.
pub(crate) const BEGIN: Timestamp = Timestamp(1_768_469_400_000_000);

const WORKER: WorkerId = WorkerId(0x1234_5678_9abc);

/// A store whose clock stands until the test moves it, and a worker that never really runs.
pub(crate) struct World {
    pub(crate) store: Store,
    clock: Arc<AtomicI64>,
    ids: IdGenerator,
    pub(crate) place: Place,
}

impl World {
    /// A store that begins at a fixed time, for exact texts.
    pub(crate) async fn new() -> World {
        World::at(BEGIN).await
    }

    /// A store that began so long ago, for texts like `3h ago`.
    pub(crate) async fn ago(us: i64) -> World {
        World::at(system_now().plus_us(-us)).await
    }

    async fn at(begin: Timestamp) -> World {
        let place = Place::new();
        let clock = Arc::new(AtomicI64::new(begin.0));
        let now = clock.clone();
        let options = StoreOptions {
            now: Some(Arc::new(move || Timestamp(now.load(Ordering::SeqCst)))),
            ..StoreOptions::default()
        };
        let store = Store::open(&place.url(), options).await;
        let store = store.expect("opens");
        let worker = NewWorker {
            id: WORKER,
            host: "host".into(),
            pid: 42,
        };
        store
            .register_worker(worker, Duration::MAX)
            .await
            .expect("registered");
        World {
            store,
            clock,
            ids: IdGenerator::new(5),
            place,
        }
    }

    pub(crate) fn pass(&self, us: i64) {
        self.clock.fetch_add(us, Ordering::SeqCst);
    }

    /// The worker's process is gone.
    pub(crate) async fn end_worker(&mut self) {
        self.store.end_worker(WORKER).await.expect("recorded");
    }

    // ---- what programs with workflows do ----

    pub(crate) async fn version(&self, workflow: &str, graph: &Arc<Graph>) -> VersionId {
        let kind = WorkflowKind::Graph;
        self.store
            .ensure_version(workflow, "1.0", kind, graph.clone())
            .await
            .expect("recorded")
    }

    pub(crate) async fn start(
        &mut self,
        instance: &str,
        workflow: &str,
        graph: &Arc<Graph>,
    ) -> Started {
        self.start_with(instance, workflow, graph, |_| {}).await
    }

    pub(crate) async fn start_with(
        &mut self,
        instance: &str,
        workflow: &str,
        graph: &Arc<Graph>,
        change: impl FnOnce(&mut Start),
    ) -> Started {
        let version = self.version(workflow, graph).await;
        let id = ExecutionId(self.ids.next(self.store.now()));
        let mut start = Start {
            input_hash: "same".into(),
            if_exists: IfExists::StartAnew,
            actor: Some("user:ann".into()),
            ..Start::of(id, instance, version, graph)
        };
        change(&mut start);
        self.store.start(start).await.expect("starts")
    }

    /// Claims the next task of this workflow.
    pub(crate) async fn claim(&self, workflow: &str) -> Claimed {
        let mut claimed = self.claim_all(workflow, 1).await;
        claimed.pop().expect("a task is ready")
    }

    pub(crate) async fn claim_all(&self, workflow: &str, max: u32) -> Vec<Claimed> {
        let versions = self.store.versions().await.expect("reads");
        let named = versions.iter().filter(|version| version.name == workflow);
        let queues: Arc<[VersionId]> = named.map(|version| version.id).collect();
        let claims = self.store.claim(WORKER, queues, max).await;
        claims.expect("claims").claimed
    }

    pub(crate) async fn apply(&self, request: Request) {
        self.store.apply(request).await.expect("applied");
    }

    pub(crate) async fn complete(&self, held: Held, output: Option<&str>) {
        let outcome = Outcome::Completed {
            output: output.map(Payload::from_json),
            changes: None,
            checkpoint: None,
        };
        self.finish(held, outcome).await;
    }

    pub(crate) async fn fail(&self, held: Held, failure: Failure) {
        let outcome = Outcome::Failed {
            failure,
            random: 0.5,
            rerun: None,
        };
        self.finish(held, outcome).await;
    }

    async fn finish(&self, held: Held, outcome: Outcome) {
        let finish = Finish {
            held,
            given_back: Vec::new(),
            outcome,
            offer: None,
        };
        self.apply(Request::Finish(Box::new(finish))).await;
    }

    pub(crate) async fn progress(&self, held: Held, value: &str) {
        let value = value.to_owned();
        self.apply(Request::Progress(Progress { held, value }))
            .await;
    }

    pub(crate) async fn defer(&self, held: Held, wait: &str) {
        let wait = wait.to_owned();
        self.apply(Request::Defer(Defer {
            held,
            given_back: Vec::new(),
            wait,
        }))
        .await;
    }

    pub(crate) async fn record(&self, held: Held, number: u32, name: &str, result: &str) {
        let step = StepRecord {
            id: step_id(number, StepKind::Step, name),
            end: StepEnd::Done(Payload::from_json(result)),
            order: number,
        };
        let steps = vec![step];
        self.apply(Request::Record(Record {
            held,
            given_back: Vec::new(),
            steps,
        }))
        .await;
    }

    /// A sleep that is over so long from now.
    pub(crate) async fn await_sleep(&self, held: Held, number: u32, us: i64) {
        let operation = Operation {
            id: step_id(number, StepKind::Sleep, "sleep"),
            due_at: Some(self.store.now().plus_us(us)),
        };
        let request = Await {
            held,
            given_back: Vec::new(),
            operations: vec![operation],
            next_order: number,
            evict: true,
        };
        self.apply(Request::Await(request)).await;
    }

    pub(crate) async fn await_signal(&self, held: Held, number: u32, name: &str, order: u32) {
        let operation = Operation {
            id: step_id(number, StepKind::Signal, name),
            due_at: None,
        };
        let request = Await {
            held,
            given_back: Vec::new(),
            operations: vec![operation],
            next_order: order,
            evict: true,
        };
        self.apply(Request::Await(request)).await;
    }

    /// A sleep that never ends.
    pub(crate) async fn sleep_for_ever(&self, held: Held, number: u32, name: &str) {
        let operation = Operation {
            id: step_id(number, StepKind::Sleep, name),
            due_at: Some(LATEST),
        };
        let request = Await {
            held,
            given_back: Vec::new(),
            operations: vec![operation],
            next_order: number,
            evict: true,
        };
        self.apply(Request::Await(request)).await;
    }

    /// The task's code does not match its record.
    pub(crate) async fn differ(&self, held: Held, difference: &str) {
        let difference = difference.to_owned();
        let finish = Finish {
            held,
            given_back: Vec::new(),
            outcome: Outcome::Nondeterministic { difference },
            offer: None,
        };
        self.apply(Request::Finish(Box::new(finish))).await;
    }

    /// Runs every task of an execution of this workflow to its end.
    pub(crate) async fn run(&self, workflow: &str) {
        loop {
            let claimed = self.claim_all(workflow, 64).await;
            if claimed.is_empty() {
                return;
            }
            for task in claimed {
                self.complete(held(&task), Some("1")).await;
            }
        }
    }

    /// The positions of an execution's events.
    pub(crate) async fn positions(&self, id: ExecutionId) -> Vec<i64> {
        let filter = EventFilter {
            execution: Some(id),
            task: None,
        };
        let events = self
            .store
            .events(&filter, 0, u32::MAX)
            .await
            .expect("reads");
        events.iter().map(|event| event.position).collect()
    }

    // ---- the program ----

    /// The program with these arguments, on this store.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = abide(arguments);
        command.env("ABIDE_DB", self.place.url());
        command
    }

    /// Runs it to its end.
    pub(crate) fn abide(&self, arguments: &[&str]) -> Run {
        Run::of(&mut self.command(arguments), "")
    }

    /// Runs it and expects it to do well, with nothing to say.
    pub(crate) fn output(&self, arguments: &[&str]) -> String {
        let run = self.abide(arguments);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
        run.out
    }

    /// The document of a command that ends with 1.
    pub(crate) fn json_of_failed(&self, arguments: &[&str]) -> serde_json::Value {
        let run = self.abide(&[arguments, &["-o", "json"]].concat());
        assert_eq!((run.code, run.err.as_str()), (1, ""), "{}", run.out);
        serde_json::from_str(&run.out).expect("JSON")
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.output(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&output).expect("JSON")
    }
}

/// The program with these arguments, in an environment without surprises.
pub(crate) fn abide(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_abide"));
    command
        .args(arguments)
        .env_clear()
        .env("USER", "ann")
        .env("TZ", "UTC")
        .stdin(Stdio::null());
    // Where an instrumented program says which lines it ran. Without, it would do so in its directory.
    if let Some(profile) = std::env::var_os("LLVM_PROFILE_FILE") {
        command.env("LLVM_PROFILE_FILE", profile);
    }
    command
}

/// What a run of the program came to.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    /// Runs a command to its end, with this input.
    pub(crate) fn of(command: &mut Command, input: &str) -> Run {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("piped");
        // It may end without reading.
        stdin.write_all(input.as_bytes()).ok();
        drop(stdin);
        let output = child.wait_with_output().expect("the program ends");
        Run {
            code: output.status.code().expect("no signal ended it"),
            out: String::from_utf8(output.stdout).expect("texts"),
            err: String::from_utf8(output.stderr).expect("texts"),
        }
    }

    /// Expects this end, and words that contain `part`.
    pub(crate) fn failed_with(&self, code: i32, part: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(part), "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
    }
}

/// A run of the program that goes on while the test does something else.
pub(crate) struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn new(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Running { child, output }
    }

    /// The next line of its output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("reads");
        line
    }

    /// Its exit code and the rest of its output, once it has ended.
    pub(crate) fn end(mut self) -> (i32, String) {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("reads");
        let status = self.child.wait().expect("ends");
        (status.code().expect("no signal ended it"), rest)
    }
}

impl Drop for Running {
    /// A test that fails leaves no program behind that waits for ever.
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// How a claimed task is named in writes.
pub(crate) fn held(claimed: &Claimed) -> Held {
    Held {
        key: claimed.task.key,
        epoch: claimed.task.epoch,
        worker: WORKER,
    }
}

fn step_id(number: u32, kind: StepKind, name: &str) -> StepId {
    StepId {
        number,
        kind,
        name: name.into(),
        fingerprint: None,
    }
}

/// A graph of nodes that wait for one another in this order; the last gives the output.
pub(crate) fn chain(nodes: &[&str]) -> Arc<Graph> {
    let mut builder = GraphBuilder::new();
    builder.task(TaskSpec {
        retry: RetryPolicy {
            retries: 1,
            backoff: Backoff::Fixed {
                delay_us: 10 * SECOND,
            },
            ..RetryPolicy::default()
        },
        ..TaskSpec::new("work")
    });
    for node in nodes {
        builder.node(*node, "work");
    }
    for pair in nodes.windows(2) {
        builder.edge(pair[0], pair[1]);
    }
    builder.output(nodes.last().expect("has nodes"));
    Arc::new(builder.build().expect("a chain"))
}

/// A graph of so many nodes that wait for nothing.
pub(crate) fn wide(nodes: usize) -> Arc<Graph> {
    let mut builder = GraphBuilder::new();
    builder.task(TaskSpec::new("work"));
    for number in 1..=nodes {
        builder.node(format!("node:{number}"), "work");
    }
    Arc::new(builder.build().expect("nodes only"))
}
