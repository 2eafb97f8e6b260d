//! What can be asked of the kernel, and what it answers.

use std::sync::Arc;

use crate::context::Changes;
use crate::failure::Failure;
use crate::graph::Graph;
use crate::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use crate::payload::Payload;
use crate::status::{ExecutionStatus, Phase};
use crate::step::{Operation, OperationResult, StepRecord};
use crate::table::By;
use crate::task::Task;
use crate::timer::Timer;

use super::action::{Act, Acted};
use super::offer::Offer;
use super::outbox_row::OutboxRow;
use super::rerun::Rerun;
use super::subject::Subject;

/// One request: applied whole, or refused with nothing written.
#[derive(Clone, Debug)]
pub enum Request {
    /// Start an execution.
    Start(Box<Start>),
    /// Write the next piece of a large graph whose execution is not published yet.
    AddTasks(AddTasks),
    /// Publish an execution whose whole graph is written.
    Publish(Publish),
    /// Claim these tasks, whose outbox rows were found.
    Claim(Claim),
    /// Record how a claimed task ended.
    Finish(Box<Finish>),
    /// A task gives its slot away while it polls a condition.
    Defer(Defer),
    /// A deferred task holds a slot again; its durable waits that are over are answered.
    Resume(Resume),
    /// Record the durable operations a task waits for; answers those that are over already.
    Await(Await),
    /// Record the durable operations that a task waits for while a step of it runs: it stays where
    /// it is. Answers those that are over already.
    Watch(Watch),
    /// Drop a parked task from memory: its waits move to the store.
    Evict(Evict),
    /// Record finished steps.
    Record(Record),
    /// Send a signal to an instance.
    Signal(Signal),
    /// Do what a person or program asks.
    Act(Act),
    /// A timer fell due.
    Fire(Timer),
    /// Take a dead worker's task back.
    Recover(Recover),
    /// Take a wake-up out of a worker's inbox.
    Inbox(Inbox),
    /// Record a task's latest progress.
    Progress(Progress),
}

impl Request {
    /// What the request is about.
    pub fn subject(&self) -> Subject {
        let execution = match self {
            Request::Start(start) => return Subject::Instance(start.instance.clone()),
            Request::Signal(signal) => return Subject::Instance(signal.instance.clone()),
            Request::Act(act) => return act.subject.clone(),
            Request::AddTasks(piece) => piece.execution,
            Request::Publish(publish) => publish.execution,
            Request::Claim(claim) => claim.key.execution,
            Request::Finish(finish) => finish.held.key.execution,
            Request::Defer(defer) => defer.held.key.execution,
            Request::Resume(Resume { held, .. }) | Request::Evict(Evict { held, .. }) => {
                held.key.execution
            }
            Request::Await(request) => request.held.key.execution,
            Request::Watch(watch) => watch.held.key.execution,
            Request::Record(record) => record.held.key.execution,
            Request::Fire(timer) => timer.execution,
            Request::Recover(recover) => recover.key.execution,
            Request::Inbox(inbox) => inbox.row.key.execution,
            Request::Progress(progress) => progress.held.key.execution,
        };
        Subject::Execution(execution)
    }
}

/// What to do when the instance already has an execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfExists {
    /// The same workflow, of whichever version, with the same input gets the existing execution,
    /// whatever its status; another workflow or input is refused.
    #[default]
    UseExisting,
    /// Refuse.
    Reject,
    /// Start the next generation if the last has ended and is of the same workflow; otherwise as
    /// `UseExisting`. Signals that the last one did not read stay its own.
    StartAnew,
}

/// See [`Request::Start`].
#[derive(Clone, Debug)]
pub struct Start {
    /// Id for the new execution.
    pub id: ExecutionId,
    /// The instance.
    pub instance: Arc<str>,
    /// The workflow version to run.
    pub workflow: VersionId,
    /// Its graph: the version's, or one built at run time.
    pub graph: Arc<Graph>,
    /// Whether the graph was built at run time and is stored with the execution.
    pub own_graph: bool,
    /// The workflow's input.
    pub input: Option<Payload>,
    /// Inputs of single nodes of a run-time graph, by number.
    pub node_inputs: Vec<(u32, Payload)>,
    /// Canonical digest of everything given, by which a repeated start is recognised.
    pub input_hash: String,
    /// What to do when the instance exists.
    pub if_exists: IfExists,
    /// See [`crate::execution::Execution::priority`].
    pub priority: i16,
    /// Not before this time.
    pub start_at: Option<Timestamp>,
    /// Times out at this time.
    pub deadline_at: Option<Timestamp>,
    /// Labels, as a JSON array of strings; stored as given.
    pub tags: Option<String>,
    /// Who starts it.
    pub by: By,
    /// Their name in history.
    pub actor: Option<Arc<str>>,
    /// Slots to claim into.
    pub offer: Option<Offer>,
}

