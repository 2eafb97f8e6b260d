//! A store under a clock that only moves when told to: what tests of the
//! store and of its verification stand on.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use abide_core::failure::Failure;
use abide_core::graph::{Graph, GraphBuilder, TaskSpec};
use abide_core::ids::{ExecutionId, IdGenerator, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{
    Act, Action, Answered, Await, Claimed, Defer, Evict, Finish, Finished, Held, Outcome, Record,
    Reply, Request, Resume, Signal, Start, Started,
};
use abide_core::payload::Payload;
use abide_core::status::ExecutionStatus;
use abide_core::step::{Operation, StepEnd, StepId, StepKind, StepRecord};
use abide_store::{
    ApplyError, Claims, Fired, NewWorker, RecoverySummary, Store, StoreOptions, VerifyOptions,
    VerifyReport, WorkflowKind,
};
use tokio::runtime::Handle;

/// When every test begins.
pub(crate) const BEGIN: Timestamp = Timestamp(1_800_000_000_000_000);
/// A second.
pub(crate) const SECOND: i64 = 1_000_000;

/// A store, its clock, and one live worker.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) worker: WorkerId,
    clock: Arc<AtomicI64>,
    gate: Arc<Gate>,
    ids: Mutex<IdGenerator>,
}

/// What can be asked of a store together with other things.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Apply(Box<Request>),
    Claim(Arc<[VersionId]>, u32),
    Fire(u32),
}

/// What it answers.
pub(crate) enum Answer {
    Reply(Result<Reply, ApplyError>),
    Claims(Claims),
    Fired(Fired),
}

impl Ask {
    pub(crate) async fn of(self, store: Store, worker: WorkerId) -> Answer {
        match self {
            Ask::Apply(request) => Answer::Reply(store.apply(*request).await),
            Ask::Claim(queues, max) => {
                Answer::Claims(store.claim(worker, queues, max).await.expect("claims"))
            }
            Ask::Fire(limit) => Answer::Fired(store.fire_timers(limit).await.expect("fires")),
        }
    }
}

/// The thread that asks for something while the gate is closed.
const OCCUPIES: &str = "occupies";

/// Holds who writes up, so that what is sent meanwhile becomes one batch.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    closed: bool,
    waiting: bool,
}

impl Gate {
    fn pass(&self) {
        let thread = std::thread::current();
        if !matches!(
            thread.name(),
            Some("abide-writer" | "abide-postgres" | OCCUPIES)
        ) {
            return;
        }
        let mut state = self.state.lock().expect("not poisoned");
        while state.closed {
            state.waiting = true;
            self.changed.notify_all();
            state = self.changed.wait(state).expect("not poisoned");
        }
        state.waiting = false;
    }

    fn close(&self) {
        self.state.lock().expect("not poisoned").closed = true;
    }

    fn until_writer_waits(&self) {
        let mut state = self.state.lock().expect("not poisoned");
        while !state.waiting {
            state = self.changed.wait(state).expect("not poisoned");
        }
    }

    fn open(&self) {
        self.state.lock().expect("not poisoned").closed = false;
        self.changed.notify_all();
    }
}

impl Fixture {
    /// One at this address.
    pub(crate) async fn at(url: &str) -> Fixture {
        let clock = Arc::new(AtomicI64::new(BEGIN.0));
        let gate = Arc::new(Gate::default());
        let (now, passed) = (clock.clone(), gate.clone());
        let options = StoreOptions {
            now: Some(Arc::new(move || {
                passed.pass();
                Timestamp(now.load(Ordering::SeqCst))
            })),
            // So that what is asked at once is one transaction.
            committers: 1,
            ..StoreOptions::default()
        };
        let store = Store::open(url, options).await.expect("opens");
        let mut fixture = Fixture {
            store,
            worker: WorkerId(0),
            clock,
            gate,
            ids: Mutex::new(IdGenerator::new(1)),
        };
        fixture.worker = fixture.add_worker().await;
        fixture
    }

