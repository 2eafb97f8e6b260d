//! A world: one store under random operations, in words that mean the same to every store.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fixture::{Answer, Ask, Fixture, SECOND, held, signal, sleep, step_id};
use crate::ops::{End, Op};
use crate::shapes::{Shape, build};
use abide_core::context::Changes;
use abide_core::failure::{Failure, RetryHint};
use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{
    Act, Action, Await, Claimed, Defer, Evict, Finish, GivenBack, Held, IfExists, MAX_HOPS, Offer,
    Outcome, Progress, Record, Recover, Recovered, Refusal, Reply, Request, Rerun, Resume, Signal,
    Supersede, Superseded, Watch,
};
use abide_core::payload::Payload;
use abide_core::status::Phase;
use abide_core::step::{Operation, StepEnd, StepKind, StepRecord};
use abide_store::ApplyError;

/// Somebody who is told what is done to a world, and what comes of it.
pub(crate) trait Witness {
    /// This was asked for in one transaction.
    fn asked(&mut self, now: Timestamp, worker: WorkerId, asks: &[Ask], answers: &[Answer]);

    /// A worker's process died.
    fn died(&mut self, lost: WorkerId);

    /// What the dead held was taken back.
    fn taken_back(&mut self, now: Timestamp, crash_cap: u32);

    /// Tasks that wait for other code were woken.
    fn deployed(&mut self, now: Timestamp);
}

/// The world that operations are applied to.
pub(crate) struct World {
    pub(crate) fixture: Fixture,
    pub(crate) witness: Option<Box<dyn Witness>>,
    graphs: Vec<(VersionId, Arc<Graph>)>,
    executions: Vec<ExecutionId>,
    held: Vec<Held>,
    /// Those of them that wait.
    parked: Vec<Held>,
    lost: Vec<Held>,
    pub(crate) log: Vec<String>,
    /// What the store answered so far.
    pub(crate) answers: Vec<String>,
}

pub(crate) const WAITS_US: [i64; 5] = [0, 1, 500_000, SECOND, 40 * SECOND];

impl World {
    pub(crate) async fn new(fixture: Fixture, shapes: &[Shape]) -> World {
        let mut graphs = Vec::new();
        for shape in shapes {
            let graph = Arc::new(build(shape));
            // The store may have had a world before, with other graphs.
            let name = format!("w{}", fixture.next_id());
            graphs.push((fixture.version(&name, &graph).await, graph));
        }
        World {
            fixture,
            witness: None,
            graphs,
            executions: Vec::new(),
            held: Vec::new(),
            parked: Vec::new(),
            lost: Vec::new(),
            log: Vec::new(),
            answers: Vec::new(),
        }
    }

    pub(crate) async fn run(&mut self, op: &Op) {
        match op {
            Op::Advance(which) => self.fixture.advance(WAITS_US[usize::from(*which)]),
            Op::Crash(cap) => {
                self.die().await;
                self.take_back(*cap).await;
            }
            Op::Die => self.die().await,
            Op::TakeBack(cap) => self.take_back(*cap).await,
            Op::Deploy => self.deploy().await,
            Op::Batch(ops) => {
                // No two requests about one task by its holder, who does one thing at a time. Whoever
                // takes it for dead does not ask.
                let mut busy = Vec::new();
                let mut asks = Vec::new();
                for op in ops {
                    if let Some((ask, by)) = self.ask(op).await
                        && (matches!(op, Op::Recover(..))
                            || !by.is_some_and(|by| busy.contains(&by)))
                    {
                        busy.extend(by.filter(|_| !matches!(op, Op::Recover(..))));
                        asks.push((ask, by));
                    }
                }
                let (asks, by): (Vec<_>, Vec<_>) = asks.into_iter().unzip();
                let answers = self.fixture.batch(asks.clone()).await;
                self.tell(&asks, &answers);
                for (answer, by) in answers.into_iter().zip(by) {
                    self.answer(answer, by);
                }
            }
            op => {
                if let Some((ask, by)) = self.ask(op).await {
                    let (store, worker) = (self.fixture.store.clone(), self.fixture.worker);
                    let answer = ask.clone().of(store, worker).await;
                    self.tell(std::slice::from_ref(&ask), std::slice::from_ref(&answer));
                    self.answer(answer, by);
                }
            }
        }
    }