impl Start {
    /// A start of a version's graph by a user, without an input, options and slots.
    pub fn of(
        id: ExecutionId,
        instance: impl Into<Arc<str>>,
        workflow: VersionId,
        graph: &Arc<Graph>,
    ) -> Start {
        Start {
            id,
            instance: instance.into(),
            workflow,
            graph: graph.clone(),
            own_graph: false,
            input: None,
            node_inputs: Vec::new(),
            input_hash: String::new(),
            if_exists: IfExists::UseExisting,
            priority: 0,
            start_at: None,
            deadline_at: None,
            tags: None,
            by: By::User,
            actor: None,
            offer: None,
        }
    }
}

/// See [`Request::AddTasks`].
#[derive(Clone, Debug)]
pub struct AddTasks {
    /// The execution that is being built.
    pub execution: ExecutionId,
    /// Its graph.
    pub graph: Arc<Graph>,
    /// First number of the piece.
    pub first: u32,
    /// Last number of the piece.
    pub last: u32,
    /// Inputs of the nodes of the piece, by number.
    pub node_inputs: Vec<(u32, Payload)>,
}

/// See [`Request::Publish`].
#[derive(Clone, Debug)]
pub struct Publish {
    /// The execution that is built.
    pub execution: ExecutionId,
    /// As given at the start.
    pub input_hash: String,
    /// As given at the start.
    pub if_exists: IfExists,
}

/// See [`Request::Claim`].
#[derive(Clone, Debug)]
pub struct Claim {
    /// The task that an outbox row names.
    pub key: TaskKey,
    /// The worker that claims it.
    pub worker: WorkerId,
    /// The outbox row, deleted whether or not the task may run.
    pub row: OutboxRow,
}

/// A claimed task as its holder names it in every write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The task.
    pub key: TaskKey,
    /// The epoch of the claim.
    pub epoch: u32,
    /// The holder.
    pub worker: WorkerId,
}

/// How a claimed task ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It returned.
    Completed {
        /// Its output.
        output: Option<Payload>,
        /// What it changed in the context.
        changes: Option<Changes>,
        /// All that the context changed up to and including it, as [`Changes`], when a checkpoint is due.
        checkpoint: Option<Payload>,
    },
    /// It failed, panicked or timed out.
    Failed {
        /// The error.
        failure: Failure,
        /// A random number in [0, 1) for the retry's jitter.
        random: f64,
        /// Recorded operations that the next attempt runs again.
        rerun: Option<Rerun>,
    },
    /// It is given back unfinished, at shutdown.
    Released {
        /// Why.
        reason: String,
    },
    /// It stopped because its execution does.
    Cancelled,
    /// Its code does not match its record: it waits for other code, nothing is lost.
    Nondeterministic {
        /// The readable difference.
        difference: String,
    },
}

/// Waits for signals that were answered, but whose answers the code did not take, because it dropped
/// the futures. Their signals go back to the mailboxes, first in line, with the request that says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenBack {
    /// The operations, all of one mailbox.
    pub operations: Vec<u32>,
    /// Operations that were answered after these from the same mailbox and whose answers the code
    /// has not taken yet, in the order of their answers. Of all the signals, the heirs keep the
    /// oldest and the youngest go back, so that the order of the mailbox is kept.
    pub heirs: Vec<u32>,
}

/// See [`Request::Finish`].
#[derive(Clone, Debug)]
pub struct Finish {
    /// The task.
    pub held: Held,
    /// Signals that the code did not take.
    pub given_back: Vec<GivenBack>,
    /// How it ended.
    pub outcome: Outcome,
    /// The slot it leaves, and others that are free.
    pub offer: Option<Offer>,
}

/// See [`Request::Defer`].
#[derive(Clone, Debug)]
pub struct Defer {
    /// The task.
    pub held: Held,
    /// Signals that the code did not take.
    pub given_back: Vec<GivenBack>,
    /// What it waits for, in words.
    pub wait: String,
}

/// See [`Request::Resume`].
#[derive(Clone, Debug)]
pub struct Resume {
    /// The task.
    pub held: Held,
    /// Signals that the code did not take. They are back before the waits are looked at.
    pub given_back: Vec<GivenBack>,
    /// Resume even if none of its durable waits is over, since it has something else to go on
    /// with: a polled condition came true, or it is to stop.
    pub always: bool,
    /// The place in the order of results that the first answer gets.
    pub next_order: u32,
}

/// See [`Request::Await`].
#[derive(Clone, Debug)]
pub struct Await {
    /// The task.
    pub held: Held,
    /// Signals that the code did not take. They are back before the waits are looked at.
    pub given_back: Vec<GivenBack>,
    /// All the operations it waits for. Those already recorded as waiting may be named again; a
    /// recorded wait that is not named is withdrawn, so that nothing is delivered to it any more.
    pub operations: Vec<Operation>,
    /// The place in the order of results that the first answer gets.
    pub next_order: u32,
    /// Whether the future is dropped from memory at once if nothing is over yet.
    pub evict: bool,
}

/// See [`Request::Watch`].
#[derive(Clone, Debug)]
pub struct Watch {
    /// The task.
    pub held: Held,
    /// As in [`Await`].
    pub given_back: Vec<GivenBack>,
    /// As in [`Await`].
    pub operations: Vec<Operation>,
    /// As in [`Await`].
    pub next_order: u32,
}

