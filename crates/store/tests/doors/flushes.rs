//! Requests that share a transaction come to the same as requests that have one each.

use std::sync::{Arc, Mutex};

use abide_core::context::Changes;
use abide_core::graph::{Graph, TaskSpec};
use abide_core::ids::{ExecutionId, TaskKey};
use abide_core::kernel::{
    Act, Action, Await, Defer, Evict, Held, IfExists, Outcome, Record, Recover, Request, Resume,
    Signal, Start,
};
use abide_core::payload::Payload;
use abide_core::retry::{Backoff, RetryPolicy};
use abide_core::status::Phase;
use abide_core::step::{StepEnd, StepKind, StepRecord};
use abide_core::timer::{Timer, TimerKind};
use abide_core::trigger::{ContextOp, Trigger};
use proptest::prelude::*;
use serde_json::json;

use crate::home::{
    Dump, Home, SECOND_US, await_operations, completed, failed, failed_once, finish, graph, held,
    signal, single, sleep, step_id,
};

#[tokio::test]
async fn a_task_made_ready_and_cancelled_at_once_leaves_nothing_in_the_outbox() {
    let home = Home::new().await;
    let chain = graph(vec![TaskSpec::new("a"), TaskSpec::new("b")], &[("a", "b")]);
    let id = home.start(&chain).await;
    let first = held(&home.claim().await);
    home.apply_at_once(vec![finish(first, completed()), cancel(id)])
        .await;
    assert_eq!(home.dump().await["task_outbox"], Vec::<Vec<_>>::new());
}

#[tokio::test]
async fn a_wait_that_is_withdrawn_is_no_step_of_a_task_that_is_recovered_at_once() {
    let home = Home::new().await;
    let id = home.start(&single()).await;
    let task = held(&home.claim().await);
    let later = home.now().plus_us(SECOND_US);
    home.apply(await_operations(task, vec![sleep(1, later)], false))
        .await;
    let resume = Resume {
        held: task,
        given_back: Vec::new(),
        always: true,
        next_order: 1,
    };
    let recover = Recover {
        key: task.key,
        worker: task.worker,
        crash_cap: 1,
        alone: true,
        reason: "taken for dead".into(),
    };
    home.apply_at_once(vec![
        Request::Resume(resume),
        await_operations(task, vec![sleep(2, home.now())], false),
        Request::Recover(recover),
    ])
    .await;
    let view = home.store.task(TaskKey::new(id, 1)).await;
    let task = view.expect("reads").expect("exists").task;
    assert_eq!(
        (task.phase, task.crashes, task.crash_steps),
        (Phase::Ready, 1, 1)
    );
}

// ---- any requests ----

/// Two executions of this graph are there to ask things of: three roots are held, the others follow.
fn shape() -> Arc<Graph> {
    let flaky = TaskSpec {
        retry: RetryPolicy {
            retries: 1,
            backoff: Backoff::Fixed {
                delay_us: SECOND_US,
            },
            ..RetryPolicy::default()
        },
        ..TaskSpec::new("flaky")
    };
    let picky = TaskSpec {
        trigger: Some(Trigger::Any(vec![
            Trigger::Failed("flaky".into()),
            Trigger::Context {
                key: "seen".into(),
                op: ContextOp::Exists,
                value: json!(null),
            },
        ])),
        ..TaskSpec::new("picky")
    };
    let plain = ["waiter", "evicted", "next", "last"].map(TaskSpec::new);
    let tasks = [flaky, picky].into_iter().chain(plain).collect();
    let edges = [
        ("flaky", "picky"),
        ("waiter", "picky"),
        ("flaky", "next"),
        ("picky", "last"),
        ("evicted", "last"),
    ];
    graph(tasks, &edges)
}

/// A request in words that mean the same in two stores.
#[derive(Clone, Debug)]
enum Ask {
    Complete(Target),
    Fail(Target),
    FailOnce(Target),
    Release(Target),
    Defer(Target),
    Resume(Target),
    AwaitSignal(Target, bool),
    AwaitSleep(Target, bool),
    Evict(Target),
    Record(Target, u32),
    Recover(Target),
    Signal(usize),
    Cancel(usize),
    TimeOut(usize),
    StartAgain(usize),
    StartAnother(u8),
}

