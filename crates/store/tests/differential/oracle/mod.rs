//! The same store once more, as plain values in memory: what is promised to come of every
//! request, worked out in the most naive way. It shares no rule with the engine. Nothing is counted
//! along and nothing is kept that can be seen: who is ready, what is in the queue, which timers run,
//! what a row's counters say and whether an execution is over is found by looking at every node
//! again. A fault of the rules, which both databases share, shows here.
//!
//! Where the promises leave a choice (who gets an offered slot among those who may), the oracle
//! follows the engine and only asks whether that choice was allowed: see `offers`.

mod claims;
mod compare;
mod ends;
mod graph;
mod offers;
mod rows;
mod said;
mod starts;
mod state;
mod stops;
mod timers;
mod waits;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use abide_core::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use abide_core::kernel::{Held, Refusal, Request};
use abide_core::task::Death;

use self::offers::Offers;
use self::said::Said;
use self::state::{Letter, Node, Run};
use self::timers::Timers;
use crate::fixture::{Answer, Ask};
use crate::world::Witness;

/// What a request comes to: an answer, or a refusal that changes nothing.
type Outcome = Result<Said, Refusal>;

/// Everything that a store should hold.
#[derive(Default)]
pub(crate) struct Oracle {
    now: Timestamp,
    runs: BTreeMap<ExecutionId, Run>,
    letters: Vec<Letter>,
    inbox: BTreeSet<Note>,
    /// Workers whose process died.
    dead: BTreeSet<WorkerId>,
    /// Where the engine answered something else.
    pub(crate) complaints: Vec<String>,
}

/// A task that can be claimed now. The order is the queue's: what goes first is less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Queued {
    /// Negated, so that higher ones go first.
    rank: i32,
    ready_at: Timestamp,
    key: TaskKey,
    queue: VersionId,
}

/// A word to a worker about a task that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Note {
    worker: WorkerId,
    queue: VersionId,
    at: Timestamp,
    key: TaskKey,
}

/// The oracle of a world, as that world tells it what it did.
pub(crate) type Shared = Rc<RefCell<Oracle>>;

impl Witness for Shared {
    fn asked(&mut self, now: Timestamp, worker: WorkerId, asks: &[Ask], answers: &[Answer]) {
        self.borrow_mut().asked(now, worker, asks, answers);
    }

    fn died(&mut self, lost: WorkerId) {
        self.borrow_mut().dead.insert(lost);
    }

    fn taken_back(&mut self, now: Timestamp, crash_cap: u32) {
        self.borrow_mut().take_back(now, crash_cap);
    }

    fn deployed(&mut self, now: Timestamp) {
        self.borrow_mut().deploy(now);
    }
}

impl Oracle {
    /// One transaction: what a claim or a firing may take is what is there when it begins, then
    /// each request sees what those before it did. At the end, slots that are left are filled with what was
    /// there when it began.
    fn asked(&mut self, now: Timestamp, worker: WorkerId, asks: &[Ask], answers: &[Answer]) {
        self.now = now;
        let (queue, inbox) = (self.queue(), self.inbox.clone());
        let mut due = Timers::new(self.timers(), now);
        let mut offers = Offers::new(&queue);
        let mut left = queue.clone();
        let mut said = Vec::new();
        for (ask, answer) in asks.iter().zip(answers) {
            let own = match ask {
                Ask::Claim(queues, max) => {
                    let inbox = inbox.iter().filter(|note| note.worker == worker);
                    let rows = queue.iter().filter(|row| queues.contains(&row.queue));
                    let rows: Vec<_> = rows.take(*max as usize).collect();
                    left.retain(|row| !rows.contains(&row));
                    self.claim(worker, rows.into_iter(), inbox)
                }
                Ask::Fire(limit) => self.fire(due.take(*limit)),
                Ask::Apply(request) => {
                    let said = self.apply(request, &mut offers, &Said::of(answer));
                    said.unwrap_or_else(Said::Refused)
                }
            };
            offers.look(&self.queue());
            said.push(own);
        }
        self.fill(asks, &mut said, &left);
        for ((ask, answer), own) in asks.iter().zip(answers).zip(said) {
            let engine = Said::of(answer);
            if own != engine {
                let complaint = format!("{ask:?}\nthe oracle: {own:?}\nthe engine: {engine:?}");
                self.complaints.push(complaint);
            }
        }
        self.complaints.extend(offers.complaints);
    }

    fn apply(&mut self, request: &Request, offers: &mut Offers, engine: &Said) -> Outcome {
        offers.for_request(engine);
        match request {
            Request::Start(start) => self.start(start, offers),
            Request::Finish(finish) => self.finish(finish, offers),
            Request::Defer(defer) => self.defer(defer),
            Request::Resume(resume) => self.resume(resume),
            Request::Await(request) => self.await_operations(request),
            Request::Watch(watch) => self.watch(watch),
            Request::Evict(evict) => self.evict(evict),
            Request::Record(record) => self.record(record),
            Request::Progress(progress) => self.progress(progress),
            Request::Signal(signal) => self.signal(signal),
            Request::Act(act) => self.act(act),
            Request::Recover(recover) => {
                let recovered = self.recover(
                    recover.key,
                    recover.worker,
                    &Death {
                        alone: recover.alone,
                        crash_cap: recover.crash_cap,
                        reason: &recover.reason,
                    },
                );
                Ok(Said::Recovered(recovered))
            }
            other => panic!("no world asks for this: {other:?}"),
        }
    }

    // ---- looking ----

    fn run(&mut self, id: ExecutionId) -> &mut Run {
        self.runs
            .get_mut(&id)
            .expect("worlds name what they started")
    }

    fn node(&mut self, key: TaskKey) -> &mut Node {
        self.run(key.execution).node_mut(key.number)
    }

    fn find(&self, key: TaskKey) -> Option<(&Run, &Node)> {
        let run = self.runs.get(&key.execution)?;
        Some((run, run.node(key.number)))
    }

    fn require_held(&self, held: Held) -> Result<(), Refusal> {
        let is_held = self
            .find(held.key)
            .is_some_and(|(_, node)| node.is_held_as(held));
        let (key, epoch) = (held.key, held.epoch);
        is_held
            .then_some(())
            .ok_or(Refusal::LeaseLost { key, epoch })
    }

    /// Every node that is ready and waits for no timer, in the order in which they go.
    fn queue(&self) -> Vec<Queued> {
        let mut queue = Vec::new();
        for run in self.runs.values() {
            for node in run.nodes.iter().filter(|node| node.is_in_the_queue()) {
                queue.push(Queued {
                    rank: -run.priority_of(node.number),
                    ready_at: node.ready_at.expect("it is ready"),
                    key: run.key(node.number),
                    queue: run.workflow,
                });
            }
        }
        queue.sort_unstable();
        queue
    }

    /// Tells the worker that holds a task to look at it.
    fn notify(&mut self, key: TaskKey) {
        let at = self.now;
        let run = self.run(key.execution);
        let note = Note {
            worker: run.node(key.number).worker.expect("it is held"),
            queue: run.workflow,
            at,
            key,
        };
        self.inbox.insert(note);
    }
}
