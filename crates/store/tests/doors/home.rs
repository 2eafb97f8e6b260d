//! What the tests share: a store in a directory of its own, with a clock that stands still until it is moved,
//! one live worker, and short ways through the doors.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use abide_core::failure::Failure;
use abide_core::graph::{Graph, GraphBuilder, TaskSpec};
use abide_core::ids::{ExecutionId, IdGenerator, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{
    Act, Action, Await, Claimed, Finish, Finished, Held, Outcome, Reply, Request, Rerun, Start,
    Supersede, Superseded,
};
use abide_core::payload::Payload;
use abide_core::status::Phase;
use abide_core::step::{Operation, StepId, StepKind};
use abide_store::{ApplyError, NewWorker, RecoverySummary, Store, StoreOptions, WorkflowKind};
use tokio::runtime::Handle;

use crate::backend::Database;
pub(crate) use crate::value::Dump;

pub(crate) const SECOND_US: i64 = 1_000_000;
const BEGIN: Timestamp = Timestamp(1_767_225_600_000_000);

/// A store that goes away with the test. Its workers are alive.
pub(crate) struct Home {
    pub(crate) store: Store,
    pub(crate) worker: WorkerId,
    clock: Arc<AtomicI64>,
    gate: Arc<Gate>,
    ids: Mutex<IdGenerator>,
    pub(crate) database: Database,
}

/// Where the writer stops once, when it next asks for the time: it tells that it is there, and waits.
type Gate = Mutex<Option<(Sender<()>, Receiver<()>)>>;

/// Something that the store is asked.
pub(crate) type Asked<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

pub(crate) fn boxed<'a, T>(asked: impl Future<Output = T> + 'a) -> Asked<'a, T> {
    Box::pin(asked)
}

impl Home {
    pub(crate) async fn new() -> Home {
        Home::with(StoreOptions::default()).await
    }

    /// One whose clock is the test's, and everything else as told.
    pub(crate) async fn with(options: StoreOptions) -> Home {
        let database = Database::new();
        let clock = Arc::new(AtomicI64::new(BEGIN.0));
        let gate = Arc::new(Gate::default());
        let (time, gated) = (Arc::clone(&clock), Arc::clone(&gate));
        let now = move || {
            let closed = gated.lock().expect("nobody panics here").take();
            if let Some((here, open)) = closed {
                here.send(()).expect("somebody waits for this");
                open.recv().expect("somebody opens");
            }
            Timestamp(time.load(Ordering::SeqCst))
        };
        let options = StoreOptions {
            now: Some(Arc::new(now)),
            // So that what is asked at once is one transaction.
            committers: 1,
            ..options
        };
        let store = Store::open(&database.url(), options).await;
        let store = store.expect("opens");
        let mut home = Home {
            store,
            worker: WorkerId(0),
            clock,
            gate,
            ids: Mutex::new(IdGenerator::new(1)),
            database,
        };
        home.worker = home.new_worker().await;
        home
    }

    /// The store as a process finds it that remembers nothing.
    pub(crate) async fn reopened(&self) -> Store {
        let now = self.now();
        let options = StoreOptions {
            now: Some(Arc::new(move || now)),
            ..StoreOptions::default()
        };
        let store = Store::open(&self.database.url(), options).await;
        store.expect("opens")
    }