    async fn die(&mut self) {
        let lost = self.fixture.die().await;
        if let Some(witness) = &mut self.witness {
            witness.died(lost);
        }
        self.lost.append(&mut self.held);
        self.parked.clear();
    }

    async fn take_back(&mut self, crash_cap: u8) {
        self.fixture.recover(u32::from(crash_cap)).await;
        if let Some(witness) = &mut self.witness {
            witness.taken_back(self.fixture.now(), u32::from(crash_cap));
        }
    }

    async fn deploy(&mut self) {
        let woken = self.fixture.store.wake_for_code().await;
        woken.expect("wakes what waits for other code");
        if let Some(witness) = &mut self.witness {
            witness.deployed(self.fixture.now());
        }
    }

    fn tell(&mut self, asks: &[Ask], answers: &[Answer]) {
        if let Some(witness) = &mut self.witness {
            witness.asked(self.fixture.now(), self.fixture.worker, asks, answers);
        }
    }

    fn queues(&self) -> Arc<[VersionId]> {
        self.graphs.iter().map(|(version, _)| *version).collect()
    }

    /// What an operation asks for, and the holder of the task that asks.
    async fn ask(&mut self, op: &Op) -> Option<(Ask, Option<Held>)> {
        Some(match op {
            Op::Claim(max) => (Ask::Claim(self.queues(), u32::from(*max)), None),
            Op::Fire(limit) => (Ask::Fire(u32::from(*limit)), None),
            op => {
                let (mut request, by) = self.request(op).await?;
                self.give_back(&mut request, op).await;
                (Ask::Apply(Box::new(request)), by)
            }
        })
    }

    fn pick(&self, task: u8) -> Option<Held> {
        (!self.held.is_empty()).then(|| self.held[usize::from(task) % self.held.len()])
    }

    /// A task that waits, if there is one.
    fn pick_parked(&self, task: u8) -> Option<Held> {
        match self.parked.len() {
            0 => self.pick(task),
            parked => Some(self.parked[usize::from(task) % parked]),
        }
    }

    /// The request of an operation, and the holder it comes from.
    async fn request(&mut self, op: &Op) -> Option<(Request, Option<Held>)> {
        Some(match op {
            Op::Start { .. } => (self.start(op), None),
            Op::Finish { task, end, slots } => {
                let held = self.pick(*task)?;
                let offer = self.offer(*slots);
                (self.finish(held, end, offer).await, Some(held))
            }
            Op::Late { task, end } => {
                let held = *self.lost.get(usize::from(*task) % self.lost.len().max(1))?;
                (self.finish(held, end, None).await, None)
            }
            Op::Defer(task) => {
                let held = self.pick(*task)?;
                (
                    Request::Defer(Defer {
                        held,
                        given_back: Vec::new(),
                        wait: "a condition".into(),
                    }),
                    Some(held),
                )
            }
            Op::Resume(task, always) => {
                let held = self.pick_parked(*task)?;
                let resume = Resume {
                    held,
                    given_back: Vec::new(),
                    always: *always,
                    next_order: self.fixture.next_order(held.key).await,
                };
                (Request::Resume(resume), Some(held))
            }
            Op::Await { task, waits, evict } => {
                let held = self.pick(*task)?;
                let (operations, next_order) = self.waits(held, waits).await?;
                let request = Await {
                    held,
                    given_back: Vec::new(),
                    operations,
                    next_order,
                    evict: *evict,
                };
                (Request::Await(request), Some(held))
            }
            Op::Watch { task, waits } => {
                let held = self.pick(*task)?;
                let (operations, next_order) = self.waits(held, waits).await?;
                let request = Watch {
                    held,
                    given_back: Vec::new(),
                    operations,
                    next_order,
                };
                (Request::Watch(request), Some(held))
            }
            Op::Evict(task) => {
                let held = self.pick_parked(*task)?;
                let next_order = self.fixture.next_order(held.key).await;
                (Evict { held, next_order }.into(), Some(held))
            }
            Op::Record(task, count, failed) => {
                let held = self.pick(*task)?;
                (self.record(held, *count, *failed).await, Some(held))
            }
            Op::Recover(task, cap) => {
                let held = self.pick(*task)?;
                let recover = Recover {
                    key: held.key,
                    worker: held.worker,
                    crash_cap: u32::from(*cap),
                    alone: true,
                    reason: "taken for dead".into(),
                };
                (Request::Recover(recover), Some(held))
            }
            Op::Progress(task) => {
                let held = self.pick(*task)?;
                (
                    Request::Progress(Progress {
                        held,
                        value: "{\"percent\":5}".into(),
                    }),
                    Some(held),
                )
            }
            Op::Signal(instance, name) => {
                let signal = Signal {
                    instance: format!("i{instance}").into(),
                    name: format!("s{name}").into(),
                    payload: Payload::from_json(format!("{{\"yes\":{}}}", self.answers.len())),
                    actor: (*name == 0).then(|| "user:sender".into()),
                };
                (Request::Signal(signal), None)
            }
            Op::Cancel(execution, grace) => {
                let grace_us = [0, SECOND, 60 * SECOND, 600 * SECOND][usize::from(*grace)];
                (self.act(*execution, Action::Cancel { grace_us })?, None)
            }
            Op::SetPriority(execution, priority) => {
                let priority = i16::from(*priority);
                (
                    self.act(*execution, Action::SetPriority { priority })?,
                    None,
                )
            }
            Op::Claim(_) | Op::Advance(_) | Op::Fire(_) | Op::Batch(_) => return None,
            Op::Crash(_) | Op::Die | Op::TakeBack(_) | Op::Deploy => return None,
        })
    }