/// See [`Request::Evict`].
#[derive(Clone, Copy, Debug)]
pub struct Evict {
    /// The task.
    pub held: Held,
    /// The place in the order of results that the first answer gets.
    pub next_order: u32,
}

/// See [`Request::Record`].
#[derive(Clone, Debug)]
pub struct Record {
    /// The task.
    pub held: Held,
    /// Signals that the code did not take.
    pub given_back: Vec<GivenBack>,
    /// Finished operations.
    pub steps: Vec<StepRecord>,
}

/// See [`Request::Signal`].
#[derive(Clone, Debug)]
pub struct Signal {
    /// The instance it is sent to.
    pub instance: Arc<str>,
    /// The mailbox.
    pub name: Arc<str>,
    /// What it carries.
    pub payload: Payload,
    /// Who sends it.
    pub actor: Option<Arc<str>>,
}

/// See [`Request::Recover`].
#[derive(Clone, Debug)]
pub struct Recover {
    /// The task.
    pub key: TaskKey,
    /// The worker that is dead.
    pub worker: WorkerId,
    /// Crashes in a row that a task survives.
    pub crash_cap: u32,
    /// Whether the dead worker held no other task that was Active: then no other task can have taken
    /// the process down.
    pub alone: bool,
    /// How its death was noticed.
    pub reason: String,
}

/// See [`Request::Inbox`].
#[derive(Clone, Debug)]
pub struct Inbox {
    /// The row, deleted.
    pub row: OutboxRow,
}

/// See [`Request::Progress`].
#[derive(Clone, Debug)]
pub struct Progress {
    /// The task.
    pub held: Held,
    /// The latest value, as JSON.
    pub value: String,
}

/// What a request answers when it is applied.
#[derive(Clone, Debug)]
pub enum Reply {
    /// To [`Request::Start`] and [`Request::Publish`].
    Started(Started),
    /// To requests that have nothing to say but that they are done.
    Done(()),
    /// To [`Request::Claim`]: the task, or none if it may not run any more.
    Claimed(Option<Box<Claimed>>),
    /// To [`Request::Finish`].
    Finished(Finished),
    /// To [`Request::Defer`], [`Request::Resume`], [`Request::Await`], [`Request::Watch`] and
    /// [`Request::Evict`].
    Answered(Answered),
    /// To [`Request::Signal`].
    Signalled(Signalled),
    /// To [`Request::Act`].
    Acted(Acted),
    /// To [`Request::Recover`].
    Recovered(Recovered),
    /// To [`Request::Inbox`]: what the worker should do about the task.
    Notice(Option<Notice>),
}

/// To whom a start belongs.
#[derive(Clone, Debug)]
pub struct Started {
    /// The execution: the new one, or the one that the instance already had.
    pub id: ExecutionId,
    /// Its generation.
    pub generation: u32,
    /// Where it stands.
    pub status: ExecutionStatus,
    /// Whether this request created it.
    pub created: bool,
    /// Tasks claimed into the offered slots.
    pub claimed: Vec<Claimed>,
}

/// A task that was claimed: everything its worker needs to run it, but for what is read on demand
/// (inputs, context, outputs of dependencies, recorded steps).
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The row as the claim left it.
    pub task: Task,
    /// The instance.
    pub instance: Arc<str>,
    /// The workflow version.
    pub workflow: VersionId,
    /// The execution's priority and the task's together.
    pub priority: i16,
    /// When the execution times out.
    pub deadline_at: Option<Timestamp>,
    /// The graph it is part of.
    pub graph: Arc<Graph>,
    /// Its input, where the transaction that claimed it had it at hand.
    pub input: Option<Payload>,
    /// How many claims in a row came without asking the outbox.
    pub hop: u8,
}

/// How the record of an outcome went.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Whether it was recorded; if not, the task was no longer the sender's, and history says
    /// that a late result was discarded.
    pub recorded: bool,
    /// Where the task stands now.
    pub phase: Phase,
    /// What was claimed into the offered slots: successors, and behind them what the slots were filled with.
    pub claimed: Vec<Claimed>,
}

/// Durable waits that are over.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The operations and their results.
    pub results: Vec<OperationResult>,
    /// Where the task stands now: Active if it may go on; Deferred or Evicted if it waits; Ready
    /// if it was evicted and woken in one.
    pub phase: Phase,
    /// Whether the execution is stopping.
    pub cancelling: bool,
}

/// Where a signal went.
#[derive(Clone, Debug)]
pub struct Signalled {
    /// The execution that was live.
    pub execution: ExecutionId,
    /// The signal's number in its mailbox, from 1.
    pub number: i64,
}

/// What became of a dead worker's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// It can be claimed again.
    Recovered,
    /// It was abandoned.
    Abandoned,
    /// It was cancelled, since its execution is stopping.
    Cancelled,
    /// It was not the dead worker's any more.
    Unchanged,
}

/// What a wake-up in a worker's inbox tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Something a parked task waits for may have come.
    Wake(TaskKey),
    /// The task's execution is stopping.
    Stop(TaskKey),
    /// The worker no longer holds the task.
    Lost(TaskKey),
}