    // ---- time and ids ----

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::SeqCst))
    }

    pub(crate) fn advance(&self, us: i64) {
        self.clock.fetch_add(us, Ordering::SeqCst);
    }

    pub(crate) fn next_id(&self) -> i64 {
        self.ids.lock().expect("not poisoned").next(self.now())
    }

    // ---- workers ----

    async fn add_worker(&self) -> WorkerId {
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

    /// The worker's process dies; another one comes.
    pub(crate) async fn die(&mut self) -> WorkerId {
        let lost = self.worker;
        // Where nothing else tells that a process is gone, the end of its lease does.
        let ends = self.store.heartbeat(lost, Duration::ZERO).await;
        ends.expect("the lease ends");
        self.advance(1);
        self.store.leave_worker(lost);
        self.worker = self.add_worker().await;
        lost
    }

    /// The worker takes back what the dead held.
    pub(crate) async fn recover(&mut self, crash_cap: u32) -> RecoverySummary {
        let recovered = self.store.recover(crash_cap, self.worker).await;
        recovered.expect("recovers")
    }

    /// The worker's process dies; another one takes its tasks back.
    pub(crate) async fn crash(&mut self, crash_cap: u32) -> RecoverySummary {
        self.die().await;
        self.recover(crash_cap).await
    }

    // ---- batches ----

    /// Asks for all of it in one transaction, in this order.
    pub(crate) async fn batch(&self, asks: Vec<Ask>) -> Vec<Answer> {
        self.gate.close();
        let store = self.store.clone();
        let nobody = WorkerId(i64::MAX);
        let runtime = Handle::current();
        // On another thread, since who asks may be who writes.
        let occupied = std::thread::Builder::new().name(OCCUPIES.to_owned());
        let occupied =
            occupied.spawn(move || runtime.block_on(store.claim(nobody, Arc::new([]), 0)));
        let occupied = occupied.expect("there is room for a thread");
        self.gate.until_writer_waits();
        let mut answers = Vec::new();
        for ask in asks {
            answers.push(tokio::spawn(ask.of(self.store.clone(), self.worker)));
            // On a runtime of one thread this sends the request.
            tokio::task::yield_now().await;
        }
        self.gate.open();
        occupied.join().expect("runs").expect("claims");
        let mut replies = Vec::new();
        for answer in answers {
            replies.push(answer.await.expect("runs"));
        }
        replies
    }

    // ---- executions ----

    pub(crate) async fn version(&self, name: &str, graph: &Arc<Graph>) -> VersionId {
        self.store
            .ensure_version(name, "1", WorkflowKind::Graph, graph.clone())
            .await
            .expect("recorded")
    }

    pub(crate) fn start_request(
        &self,
        instance: &str,
        version: VersionId,
        graph: &Arc<Graph>,
    ) -> Start {
        let id = ExecutionId(self.next_id());
        Start {
            input: Some(Payload::from_json(format!("{{\"for\":\"{instance}\"}}"))),
            input_hash: instance.to_owned(),
            tags: Some("[\"a\",\"b\"]".into()),
            actor: Some("user:test".into()),
            ..Start::of(id, instance, version, graph)
        }
    }

    pub(crate) async fn start(
        &self,
        instance: &str,
        version: VersionId,
        graph: &Arc<Graph>,
    ) -> ExecutionId {
        self.start_with(self.start_request(instance, version, graph))
            .await
            .id
    }

    pub(crate) async fn start_with(&self, start: Start) -> Started {
        self.store.start(start).await.expect("starts")
    }

    pub(crate) async fn claim(&self, version: VersionId, max: u32) -> Vec<Claimed> {
        let claims = self
            .store
            .claim(self.worker, Arc::new([version]), max)
            .await;
        claims.expect("claims").claimed
    }

    /// Claims the one task that is ready.
    pub(crate) async fn claim_one(&self, version: VersionId) -> Held {
        let claimed = self.claim(version, 1).await;
        assert_eq!(claimed.len(), 1, "a task is ready");
        held(&claimed[0])
    }

    /// Claims the node of that name, which must be ready.
    pub(crate) async fn claim_node(&self, version: VersionId, node: &str) -> Held {
        let claimed = self.claim(version, 1).await;
        let claimed = claimed.first().expect("a task is ready");
        assert_eq!(claimed.graph.node_id(claimed.task.key.number), node);
        held(claimed)
    }

    // ---- outcomes ----

    pub(crate) async fn finish(&self, held: Held, outcome: Outcome) -> Finished {
        let finish = Finish {
            held,
            given_back: Vec::new(),
            outcome,
            offer: None,
        };
        match self.store.apply(Request::Finish(Box::new(finish))).await {
            Ok(Reply::Finished(finished)) => finished,
            other => panic!("not recorded: {other:?}"),
        }
    }

    pub(crate) async fn complete(&self, held: Held, json: &str) -> Finished {
        self.finish(held, completed(json)).await
    }

    pub(crate) async fn fail(&self, held: Held, message: &str) -> Finished {
        self.finish(held, failed(message)).await
    }

    // ---- waits ----

    async fn answered(&self, request: Request) -> Answered {
        match self.store.apply(request).await {
            Ok(Reply::Answered(answered)) => answered,
            other => panic!("not answered: {other:?}"),
        }
    }

    pub(crate) async fn defer(&self, held: Held, wait: &str) -> Answered {
        let wait = wait.to_owned();
        self.answered(Request::Defer(Defer {
            held,
            given_back: Vec::new(),
            wait,
        }))
        .await
    }

    pub(crate) async fn resume(&self, held: Held) -> Answered {
        let resume = Resume {
            held,
            given_back: Vec::new(),
            always: true,
            next_order: self.next_order(held.key).await,
        };
        self.answered(Request::Resume(resume)).await
    }

    pub(crate) async fn await_operations(
        &self,
        held: Held,
        operations: Vec<Operation>,
        evict: bool,
    ) -> Answered {
        let request = Await {
            held,
            given_back: Vec::new(),
            operations,
            next_order: self.next_order(held.key).await,
            evict,
        };
        self.answered(Request::Await(request)).await
    }

    pub(crate) async fn evict(&self, held: Held) -> Answered {
        let next_order = self.next_order(held.key).await;
        self.answered(Evict { held, next_order }.into()).await
    }

    /// Records a finished step.
    pub(crate) async fn record(&self, held: Held, number: u32, end: StepEnd) {
        let step = StepRecord {
            id: step_id(number, StepKind::Step, &format!("step-{number}")),
            end,
            order: self.next_order(held.key).await,
        };
        let steps = vec![step];
        let reply = self
            .store
            .apply(Request::Record(Record {
                held,
                given_back: Vec::new(),
                steps,
            }))
            .await;
        assert!(matches!(reply, Ok(Reply::Done(()))), "{reply:?}");
    }

    /// The place that the task's next result gets.
    pub(crate) async fn next_order(&self, key: TaskKey) -> u32 {
        let steps = self.store.steps(key).await.expect("reads");
        steps.iter().map(|step| step.order).max().unwrap_or(0) + 1
    }

    pub(crate) async fn signal(&self, instance: &str, name: &str, json: &str) {
        let signal = Signal {
            instance: instance.into(),
            name: name.into(),
            payload: Payload::from_json(json),
            actor: Some("user:sender".into()),
        };
        self.store.signal(signal).await.expect("sent");
    }

    pub(crate) async fn cancel(&self, execution: ExecutionId, grace_us: i64) -> ExecutionStatus {
        let act = Act {
            actor: Some("user:test".into()),
            ..Act::on(execution, Action::Cancel { grace_us }, "no longer wanted")
        };
        self.store.act(act).await.expect("cancels").status()
    }

    /// Fires everything that is due, and what follows from it at once.
    pub(crate) async fn fire(&self) {
        while self.store.fire_timers(100).await.expect("fires").fired > 0 {}
    }

    // ---- verification ----

    pub(crate) async fn verify(&self) -> VerifyReport {
        self.store
            .verify(VerifyOptions::default())
            .await
            .expect("reads")
    }

    pub(crate) async fn assert_clean(&self) -> VerifyReport {
        let report = self.verify().await;
        assert!(report.is_clean(), "{report}");
        report
    }

    pub(crate) async fn status(&self, execution: ExecutionId) -> ExecutionStatus {
        let view = self.store.execution(execution).await.expect("reads");
        view.expect("exists").execution.status
    }
}