    fn act(&self, execution: u8, action: Action) -> Option<Request> {
        let at = usize::from(execution) % self.executions.len().max(1);
        let act = Act {
            actor: Some("user:test".into()),
            ..Act::on(*self.executions.get(at)?, action, "enough")
        };
        Some(act.into())
    }

    fn start(&mut self, op: &Op) -> Request {
        let Op::Start {
            shape,
            instance,
            exists,
            own_graph,
            start_in,
            deadline_in,
            slots,
        } = op
        else {
            unreachable!("only for starts")
        };
        let (version, graph) = self.graphs[usize::from(*shape) % self.graphs.len()].clone();
        let mut start = self
            .fixture
            .start_request(&format!("i{instance}"), version, &graph);
        let later = |which: &u8| {
            let wait = WAITS_US.get(usize::from(*which));
            wait.map(|us| self.fixture.now().plus_us(*us))
        };
        start.start_at = later(start_in);
        start.deadline_at = later(deadline_in).map(|at| at.plus_us(2 * SECOND));
        start.own_graph = *own_graph;
        start.priority = i16::from(*instance);
        start.input_hash = format!("{instance}");
        if *own_graph {
            start.node_inputs = vec![(1, Payload::from_json(format!("\"{}\"", "x".repeat(2000))))];
        }
        start.if_exists = match exists {
            0..4 => IfExists::StartAnew,
            4..8 => IfExists::UseExisting,
            _ => IfExists::Reject,
        };
        start.offer = self.offer(*slots);
        Request::Start(Box::new(start))
    }

    /// One or two slots, at the first hop, at the last one or after that.
    fn offer(&self, which: u8) -> Option<Offer> {
        let (slots, hop) = match which {
            0 => return None,
            1 | 2 => (u32::from(which), 0),
            3 => (1, MAX_HOPS),
            _ => (2, MAX_HOPS - 1),
        };
        Some(Offer {
            worker: self.fixture.worker,
            slots,
            hop,
            queues: self.queues(),
            fills: which == 2 || which > 3,
        })
    }

    async fn finish(&self, held: Held, end: &End, offer: Option<Offer>) -> Request {
        let outcome = match end {
            End::Completed { big, changes } => Outcome::Completed {
                output: Some(Payload::from_json(format!(
                    "\"{}\"",
                    "o".repeat(if *big { 1500 } else { 5 })
                ))),
                changes: (*changes > 0).then(|| {
                    let value = serde_json::json!(held.key.number);
                    let value = (*changes < 3).then_some(value);
                    Changes(BTreeMap::from([("n".to_owned(), value)]))
                }),
                checkpoint: None,
            },
            End::Failed { kind, supersede } => {
                let mut failure = Failure::new("io", format!("failed in way {kind}"));
                failure.retry = match kind {
                    0 => RetryHint::Default,
                    1 => RetryHint::After(0),
                    2 => RetryHint::After(SECOND),
                    _ => RetryHint::Fatal,
                };
                if *kind == 2 {
                    failure.message = "long ".repeat(400);
                }
                Outcome::Failed {
                    failure,
                    random: 0.3,
                    rerun: self.rerun(held.key).await.filter(|_| *supersede),
                }
            }
            End::Released => Outcome::Released {
                reason: "shutdown".into(),
            },
            End::Cancelled => Outcome::Cancelled,
            End::Nondeterministic => Outcome::Nondeterministic {
                difference: "operation 1 differs".into(),
            },
        };
        Request::Finish(Box::new(Finish {
            held,
            given_back: Vec::new(),
            outcome,
            offer,
        }))
    }