/// A held task: of which execution, and which of those it holds.
type Target = (usize, usize);

fn any_ask() -> impl Strategy<Value = Ask> {
    let target = || (0..2_usize, 0..3_usize);
    prop_oneof![
        4 => target().prop_map(Ask::Complete),
        2 => target().prop_map(Ask::Fail),
        2 => target().prop_map(Ask::FailOnce),
        2 => target().prop_map(Ask::Release),
        2 => target().prop_map(Ask::Defer),
        2 => target().prop_map(Ask::Resume),
        3 => (target(), any::<bool>()).prop_map(|(target, evict)| Ask::AwaitSignal(target, evict)),
        3 => (target(), any::<bool>()).prop_map(|(target, evict)| Ask::AwaitSleep(target, evict)),
        2 => target().prop_map(Ask::Evict),
        2 => (target(), 1..4_u32).prop_map(|(target, number)| Ask::Record(target, number)),
        2 => target().prop_map(Ask::Recover),
        4 => (0..2_usize).prop_map(Ask::Signal),
        2 => (0..2_usize).prop_map(Ask::Cancel),
        1 => (0..2_usize).prop_map(Ask::TimeOut),
        1 => (0..2_usize).prop_map(Ask::StartAgain),
        2 => (0..2_u8).prop_map(Ask::StartAnother),
    ]
}

struct Scene {
    home: Home,
    starts: Vec<Start>,
    held: Vec<Vec<Held>>,
}

impl Scene {
    /// Takes a store without executions.
    async fn new(home: Home) -> Scene {
        let graph = shape();
        let mut scene = Scene {
            home,
            starts: Vec::new(),
            held: Vec::new(),
        };
        for _ in 0..2 {
            let mut start = scene.home.request(&graph).await;
            start.deadline_at = Some(scene.home.now().plus_us(100 * SECOND_US));
            scene.home.store.start(start.clone()).await.expect("starts");
            let claimed = scene.home.claim_all().await;
            scene.starts.push(start);
            scene.held.push(claimed.iter().map(held).collect());
        }
        scene.home.advance(SECOND_US);
        scene
    }

    fn held(&self, (execution, task): Target) -> Held {
        self.held[execution][task]
    }

    fn request(&self, ask: &Ask, order: u32) -> Request {
        match *ask {
            Ask::Complete(target) => {
                let mut changes = Changes::default();
                changes.set("seen", json!(order));
                let outcome = Outcome::Completed {
                    output: Some(Payload::from_json("1")),
                    changes: Some(changes),
                    checkpoint: None,
                };
                finish(self.held(target), outcome)
            }
            Ask::Fail(target) => finish(self.held(target), failed()),
            Ask::FailOnce(target) => finish(self.held(target), failed_once()),
            Ask::Release(target) => {
                let reason = "shutdown".to_owned();
                finish(self.held(target), Outcome::Released { reason })
            }
            Ask::Defer(target) => Request::Defer(Defer {
                held: self.held(target),
                given_back: Vec::new(),
                wait: "a condition".into(),
            }),
            Ask::Resume(target) => Request::Resume(Resume {
                held: self.held(target),
                given_back: Vec::new(),
                always: true,
                next_order: order,
            }),
            Ask::AwaitSignal(target, evict) => Request::Await(Await {
                held: self.held(target),
                given_back: Vec::new(),
                operations: vec![signal(10, "go")],
                next_order: order,
                evict,
            }),
            Ask::AwaitSleep(target, evict) => Request::Await(Await {
                held: self.held(target),
                given_back: Vec::new(),
                operations: vec![sleep(11, self.home.now().plus_us(SECOND_US))],
                next_order: order,
                evict,
            }),
            Ask::Evict(target) => Request::Evict(Evict {
                held: self.held(target),
                next_order: order,
            }),
            Ask::Record(target, number) => Request::Record(Record {
                held: self.held(target),
                given_back: Vec::new(),
                steps: vec![StepRecord {
                    id: step_id(number, StepKind::Step, "charge"),
                    end: StepEnd::Done(Payload::from_json("1")),
                    order,
                }],
            }),
            Ask::Recover(target) => {
                let held = self.held(target);
                Request::Recover(Recover {
                    key: held.key,
                    worker: held.worker,
                    crash_cap: 3,
                    alone: true,
                    reason: "test".into(),
                })
            }
            Ask::Signal(execution) => Request::Signal(Signal {
                instance: self.starts[execution].instance.clone(),
                name: "go".into(),
                payload: Payload::from_json(order.to_string()),
                actor: None,
            }),
            Ask::Cancel(execution) => cancel(self.starts[execution].id),
            Ask::TimeOut(execution) => {
                let start = &self.starts[execution];
                let due = start.deadline_at.expect("given");
                Request::Fire(Timer::of_execution(due, TimerKind::Deadline, start.id, 0))
            }
            Ask::StartAgain(execution) => Request::Start(Box::new(self.starts[execution].clone())),
            Ask::StartAnother(which) => Request::Start(Box::new(Start {
                id: ExecutionId(1000 + i64::from(which)),
                instance: format!("another {which}").into(),
                if_exists: IfExists::UseExisting,
                deadline_at: None,
                ..self.starts[0].clone()
            })),
        }
    }

