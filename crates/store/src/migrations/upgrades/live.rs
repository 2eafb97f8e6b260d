//! A store with open executions of each kind, and what is done to bring them to their ends.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use abide_core::graph::{Graph, GraphBuilder, TaskSpec};
use abide_core::ids::{ExecutionId, IdGenerator, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{
    Act, Action, Await, Claimed, Finish, Held, Outcome, Reply, Request, Signal, Start,
};
use abide_core::payload::Payload;
use abide_core::status::ExecutionStatus;
use abide_core::step::{Operation, StepId, StepKind};
use abide_test_postgres::client;
use rusqlite::Connection;

use super::place::{Place, first};
use crate::error::{ApplyError, StoreError};
use crate::store::Store;
use crate::views::{EventFilter, NewWorker, WorkflowKind};

pub(super) const BEGIN: i64 = 1_767_225_600_000_000;
const SECOND_US: i64 = 1_000_000;
const LEASE: Duration = Duration::from_secs(10);

/// A store with open executions, and the process that has it open.
pub(super) struct Live {
    pub(super) place: Place,
    pub(super) clock: Arc<AtomicI64>,
    ids: Mutex<IdGenerator>,
    pub(super) old: Store,
    worker: WorkerId,
    workflow: VersionId,
    /// Nobody has claimed its task.
    pending: ExecutionId,
    /// The old process runs its task.
    running: Held,
    /// Its task sleeps.
    sleeping: ExecutionId,
    /// It has a signal that its task has not read.
    signalled: ExecutionId,
    /// One of its three tasks is done.
    half: ExecutionId,
}

/// The number of an event's task, its own number and its type.
pub(super) type Events = Vec<(u32, u32, &'static str)>;

impl Live {
    pub(super) async fn new(place: Place) -> Live {
        let clock = Arc::new(AtomicI64::new(BEGIN));
        let old = place.open(&clock, first(place.dialect())).await;
        let old = old.expect("opens");
        let ids = Mutex::new(IdGenerator::new(1));
        let mut live = Live {
            place,
            clock,
            ids,
            old,
            worker: WorkerId(0),
            workflow: VersionId(0),
            pending: ExecutionId(0),
            running: Held {
                key: TaskKey::new(ExecutionId(0), 0),
                epoch: 0,
                worker: WorkerId(0),
            },
            sleeping: ExecutionId(0),
            signalled: ExecutionId(0),
            half: ExecutionId(0),
        };
        live.worker = live.new_worker(&live.old).await;
        let single = graph(&["only"], &[]);
        let three = graph(&["a", "b", "c"], &[("a", "c"), ("b", "c")]);
        let old = live.old.clone();
        let workflow = version(&old, "running", &single).await;
        live.start(&old, workflow, &single).await;
        live.running = held(&live.claim(&old, workflow).await);
        let workflow = version(&old, "sleeping", &single).await;
        live.sleeping = live.start(&old, workflow, &single).await;
        let claimed = live.claim(&old, workflow).await;
        let due = live.now().plus_us(30 * SECOND_US);
        let sleep = operation(StepKind::Sleep, "sleep", Some(due));
        apply(&old, await_one(held(&claimed), sleep, true)).await;
        let workflow = version(&old, "half", &three).await;
        live.half = live.start(&old, workflow, &three).await;
        let claimed = live.claim(&old, workflow).await;
        apply(&old, finish(held(&claimed))).await;
        let workflow = version(&old, "signalled", &single).await;
        live.signalled = live.start(&old, workflow, &single).await;
        let sent = old.signal(live.signal()).await;
        sent.expect("sent");
        live.workflow = version(&old, "pending", &single).await;
        live.pending = live.start(&old, live.workflow, &single).await;
        live
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::SeqCst))
    }

    fn advance(&self, us: i64) {
        self.clock.fetch_add(us, Ordering::SeqCst);
    }

    fn next_id(&self) -> i64 {
        let mut ids = self.ids.lock().expect("no test panics while it holds this");
        ids.next(self.now())
    }

    async fn new_worker(&self, store: &Store) -> WorkerId {
        let worker = self.new_row();
        let id = worker.id;
        store.register_worker(worker, LEASE).await.expect("made");
        id
    }

    fn new_row(&self) -> NewWorker {
        NewWorker {
            id: WorkerId(self.next_id()),
            host: "host".into(),
            pid: 1,
        }
    }

    /// A start for an instance of its own.
    fn request(&self, workflow: VersionId, graph: &Arc<Graph>) -> Start {
        let id = ExecutionId(self.next_id());
        Start::of(id, id.to_string(), workflow, graph)
    }

    async fn start(&self, store: &Store, workflow: VersionId, graph: &Arc<Graph>) -> ExecutionId {
        let started = store.start(self.request(workflow, graph)).await;
        started.expect("starts").id
    }

    async fn claim(&self, store: &Store, workflow: VersionId) -> Claimed {
        let claims = store.claim(self.worker, Arc::new([workflow]), 1).await;
        let claimed = claims.expect("claims").claimed;
        let [claimed] = claimed.try_into().expect("one is ready");
        claimed
    }

    /// To the instance whose task has not read its signal.
    fn signal(&self) -> Signal {
        Signal {
            instance: self.signalled.to_string().into(),
            name: "go".into(),
            payload: Payload::from_json("7"),
            actor: None,
        }
    }

    fn executions(&self) -> [ExecutionId; 5] {
        let Live {
            pending,
            running,
            sleeping,
            signalled,
            half,
            ..
        } = self;
        [
            *pending,
            running.key.execution,
            *sleeping,
            *signalled,
            *half,
        ]
    }

    /// A start that the old process can still do.
    pub(super) async fn old_goes_on(&self) {
        let single = graph(&["only"], &[]);
        self.start(&self.old, self.workflow, &single).await;
        let renewed = self.old.heartbeat(self.worker, LEASE).await;
        assert!(renewed.expect("alive"));
    }

    /// Another process takes the old one's tasks and brings every execution to its end. Answers their events.
    pub(super) async fn carry_on(&self, new: &Store) -> Vec<Events> {
        self.old.leave_worker(self.worker);
        self.advance(60 * SECOND_US);
        let worker = self.new_worker(new).await;
        let recovered = new.recover(5, worker).await.expect("recovers");
        assert_eq!((recovered.workers, recovered.recovered), (1, 1));
        let versions = new.versions().await.expect("reads");
        let queues: Arc<[VersionId]> = versions.iter().map(|version| version.id).collect();
        for _ in 0..10 {
            while new.fire_timers(100).await.expect("fires").fired > 0 {}
            let claims = new.claim(worker, queues.clone(), 100).await;
            for claimed in claims.expect("claims").claimed {
                if claimed.task.key.execution == self.signalled {
                    let go = operation(StepKind::Signal, "go", None);
                    let reply = apply(new, await_one(held(&claimed), go, false)).await;
                    let Reply::Answered(answered) = reply else {
                        panic!("not answered: {reply:?}");
                    };
                    let read = answered.results[0].result.as_ref().expect("it came");
                    assert_eq!(read.as_str(), "7");
                }
                apply(new, finish(held(&claimed))).await;
            }
            self.advance(60 * SECOND_US);
        }
        let mut all = Vec::new();
        for execution in self.executions() {
            let end = new.end(execution).await.expect("reads").expect("exists");
            assert_eq!(end.status, ExecutionStatus::Completed);
            let filter = EventFilter {
                execution: Some(execution),
                task: None,
            };
            let events = new.events(&filter, 0, 1000).await.expect("reads");
            let mut events: Events = events.iter().map(|it| (it.task, it.n, it.kind)).collect();
            events.sort_unstable();
            all.push(events);
        }
        all
    }

    /// Each write that the old process may want to do, by name, with what it is answered.
    pub(super) async fn old_writes(&self) -> Vec<(&'static str, StoreError)> {
        let (old, worker) = (&self.old, self.worker);
        let single = graph(&["only"], &[]);
        let mut answers = Vec::new();
        let mut add = |what, error| answers.push((what, error));
        let start = self.request(self.workflow, &single);
        add("start", refused(old.start(start).await));
        add("signal", refused(old.signal(self.signal()).await));
        let finish = finish(self.running);
        add("finish", refused(old.apply(finish).await));
        let cancel = Act::on(self.pending, Action::Cancel { grace_us: 0 }, "test");
        add("act", refused(old.act(cancel).await));
        let queues: Arc<[VersionId]> = Arc::new([self.workflow]);
        add("claim", failed(old.claim(worker, queues.clone(), 1).await));
        self.advance(40 * SECOND_US);
        add("fire timers", failed(old.fire_timers(10).await));
        self.advance(-40 * SECOND_US);
        add("heartbeat", failed(old.heartbeat(worker, LEASE).await));
        let registered = old.register_worker(self.new_row(), LEASE).await;
        add("register", failed(registered));
        let recorded = old.record_queues(worker, &queues).await;
        add("record queues", failed(recorded));
        add("end worker", failed(old.end_worker(worker).await));
        add(
            "prune history",
            failed(old.prune_history(Duration::ZERO).await),
        );
        let removed = old.remove_unpublished(self.pending).await;
        add("remove unpublished", failed(removed));
        let kind = WorkflowKind::Graph;
        let version = old.ensure_version("new", "1", kind, single.clone()).await;
        add("record a version", failed(version));
        // A partition of the history is made before the start is written.
        let mut later = self.request(self.workflow, &single);
        later.id =
            ExecutionId(IdGenerator::new(1).next(self.now().plus_us(400 * 86_400 * SECOND_US)));
        add("start in a year", refused(old.start(later).await));
        for (what, error) in self.old_writes_within(&single).await {
            add(what, error);
        }
        answers
    }

    async fn old_writes_within(&self, single: &Arc<Graph>) -> [(&'static str, StoreError); 2] {
        let start = self.request(self.workflow, single);
        let (started, sent) = match &self.place {
            Place::File(_) => {
                let mut users = Connection::open(self.place.path()).expect("opens");
                users.execute_batch("BEGIN").expect("begun");
                let started = self.old.start_in(&mut users, start).await;
                let sent = self.old.signal_in(&mut users, self.signal()).await;
                // What was refused left it as it was.
                users.execute_batch("COMMIT").expect("committed");
                (refused(started), refused(sent))
            }
            Place::Schema(schema) => {
                let mut users = client(&schema.url).await;
                let mut transaction = users.transaction().await.expect("begun");
                let started = self.old.start_in(&mut transaction, start).await;
                let sent = self.old.signal_in(&mut transaction, self.signal()).await;
                transaction.commit().await.expect("committed");
                (refused(started), refused(sent))
            }
        };
        [("start in", started), ("signal in", sent)]
    }

    /// A start for a user's own transaction.
    pub(super) fn start_within(&self) -> Start {
        self.request(self.workflow, &graph(&["only"], &[]))
    }

    /// A worker that is dead by the clock that counts.
    pub(super) async fn other_dies(&self) -> WorkerId {
        let other = self.new_worker(&self.old).await;
        self.advance(20 * SECOND_US);
        self.old.heartbeat(self.worker, LEASE).await.expect("alive");
        other
    }

    /// What the old process is answered that looks for the dead.
    pub(super) async fn old_recovers(&self) -> StoreError {
        refused(self.old.recover(5, self.worker).await)
    }
}

/// Starts an execution whose instance is named by the process, of which this is the first.
pub(super) async fn begin_in_process(store: &Store, mut ids: IdGenerator, number: u64) {
    let single = graph(&["only"], &[]);
    let workflow = version(store, "of a process", &single).await;
    let id = ExecutionId(ids.next(Timestamp(BEGIN)));
    let instance = format!("of process {number}");
    let started = store
        .start(Start::of(id, instance, workflow, &single))
        .await;
    assert!(started.expect("starts").created);
}

fn refused<T: Debug>(answer: Result<T, ApplyError>) -> StoreError {
    match answer {
        Err(ApplyError::Store(error)) => error,
        other => panic!("not refused by the store: {other:?}"),
    }
}

fn failed<T: Debug>(answer: Result<T, StoreError>) -> StoreError {
    answer.expect_err("refused")
}

/// A graph with a node of the same name for each task.
fn graph(tasks: &[&str], edges: &[(&str, &str)]) -> Arc<Graph> {
    let mut builder = GraphBuilder::new();
    for task in tasks {
        builder.task(TaskSpec::new(*task)).node(*task, task);
    }
    for (from, to) in edges {
        builder.edge(from, to);
    }
    Arc::new(builder.build().expect("a sound graph"))
}

async fn version(store: &Store, name: &str, graph: &Arc<Graph>) -> VersionId {
    let recorded = store.ensure_version(name, "1", WorkflowKind::Graph, graph.clone());
    recorded.await.expect("recorded")
}

async fn apply(store: &Store, request: Request) -> Reply {
    store.apply(request).await.expect("applied")
}

fn held(claimed: &Claimed) -> Held {
    Held {
        key: claimed.task.key,
        epoch: claimed.task.epoch,
        worker: claimed.task.worker.expect("claimed"),
    }
}

fn finish(held: Held) -> Request {
    Request::Finish(Box::new(Finish {
        held,
        given_back: Vec::new(),
        outcome: Outcome::Completed {
            output: Some(Payload::from_json("1")),
            changes: None,
            checkpoint: None,
        },
        offer: None,
    }))
}

fn operation(kind: StepKind, name: &str, due_at: Option<Timestamp>) -> Operation {
    Operation {
        id: StepId {
            number: 1,
            kind,
            name: name.to_owned(),
            fingerprint: None,
        },
        due_at,
    }
}

fn await_one(held: Held, operation: Operation, evict: bool) -> Request {
    Request::Await(Await {
        held,
        given_back: Vec::new(),
        operations: vec![operation],
        next_order: 1,
        evict,
    })
}