    /// The last failed operation, and everything recorded after it.
    async fn rerun(&self, key: TaskKey) -> Option<Rerun> {
        let steps = self.fixture.store.steps(key).await.expect("reads");
        let failed = steps
            .iter()
            .rfind(|step| matches!(step.end, StepEnd::Failed(_)))?;
        let supersede = Supersede {
            failed: failed.id.number,
            from: failed.id.number + 1,
        };
        let operations = vec![Superseded {
            number: failed.id.number,
            kind: failed.id.kind,
            name: failed.id.name.clone(),
            error: None,
        }];
        Some(Rerun {
            supersede,
            operations,
        })
    }

    async fn next_number(&self, key: TaskKey) -> u32 {
        let steps = self.fixture.store.steps(key).await.expect("reads");
        steps.iter().map(|step| step.id.number).max().unwrap_or(0) + 1
    }

    async fn record(&self, held: Held, count: u8, failed: bool) -> Request {
        let (number, order) = (
            self.next_number(held.key).await,
            self.fixture.next_order(held.key).await,
        );
        // Without one of its own it takes the first, which is refused if that is taken.
        let (number, count) = match count {
            0 => (1, 1),
            count => (number, u32::from(count)),
        };
        let steps = (0..count).map(|at| StepRecord {
            id: step_id(number + at, StepKind::Step, "step"),
            end: match failed {
                true => StepEnd::Failed(Failure::new("io", "no")),
                false => StepEnd::Done(Payload::from_json(format!(
                    "\"{}\"",
                    "r".repeat(800 * count as usize)
                ))),
            },
            order: order + at,
        });
        Request::Record(Record {
            held,
            given_back: Vec::new(),
            steps: steps.collect(),
        })
    }

    /// Some of what it waited for before, and something new; and the place of the next result.
    async fn waits(&self, held: Held, waits: &[(bool, u8)]) -> Option<(Vec<Operation>, u32)> {
        let steps = self.fixture.store.steps(held.key).await.expect("reads");
        let mut operations = Vec::new();
        for step in &steps {
            if let (StepEnd::Waiting { due_at }, true) = (&step.end, step.id.number % 2 == 0) {
                operations.push(Operation {
                    id: step.id.clone(),
                    due_at: *due_at,
                });
            }
        }
        let numbers = self.next_number(held.key).await..;
        for (number, (is_sleep, which)) in numbers.zip(waits) {
            operations.push(match is_sleep {
                true => {
                    let us = WAITS_US[usize::from(*which)];
                    sleep(number, self.fixture.now().plus_us(us))
                }
                false => signal(number, &format!("s{}", which % 2)),
            });
        }
        if operations.is_empty() {
            return None;
        }
        Some((operations, self.fixture.next_order(held.key).await))
    }

    /// Adds to one in four requests that their task did not take some of the signals it was answered
    /// with last.
    async fn give_back(&self, request: &mut Request, op: &Op) {
        let which = match op {
            Op::Finish { task, .. } | Op::Await { task, .. } | Op::Watch { task, .. } => *task,
            Op::Defer(task) | Op::Resume(task, _) | Op::Record(task, ..) => *task,
            _ => return,
        };
        if which % 4 != 3 {
            return;
        }
        let which = which >> 2;
        let (held, given_back) = match request {
            Request::Finish(finish) => (finish.held, &mut finish.given_back),
            Request::Defer(defer) => (defer.held, &mut defer.given_back),
            Request::Resume(resume) => (resume.held, &mut resume.given_back),
            Request::Await(request) => (request.held, &mut request.given_back),
            Request::Watch(watch) => (watch.held, &mut watch.given_back),
            Request::Record(record) => (record.held, &mut record.given_back),
            _ => return,
        };
        let mut steps = self.fixture.store.steps(held.key).await.expect("reads");
        let name = format!("s{}", which % 2);
        steps.retain(|step| step.id.kind == StepKind::Signal && step.id.name == name);
        steps.retain(|step| matches!(step.end, StepEnd::Done(_)));
        let mut one = GivenBack::default();
        let last = steps.len().saturating_sub(4);
        for (bit, step) in steps[last..].iter().enumerate() {
            if which >> (bit + 1) & 1 == 1 {
                one.operations.push(step.id.number);
            } else if !one.operations.is_empty() {
                one.heirs.push(step.id.number);
            }
        }
        given_back.push(one);
    }