    // ---- time and ids ----

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::SeqCst))
    }

    pub(crate) fn advance(&self, us: i64) {
        self.clock.fetch_add(us, Ordering::SeqCst);
    }

    pub(crate) fn next_id(&self) -> i64 {
        let mut ids = self.ids.lock().expect("no test panics while it holds this");
        ids.next(self.now())
    }

    /// A worker whose lease outlasts the test.
    pub(crate) async fn new_worker(&self) -> WorkerId {
        let id = WorkerId(self.next_id());
        let row = NewWorker {
            id,
            host: "host".into(),
            pid: 1,
        };
        self.store
            .register_worker(row, Duration::from_secs(1_000_000))
            .await
            .expect("registered");
        id
    }

    /// The worker's process dies; another one takes its tasks back.
    pub(crate) async fn recover(&mut self, crash_cap: u32) -> RecoverySummary {
        self.store.leave_worker(self.worker);
        let over = format!(
            "UPDATE workers SET lease_until = 0 WHERE id = {}",
            self.worker.0
        );
        self.execute(&over).await;
        self.worker = self.new_worker().await;
        let recovered = self.store.recover(crash_cap, self.worker).await;
        recovered.expect("recovers")
    }

    // ---- executions ----

    /// A start of this graph for an instance of its own.
    pub(crate) async fn request(&self, graph: &Arc<Graph>) -> Start {
        let version = &graph.fingerprint();
        let workflow = self
            .store
            .ensure_version("w", version, WorkflowKind::Graph, graph.clone())
            .await
            .expect("recorded");
        let id = ExecutionId(self.next_id());
        Start {
            input_hash: "input".into(),
            ..Start::of(id, id.to_string(), workflow, graph)
        }
    }

    pub(crate) async fn start(&self, graph: &Arc<Graph>) -> ExecutionId {
        let started = self.store.start(self.request(graph).await).await;
        started.expect("starts").id
    }

    pub(crate) async fn queues(&self) -> Arc<[VersionId]> {
        let versions = self.store.versions().await.expect("reads");
        versions.into_iter().map(|version| version.id).collect()
    }

    /// Claims the one task that is ready.
    pub(crate) async fn claim(&self) -> Claimed {
        let [claimed] = self.claim_all().await.try_into().expect("one is ready");
        claimed
    }

    pub(crate) async fn claim_all(&self) -> Vec<Claimed> {
        let claims = self.store.claim(self.worker, self.queues().await, 1000);
        claims.await.expect("claims").claimed
    }

    pub(crate) async fn apply(&self, request: Request) -> Reply {
        self.store.apply(request).await.expect("applied")
    }

    /// Applies all of these in one transaction.
    pub(crate) async fn apply_at_once(
        &self,
        requests: Vec<Request>,
    ) -> Vec<Result<Reply, ApplyError>> {
        let sent = requests.len() as u64;
        let before = self.store.stats();
        let asked = requests
            .into_iter()
            .map(|request| self.store.apply(request));
        let replies = self.at_once(asked.map(boxed).collect()).await;
        let after = self.store.stats();
        assert_eq!(after.commits, before.commits + 2, "one transaction");
        assert_eq!(after.requests, before.requests + 1 + sent);
        replies
    }

    /// Asks the store all of this while its writer is busy, so that it finds it together.
    pub(crate) async fn at_once<T>(&self, mut asked: Vec<Asked<'_, T>>) -> Vec<T> {
        // Changes nothing; the writer stops in the middle of it, and then finds all the others.
        let nobody = WorkerId(i64::MAX);
        let first = self.store.claim(nobody, Arc::new([]), 0);
        let first = self.in_between(first, |cx| {
            for answer in &mut asked {
                assert!(answer.as_mut().poll(cx).is_pending(), "sent");
            }
        });
        first.expect("asked");
        let mut answers = Vec::new();
        for answer in asked {
            answers.push(answer.await);
        }
        answers
    }

    /// Asks the store something, and does something else while its writer is in the middle of that. Asks on another
    /// thread, since who asks may be who writes.
    pub(crate) fn in_between<T: Send>(
        &self,
        asked: impl Future<Output = T> + Send,
        act: impl FnOnce(&mut Context<'_>),
    ) -> T {
        let (here, is_here) = channel();
        let (open, opened) = channel();
        *self.gate.lock().expect("nobody panics here") = Some((here, opened));
        let runtime = Handle::current();
        std::thread::scope(|scope| {
            let asking = scope.spawn(move || runtime.block_on(asked));
            is_here.recv().expect("the writer comes by");
            act(&mut Context::from_waker(Waker::noop()));
            open.send(()).expect("the writer waits");
            asking.join().expect("no panic")
        })
    }

    pub(crate) async fn finish(&self, held: Held, outcome: Outcome) -> Finished {
        match self.apply(finish(held, outcome)).await {
            Reply::Finished(finished) => finished,
            other => panic!("not finished: {other:?}"),
        }
    }

    pub(crate) async fn cancel(&self, execution: ExecutionId) {
        let grace_us = 30 * SECOND_US;
        let act = Act::on(execution, Action::Cancel { grace_us }, "test");
        self.apply(act.into()).await;
    }

    /// Fires what is due until nothing is.
    pub(crate) async fn fire_timers(&self) {
        while self.store.fire_timers(1000).await.expect("fires").fired > 0 {}
    }

    pub(crate) async fn phase(&self, execution: ExecutionId, number: u32) -> Phase {
        let task = self.store.task(TaskKey::new(execution, number)).await;
        task.expect("reads").expect("exists").task.phase
    }

    // ---- what is stored ----

    /// Runs a statement past the store. Answers how many rows it changed.
    pub(crate) async fn execute(&self, sql: &str) -> u64 {
        self.database.execute(sql).await
    }

    pub(crate) async fn dump(&self) -> Dump {
        self.database.dump().await
    }
}