/// A claimed task as its holder names it.
pub(crate) fn held(claimed: &Claimed) -> Held {
    Held {
        key: claimed.task.key,
        epoch: claimed.task.epoch,
        worker: claimed.task.worker.expect("claimed by a worker"),
    }
}

pub(crate) fn completed(json: &str) -> Outcome {
    Outcome::Completed {
        output: Some(Payload::from_json(json)),
        changes: None,
        checkpoint: None,
    }
}

pub(crate) fn failed(message: &str) -> Outcome {
    Outcome::Failed {
        failure: Failure::new("error", message),
        random: 0.5,
        rerun: None,
    }
}

pub(crate) fn step_id(number: u32, kind: StepKind, name: &str) -> StepId {
    StepId {
        number,
        kind,
        name: name.into(),
        fingerprint: None,
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

/// A graph of nodes that each run a task of their own, with edges between them.
pub(crate) fn graph(tasks: Vec<TaskSpec>, edges: &[(&str, &str)]) -> Arc<Graph> {
    let mut builder = GraphBuilder::new();
    for task in tasks {
        let id = task.id.clone();
        builder.task(task);
        builder.node(id.clone(), &id);
        builder.output(&id);
    }
    for (from, to) in edges {
        builder.edge(from, to);
    }
    Arc::new(builder.build().expect("a graph"))
}