    /// What is stored, without numbers that only tell in which order rows were made.
    async fn stored(&self) -> Dump {
        let mut dump = self.home.dump().await;
        for (table, rows) in &mut dump {
            for row in rows.iter_mut() {
                row.retain(|(column, _)| column != "position");
            }
            if table == "execution_events" {
                rows.sort_by_cached_key(|row| format!("{row:?}"));
            }
        }
        dump
    }
}

fn cancel(execution: ExecutionId) -> Request {
    let grace_us = SECOND_US;
    Act::on(execution, Action::Cancel { grace_us }, "test").into()
}

/// Two stores that the same was asked of so far.
type Pair = Mutex<Option<(Home, Home)>>;

async fn compare(pair: &Pair, asks: &[Ask]) -> Result<(), TestCaseError> {
    // What a failure leaves behind differs: others begin with two of their own.
    let homes = pair.lock().expect("nobody panics here").take();
    let (together, apart) = match homes {
        Some(homes) => homes,
        None => (Home::new().await, Home::new().await),
    };
    let (together, apart) = (Scene::new(together).await, Scene::new(apart).await);
    let requests = |scene: &Scene| -> Vec<Request> {
        let numbered = (1..).zip(asks);
        numbered
            .map(|(order, ask)| scene.request(ask, order))
            .collect()
    };
    let answers = together.home.apply_at_once(requests(&together)).await;
    for (request, answer) in requests(&apart).into_iter().zip(answers) {
        let alone = apart.home.store.apply(request).await;
        prop_assert_eq!(format!("{:?}", alone), format!("{:?}", answer));
    }
    let stored = (together.stored().await, apart.stored().await);
    for (table, rows) in &stored.1 {
        prop_assert_eq!(rows, &stored.0[table], "{}", table);
    }
    together.home.database.remove_executions().await;
    apart.home.database.remove_executions().await;
    *pair.lock().expect("nobody panics here") = Some((together.home, apart.home));
    Ok(())
}

#[test]
fn requests_at_once_come_to_the_same_as_one_after_another() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let cases = std::env::var("ABIDE_FLUSHES").map_or(100, |text| text.parse().expect("a number"));
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let scripts = prop::collection::vec(any_ask(), 1..10);
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let pair = Pair::default();
    let result = runner.run(&scripts, |asks| runtime.block_on(compare(&pair, &asks)));
    println!("{cases} scripts of up to 9 requests compared");
    if let Err(error) = result {
        panic!("{error}");
    }
}