// ---- graphs ----

/// A graph with a node of the same name for each task, and these edges.
pub(crate) fn graph(tasks: Vec<TaskSpec>, edges: &[(&str, &str)]) -> Arc<Graph> {
    let mut builder = GraphBuilder::new();
    for task in tasks {
        let id = task.id.clone();
        builder.task(task).node(id.clone(), &id);
    }
    for (from, to) in edges {
        builder.edge(from, to);
    }
    Arc::new(builder.build().expect("a sound graph"))
}

/// A graph of one task.
pub(crate) fn single() -> Arc<Graph> {
    graph(vec![TaskSpec::new("only")], &[])
}

// ---- requests ----

pub(crate) fn held(claimed: &Claimed) -> Held {
    Held {
        key: claimed.task.key,
        epoch: claimed.task.epoch,
        worker: claimed.task.worker.expect("claimed"),
    }
}

pub(crate) fn finish(held: Held, outcome: Outcome) -> Request {
    Request::Finish(Box::new(Finish {
        held,
        given_back: Vec::new(),
        outcome,
        offer: None,
    }))
}

pub(crate) fn completed() -> Outcome {
    Outcome::Completed {
        output: Some(Payload::from_json("1")),
        changes: None,
        checkpoint: None,
    }
}

/// Fails for good.
pub(crate) fn failed() -> Outcome {
    Outcome::Failed {
        failure: Failure::fatal("broken", "on purpose"),
        random: 0.0,
        rerun: None,
    }
}

/// Fails so that another attempt follows, if the task's policy has one left.
pub(crate) fn failed_once() -> Outcome {
    Outcome::Failed {
        failure: Failure::new("flaky", "on purpose"),
        random: 0.0,
        rerun: None,
    }
}

/// What the next attempt runs again: an operation, and those from another on.
pub(crate) fn runs_again(failed: u32, from: u32) -> Rerun {
    let supersede = Supersede { failed, from };
    let operations = vec![Superseded {
        number: failed,
        kind: StepKind::Step,
        name: "work".to_owned(),
        error: Some("flaky: on purpose".to_owned()),
    }];
    Rerun {
        supersede,
        operations,
    }
}

pub(crate) fn sleep(number: u32, due_at: Timestamp) -> Operation {
    Operation {
        id: step_id(number, StepKind::Sleep, "sleep"),
        due_at: Some(due_at),
    }
}

pub(crate) fn signal(number: u32, name: &str) -> Operation {
    Operation {
        id: step_id(number, StepKind::Signal, name),
        due_at: None,
    }
}

pub(crate) fn step_id(number: u32, kind: StepKind, name: &str) -> StepId {
    StepId {
        number,
        kind,
        name: name.to_owned(),
        fingerprint: None,
    }
}

pub(crate) fn await_operations(held: Held, operations: Vec<Operation>, evict: bool) -> Request {
    Request::Await(Await {
        held,
        given_back: Vec::new(),
        operations,
        next_order: 1,
        evict,
    })
}