    fn take(&mut self, claimed: &[Claimed]) {
        self.held.extend(claimed.iter().map(held));
    }

    fn drop_held(&mut self, by: Option<Held>) {
        if let Some(by) = by {
            self.held.retain(|held| *held != by);
            self.parked.retain(|held| *held != by);
            self.lost.push(by);
        }
    }

    fn answer(&mut self, answer: Answer, by: Option<Held>) {
        self.answers.push(in_words(&answer));
        let reply = match answer {
            Answer::Reply(reply) => reply,
            Answer::Claims(claims) => return self.take(&claims.claimed),
            Answer::Fired(_) => return,
        };
        match reply {
            Ok(Reply::Recovered(recovered)) if recovered != Recovered::Unchanged => {
                self.drop_held(by);
            }
            Ok(Reply::Started(started)) => {
                if !self.executions.contains(&started.id) {
                    self.executions.push(started.id);
                }
                self.take(&started.claimed);
            }
            Ok(Reply::Finished(finished)) => {
                self.drop_held(by);
                self.take(&finished.claimed);
            }
            Ok(Reply::Answered(answered)) => {
                self.parked.retain(|held| Some(*held) != by);
                match answered.phase {
                    Phase::Deferred => self.parked.extend(by),
                    Phase::Active => {}
                    _ => self.drop_held(by),
                }
            }
            Ok(_) => {}
            Err(ApplyError::Refused(Refusal::LeaseLost { .. })) => self.drop_held(by),
            Err(ApplyError::Refused(refusal @ Refusal::Illegal(_))) => panic!("{refusal}"),
            Err(ApplyError::Refused(_)) => {}
            Err(ApplyError::Store(error)) => panic!("{error}"),
        }
    }

    /// After these operations.
    pub(crate) async fn assert_clean(&mut self, ops: &[Op]) {
        self.log.extend(ops.iter().map(|op| format!("{op:?}")));
        let report = self.fixture.verify().await;
        assert!(
            report.is_clean(),
            "{report}\nafter {}",
            self.log.join("\n      ")
        );
    }

    /// Brings everything to an end: nothing was forgotten.
    pub(crate) async fn drain(&mut self) {
        for round in 0.. {
            let mut open = Vec::new();
            for id in &self.executions {
                if !self.fixture.status(*id).await.is_terminal() {
                    open.push(*id);
                }
            }
            if open.is_empty() {
                return;
            }
            assert!(
                round < 400,
                "{open:?} never end, after {}",
                self.log.join("\n      ")
            );
            self.fixture.advance(20 * SECOND);
            self.run(&Op::Fire(100)).await;
            if round % 10 == 9 {
                self.run(&Op::Crash(200)).await;
                self.run(&Op::Deploy).await;
            }
            for instance in 0..4 {
                for name in 0..2 {
                    self.run(&Op::Signal(instance, name)).await;
                }
            }
            self.run(&Op::Claim(50)).await;
            while !self.held.is_empty() {
                let end = End::Completed {
                    big: false,
                    changes: 1,
                };
                self.run(&Op::Finish {
                    task: 0,
                    end,
                    slots: 1,
                })
                .await;
            }
        }
    }
}

/// An answer without the graphs in it.
fn in_words(answer: &Answer) -> String {
    let tasks = |claimed: &[Claimed]| {
        let tasks: Vec<_> = claimed.iter().map(|claimed| &claimed.task).collect();
        format!("{tasks:?}")
    };
    match answer {
        Answer::Claims(claims) => format!("{} {:?}", tasks(&claims.claimed), claims.notices),
        Answer::Fired(fired) => format!("{fired:?}"),
        Answer::Reply(Ok(Reply::Started(started))) => {
            let (id, created, status) = (started.id, started.created, started.status);
            format!("{id} {created} {status:?} {}", tasks(&started.claimed))
        }
        Answer::Reply(Ok(Reply::Finished(finished))) => {
            let (recorded, phase) = (finished.recorded, finished.phase);
            format!("{recorded} {phase:?} {}", tasks(&finished.claimed))
        }
        Answer::Reply(reply) => format!("{reply:?}"),
    }
}
