//! What the behaviour tests share: workflows made of closures, and readings of the history.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use abide::authoring::{BoxFuture, Handler, WorkflowSpec};
use abide::{
    Clock, Engine, EngineBuilder, EventView, ExecutionId, Run, TaskBuilder, TaskError, TaskKey,
    Timestamp, VirtualClock, WorkflowBuilder,
};
use abide_store::EventFilter;
use serde_json::Value;
use tokio::sync::Semaphore;

pub(crate) use crate::home::Home;

impl Home {
    pub(crate) fn engine(&self) -> EngineBuilder {
        Engine::builder(self.url())
    }
}

/// A durable function without options.
pub(crate) fn function<Args, H: Handler<Args>>(id: &str, body: H) -> WorkflowSpec {
    function_of(TaskBuilder::new(id, body))
}

/// A durable function.
pub(crate) fn function_of(task: TaskBuilder) -> WorkflowSpec {
    let spec = WorkflowBuilder::function(task).build();
    spec.expect("a workflow without mistakes")
}

/// A durable function `gated` that says when it has begun, and ends once it is let pass.
pub(crate) fn gated(begun: &Gate, gate: &Gate) -> WorkflowSpec {
    let gates = (begun.clone(), gate.clone());
    function("gated", move || {
        let (begun, gate) = gates.clone();
        async move {
            begun.open(1);
            gate.pass().await;
            Ok::<_, TaskError>(())
        }
    })
}

/// Something that tests open for code that blocks.
#[derive(Clone, Default)]
pub(crate) struct Barrier(Arc<(Mutex<bool>, Condvar)>);

impl Barrier {
    pub(crate) fn open(&self) {
        *self.0.0.lock().expect("nobody panics with it") = true;
        self.0.1.notify_all();
    }

    /// Keeps the thread until it is open.
    pub(crate) fn block(&self) {
        let shut = self.0.0.lock().expect("nobody panics with it");
        let opened = self.0.1.wait_while(shut, |open| !*open);
        drop(opened.expect("nobody panics with it"));
    }
}

/// A function that blocks its thread until the barrier is open.
pub(crate) fn blocker(begun: &Gate, barrier: &Barrier) -> WorkflowSpec {
    let (begun, barrier) = (begun.clone(), barrier.clone());
    function("blocker", move || {
        let (begun, barrier) = (begun.clone(), barrier.clone());
        async move {
            begun.open(1);
            barrier.block();
            Ok::<_, TaskError>("done")
        }
    })
}

pub(crate) fn runtime(threads: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Starts an execution without an input, whose instance is named like its workflow.
pub(crate) async fn begin(engine: &Engine, workflow: &str) -> Run<Value> {
    let started = engine.start_named(workflow, workflow, &()).await;
    started.expect("a durable start")
}

/// The whole history of an execution.
pub(crate) async fn history(engine: &Engine, id: ExecutionId) -> Vec<EventView> {
    let filter = EventFilter {
        execution: Some(id),
        task: None,
    };
    let events = engine.store().events(&filter, 0, 1_000_000).await;
    events.expect("the history is there")
}

/// The event types of one task, in order.
pub(crate) async fn task_events(engine: &Engine, id: ExecutionId, task: u32) -> Vec<&'static str> {
    let events = history(engine, id).await;
    let of_task = events.into_iter().filter(|event| event.task == task);
    of_task.map(|event| event.kind).collect()
}

/// Waits until the store's history has an event of a task, looking whenever other tasks of this
/// thread have had their turn.
pub(crate) async fn until_event(engine: &Engine, key: TaskKey, kind: &str) {
    while !task_events(engine, key.execution, key.number)
        .await
        .contains(&kind)
    {
        tokio::task::yield_now().await;
    }
}

/// The first task of an execution.
pub(crate) fn first(run: &Run<Value>) -> TaskKey {
    TaskKey::new(run.id(), 1)
}

/// A clock whose time of day can be set. Time goes by a virtual clock.
#[derive(Clone)]
pub(crate) struct SetClock {
    time: VirtualClock,
    set_by_us: Arc<AtomicI64>,
}

impl SetClock {
    pub(crate) fn new(time: &VirtualClock) -> SetClock {
        SetClock {
            time: time.clone(),
            set_by_us: Arc::default(),
        }
    }

    /// Sets the time of day forward, or back.
    pub(crate) fn set_by(&self, us: i64) {
        self.set_by_us.fetch_add(us, Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        self.time
            .now()
            .plus_us(self.set_by_us.load(Ordering::SeqCst))
    }

    fn sleep_until(&self, at: Timestamp) -> BoxFuture<'static, ()> {
        let clock = self.clone();
        Box::pin(async move {
            while clock.now() < at {
                let left = at.since_us(clock.now()).min(NAP_US);
                clock.time.sleep_until(clock.time.now().plus_us(left)).await;
            }
        })
    }

    fn elapsed(&self) -> Duration {
        self.time.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.time.sleep(duration)
    }
}

/// How long a [`SetClock`] sleeps before it looks at the time of day again.
const NAP_US: i64 = 1_000_000;

/// Plays a virtual clock at full speed, as long as this is kept.
pub(crate) struct Player(tokio::task::JoinHandle<()>);

impl Player {
    pub(crate) fn of(clock: &VirtualClock) -> Player {
        let clock = clock.clone();
        Player(tokio::spawn(async move {
            loop {
                clock.skip().await;
            }
        }))
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Something that tests open for tasks to go on.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn shut() -> Gate {
        Gate(Arc::new(Semaphore::new(0)))
    }

    /// Lets so many pass.
    pub(crate) fn open(&self, times: usize) {
        self.0.add_permits(times);
    }

    pub(crate) async fn pass(&self) {
        let permit = self.0.acquire().await;
        permit.expect("gates are never torn down").forget();
    }
}
