//! The working set of one flush: the rows it read, what the rules made of them, and what is to be
//! written. A request that stops half-way leaves no trace in it.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::context::Changes;
use crate::event::Event;
use crate::execution::Execution;
use crate::failure::Failure;
use crate::graph::Graph;
use crate::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use crate::payload::Payload;
use crate::status::ExecutionStatus;
use crate::step::{Operation, StepKind, StepRecord};
use crate::table::Illegal;
use crate::task::Task;
use crate::timer::Timer;

use super::request::{OutboxRow, Refusal, Supersede};

/// Something a rule needs that was not read yet. The store reads it, in the same transaction, and
/// runs the request again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// The latest execution of an instance.
    Instance(Arc<str>),
    /// An execution's row.
    Execution(ExecutionId),
    /// A task's row.
    Task(TaskKey),
    /// The graph of an execution: its own, or that of its workflow version.
    Graph(ExecutionId, VersionId, bool),
    /// Rows of the execution's open tasks, at most [`super::PIECE`] of them that are not held by a
    /// worker, and all that are.
    OpenTasks(ExecutionId),
    /// Rows of the execution's tasks that Failed or were Abandoned.
    Failures(ExecutionId),
    /// What the execution's tasks changed in the context, and the context it began with.
    Context(ExecutionId),
    /// The waits a task has recorded.
    Waits(TaskKey),
    /// How many operations a task has recorded.
    StepCount(TaskKey),
    /// What a task has recorded at a number.
    Step(TaskKey, u32),
    /// The oldest unread signals that were sent to an execution under a name; if some were loaded
    /// already, those that follow.
    Mailbox(ExecutionId, Arc<str>),
    /// The number that the next signal of a name to an instance gets.
    SignalNumber(Arc<str>, Arc<str>),
    /// The tasks of an execution that wait for a signal of that name.
    SignalWaiters(ExecutionId, Arc<str>),
    /// Whether a worker is alive.
    Worker(WorkerId),
    /// The highest priority that is ready in these queues.
    ReadyHead(Arc<[VersionId]>),
}

/// Why a request did not go through.
#[derive(Debug)]
pub enum Stop {
    /// Read these and run it again.
    Missing(Vec<Need>),
    /// It is refused.
    Refused(Refusal),
}

impl From<Need> for Stop {
    fn from(need: Need) -> Stop {
        Stop::Missing(vec![need])
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl From<Illegal> for Stop {
    fn from(illegal: Illegal) -> Stop {
        Stop::Refused(Refusal::Illegal(illegal))
    }
}

/// The latest execution of an instance, as a start needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// The execution.
    pub id: ExecutionId,
    /// Its generation.
    pub generation: u32,
    /// Digest of its input.
    pub input_hash: String,
}

/// What this flush knows of a mailbox: an execution's signals of one name.
#[derive(Clone, Debug, Default)]
struct Mailbox {
    /// Stored signals that are unread, oldest first, as far as they were loaded.
    unread: VecDeque<(i64, Payload)>,
    /// The number of the last one that was loaded.
    loaded_to: i64,
    /// Whether more are stored.
    more: bool,
    /// The last one sent in this flush that was read in it too.
    read_to: i64,
}

/// What context rules read of an execution.
#[derive(Clone, Debug, Default)]
pub struct ContextParts {
    /// The context it began with.
    pub base: serde_json::Map<String, serde_json::Value>,
    /// What its tasks changed, by number.
    pub changes: FxHashMap<u32, Changes>,
    /// Checkpoints: what was changed up to and including a task, by number.
    pub checkpoints: FxHashMap<u32, Changes>,
}

impl Mailbox {
    /// Whether it is known which signal is the oldest.
    fn is_known(&self) -> bool {
        !self.unread.is_empty() || !self.more
    }
}

/// A row and whether it must be written.
#[derive(Clone, Debug)]
pub struct Row<T> {
    /// The row as it is now.
    pub value: T,
    /// It is not in the store yet.
    pub new: bool,
    /// It differs from what is in the store.
    pub dirty: bool,
}

/// Columns of a new execution that no rule reads.
#[derive(Clone, Debug)]
pub struct NewExecutionRow {
    /// The execution.
    pub id: ExecutionId,
    /// Its input.
    pub input: Option<Payload>,
    /// Digest of what it was started with.
    pub input_hash: String,
    /// Labels, a JSON array.
    pub tags: Option<String>,
    /// Its own graph, if it was built at run time.
    pub graph: Option<Arc<Graph>>,
}

/// Columns of a new task that no rule reads.
#[derive(Clone, Debug)]
pub struct NewTaskRow {
    /// The task.
    pub key: TaskKey,
    /// Its graph, which knows its node id and task.
    pub graph: Arc<Graph>,
    /// Its own input, in a graph built at run time.
    pub input: Option<Payload>,
}

/// Payload columns that a task's end sets.
#[derive(Clone, Debug, Default)]
pub struct TaskEnd {
    /// What it returned.
    pub output: Option<Payload>,
    /// What it changed in the context.
    pub changes: Option<Changes>,
    /// All that the context changed up to and including it, as [`Changes`], when a checkpoint was due.
    pub checkpoint: Option<Payload>,
    /// Its last error.
    pub error: Option<Failure>,
}

/// An execution that ended in this flush.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Which one.
    pub id: ExecutionId,
    /// How.
    pub status: ExecutionStatus,
}

/// What happens to the record of a task's operations.
#[derive(Clone, Debug)]
pub enum StepChange {
    /// A step is written.
    Write(StepWrite),
    /// A recorded wait is withdrawn.
    Withdraw(TaskKey, u32),
    /// Steps no longer count.
    Supersede(TaskKey, Supersede),
}

/// A step to write.
#[derive(Clone, Debug)]
pub struct StepWrite {
    /// The task.
    pub key: TaskKey,
    /// The record.
    pub step: StepRecord,
    /// Whether a record of the wait is there already and is answered now.
    pub answers: bool,
}

/// A signal to write.
#[derive(Clone, Debug)]
pub struct SignalWrite {
    /// The instance.
    pub instance: Arc<str>,
    /// Its execution that was live, which alone may read it.
    pub execution: ExecutionId,
    /// The mailbox.
    pub name: Arc<str>,
    /// Its number there.
    pub number: i64,
    /// What it carries.
    pub payload: Payload,
    /// Who sent it.
    pub actor: Option<Arc<str>>,
    /// When.
    pub sent_at: Timestamp,
}

/// A signal that was read.
#[derive(Clone, Debug)]
pub struct SignalRead {
    /// The instance.
    pub instance: Arc<str>,
    /// The mailbox.
    pub name: Arc<str>,
    /// Its number there.
    pub number: i64,
    /// The task that read it.
    pub by: TaskKey,
    /// The operation that read it.
    pub operation: u32,
}

/// A row that is nothing but its key. What one request adds, a later one of the same flush may
/// remove, and the other way round: so these are written in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// Add it, unless it is there.
    Add(T),
    /// Remove it, if it is there.
    Remove(T),
}

macro_rules! effects {
    ($($(#[$doc:meta])* $field:ident: $type:ty),+ $(,)?) => {
        /// What a flush writes besides its dirty rows, in the order it came about.
        #[derive(Debug, Default)]
        pub struct Effects { $($(#[$doc])* pub $field: Vec<$type>),+ }

        #[derive(Clone, Copy, Debug, Default)]
        struct Mark { undo: usize, $($field: usize),+ }

        impl Effects {
            fn mark(&self, undo: usize) -> Mark { Mark { undo, $($field: self.$field.len()),+ } }
            fn truncate(&mut self, mark: Mark) { $(self.$field.truncate(mark.$field);)+ }
        }
    };
}

effects! {
    /// Events to append.
    events: Event,
    /// Columns of new executions.
    new_executions: NewExecutionRow,
    /// Columns of new tasks.
    new_tasks: NewTaskRow,
    /// Columns of ended attempts.
    task_ends: (TaskKey, TaskEnd),
    /// Outbox rows that come and go.
    outbox: Change<OutboxRow>,
    /// Timers that come and go.
    timers: Change<Timer>,
    /// Steps that are written or removed.
    steps: StepChange,
    /// Signals to add.
    signals: SignalWrite,
    /// Signals that were read.
    signals_read: SignalRead,
    /// Progress values.
    progress: (TaskKey, String),
    /// Executions that ended.
    ended: Ended,
    /// Waits recorded in this flush, which a signal of the same flush must find.
    waiters: (ExecutionId, Arc<str>, TaskKey),
}

enum Undo {
    Execution(ExecutionId, Option<Row<Execution>>),
    Task(TaskKey, Option<Row<Task>>),
    Waits(TaskKey, Vec<Operation>),
    Mailbox((ExecutionId, Arc<str>), Mailbox),
    SignalNumber((Arc<str>, Arc<str>), i64),
    Instance(Arc<str>, Option<Latest>),
    Fresh(TaskKey),
    Step((TaskKey, u32), Option<String>),
    ReadyHead(Option<Option<i16>>),
}

/// The working set. The store fills the `loaded` side, the rules the rest.
pub struct Working {
    /// The time of this flush.
    pub now: Timestamp,
    pub(super) executions: FxHashMap<ExecutionId, Option<Row<Execution>>>,
    pub(super) tasks: FxHashMap<TaskKey, Option<Row<Task>>>,
    own_graphs: FxHashMap<ExecutionId, Arc<Graph>>,
    graphs: FxHashMap<VersionId, Arc<Graph>>,
    instances: FxHashMap<Arc<str>, Option<Latest>>,
    open_tasks: FxHashMap<ExecutionId, bool>,
    failures: FxHashMap<ExecutionId, ()>,
    contexts: FxHashMap<ExecutionId, ContextParts>,
    fresh_changes: FxHashMap<TaskKey, Changes>,
    waits: FxHashMap<TaskKey, Vec<Operation>>,
    step_counts: FxHashMap<TaskKey, u32>,
    steps: FxHashMap<(TaskKey, u32), Option<String>>,
    mailboxes: FxHashMap<(ExecutionId, Arc<str>), Mailbox>,
    signal_numbers: FxHashMap<(Arc<str>, Arc<str>), i64>,
    signal_waiters: FxHashMap<(ExecutionId, Arc<str>), Vec<TaskKey>>,
    workers: FxHashMap<WorkerId, bool>,
    ready_head: Option<Option<i16>>,
    undo: Vec<Undo>,
    begun: Mark,
    pub(super) effects: Effects,
}

impl Working {
    /// An empty working set for a flush at this time.
    pub fn new(now: Timestamp) -> Working {
        Working {
            now,
            executions: FxHashMap::default(),
            tasks: FxHashMap::default(),
            own_graphs: FxHashMap::default(),
            graphs: FxHashMap::default(),
            instances: FxHashMap::default(),
            open_tasks: FxHashMap::default(),
            failures: FxHashMap::default(),
            contexts: FxHashMap::default(),
            fresh_changes: FxHashMap::default(),
            waits: FxHashMap::default(),
            step_counts: FxHashMap::default(),
            steps: FxHashMap::default(),
            mailboxes: FxHashMap::default(),
            signal_numbers: FxHashMap::default(),
            signal_waiters: FxHashMap::default(),
            workers: FxHashMap::default(),
            ready_head: None,
            undo: Vec::new(),
            begun: Mark::default(),
            effects: Effects::default(),
        }
    }

    /// Runs one request: all of its changes stay, or none.
    pub(super) fn attempt<R>(
        &mut self,
        rule: impl FnOnce(&mut Working) -> Result<R, Stop>,
    ) -> Result<R, Stop> {
        self.begun = self.effects.mark(self.undo.len());
        let result = rule(self);
        match result {
            Ok(_) => self.undo.clear(),
            Err(_) => self.roll_back(self.begun),
        }
        result
    }

    /// Takes back what a request did before it panicked.
    pub fn forget_unfinished(&mut self) {
        self.roll_back(self.begun);
    }

    fn roll_back(&mut self, mark: Mark) {
        while self.undo.len() > mark.undo {
            match self.undo.pop().expect("longer than the mark") {
                Undo::Execution(id, row) => drop(self.executions.insert(id, row)),
                Undo::Task(key, row) => drop(self.tasks.insert(key, row)),
                Undo::Waits(key, waits) => drop(self.waits.insert(key, waits)),
                Undo::Mailbox(key, mailbox) => drop(self.mailboxes.insert(key, mailbox)),
                Undo::SignalNumber(key, next) => drop(self.signal_numbers.insert(key, next)),
                Undo::Instance(instance, latest) => drop(self.instances.insert(instance, latest)),
                Undo::Fresh(key) => drop(self.fresh_changes.remove(&key)),
                Undo::Step(at, recorded) => drop(self.steps.insert(at, recorded)),
                Undo::ReadyHead(head) => self.ready_head = head,
            }
        }
        self.effects.truncate(mark);
    }

    /// What is to be written: rows that changed, and the rest.
    pub fn into_effects(self) -> (Vec<Row<Execution>>, Vec<Row<Task>>, Effects) {
        let mut executions: Vec<_> = self
            .executions
            .into_values()
            .flatten()
            .filter(|row| row.dirty)
            .collect();
        let mut tasks: Vec<_> = self
            .tasks
            .into_values()
            .flatten()
            .filter(|row| row.dirty)
            .collect();
        // In key order: neighbours share pages, and PostgreSQL locks rows in one order.
        executions.sort_unstable_by_key(|row| row.value.id);
        tasks.sort_unstable_by_key(|row| row.value.key);
        (executions, tasks, self.effects)
    }

    // ---- what the store fills in ----

    /// Whether this was read already.
    pub fn has(&self, need: &Need) -> bool {
        match need {
            Need::Instance(instance) => self.instances.contains_key(instance),
            Need::Execution(id) => self.executions.contains_key(id),
            Need::Task(key) => self.tasks.contains_key(key),
            Need::Graph(id, version, own) => match own {
                true => self.own_graphs.contains_key(id),
                false => self.graphs.contains_key(version),
            },
            Need::OpenTasks(id) => self.open_tasks.contains_key(id),
            Need::Failures(id) => self.failures.contains_key(id),
            Need::Context(id) => self.contexts.contains_key(id),
            Need::Waits(key) => self.waits.contains_key(key),
            Need::StepCount(key) => self.step_counts.contains_key(key),
            Need::Step(key, number) => self.steps.contains_key(&(*key, *number)),
            Need::Mailbox(id, name) => self
                .mailboxes
                .get(&(*id, name.clone()))
                .is_some_and(Mailbox::is_known),
            Need::SignalNumber(instance, name) => self
                .signal_numbers
                .contains_key(&(instance.clone(), name.clone())),
            Need::SignalWaiters(id, name) => self.signal_waiters.contains_key(&(*id, name.clone())),
            Need::Worker(id) => self.workers.contains_key(id),
            Need::ReadyHead(_) => self.ready_head.is_some(),
        }
    }

    /// An execution's row, or that there is none.
    pub fn load_execution(&mut self, id: ExecutionId, row: Option<Execution>) {
        self.executions.entry(id).or_insert_with(|| {
            row.map(|value| Row {
                value,
                new: false,
                dirty: false,
            })
        });
    }

    /// A task's row, or that there is none. A row that the flush has already is kept.
    pub fn load_task(&mut self, key: TaskKey, row: Option<Task>) {
        self.tasks.entry(key).or_insert_with(|| {
            row.map(|value| Row {
                value,
                new: false,
                dirty: false,
            })
        });
    }

    /// The latest execution of an instance.
    pub fn load_instance(&mut self, instance: Arc<str>, latest: Option<Latest>) {
        self.instances.insert(instance, latest);
    }

    /// The graph of a workflow version, or an execution's own.
    pub fn load_graph(
        &mut self,
        execution: ExecutionId,
        version: VersionId,
        own: bool,
        graph: Arc<Graph>,
    ) {
        match own {
            true => drop(self.own_graphs.insert(execution, graph)),
            false => drop(self.graphs.insert(version, graph)),
        }
    }

    /// That the execution's open tasks were loaded, and whether more remain than were read.
    pub fn load_open_tasks(&mut self, id: ExecutionId, more: bool) {
        self.open_tasks.insert(id, more);
    }

    /// That the execution's failed tasks were loaded.
    pub fn load_failures(&mut self, id: ExecutionId) {
        self.failures.insert(id, ());
    }

    /// What context rules read.
    pub fn load_context(&mut self, id: ExecutionId, parts: ContextParts) {
        self.contexts.insert(id, parts);
    }

    /// The waits that a task has recorded.
    pub fn load_waits(&mut self, key: TaskKey, waits: Vec<Operation>) {
        self.waits.insert(key, waits);
    }

    /// How many operations a task has recorded.
    pub fn load_step_count(&mut self, key: TaskKey, count: u32) {
        self.step_counts.insert(key, count);
    }

    /// What a task has recorded at a number, in words.
    pub fn load_step(&mut self, key: TaskKey, number: u32, recorded: Option<String>) {
        self.steps.insert((key, number), recorded);
    }

    /// The number of the last signal of a mailbox that was loaded; 0 if none was.
    pub fn mailbox_loaded_to(&self, id: ExecutionId, name: &Arc<str>) -> i64 {
        let mailbox = self.mailboxes.get(&(id, name.clone()));
        mailbox.map_or(0, |mailbox| mailbox.loaded_to)
    }

    /// Unread signals of a mailbox that follow those loaded before, oldest first, and whether
    /// there are more.
    pub fn load_mailbox(
        &mut self,
        id: ExecutionId,
        name: Arc<str>,
        unread: Vec<(i64, Payload)>,
        more: bool,
    ) {
        let mailbox = self.mailboxes.entry((id, name)).or_default();
        mailbox.loaded_to = unread
            .last()
            .map_or(mailbox.loaded_to, |(number, _)| *number);
        mailbox.unread.extend(unread);
        mailbox.more = more;
    }

    /// The number that the next signal gets.
    pub fn load_signal_number(&mut self, instance: Arc<str>, name: Arc<str>, next: i64) {
        self.signal_numbers.insert((instance, name), next);
    }

    /// Who waits for a signal.
    pub fn load_signal_waiters(&mut self, id: ExecutionId, name: Arc<str>, tasks: Vec<TaskKey>) {
        self.signal_waiters.insert((id, name), tasks);
    }

    /// Whether a worker is alive.
    pub fn load_worker(&mut self, id: WorkerId, alive: bool) {
        self.workers.insert(id, alive);
    }

    /// The highest priority that is ready.
    pub fn load_ready_head(&mut self, priority: Option<i16>) {
        self.ready_head = Some(priority);
    }

    // ---- what rules read and write ----

    pub(super) fn execution(&self, id: ExecutionId) -> Result<&Execution, Stop> {
        match self.executions.get(&id) {
            Some(Some(row)) => Ok(&row.value),
            Some(None) => Err(Refusal::UnknownExecution(id).into()),
            None => Err(Need::Execution(id).into()),
        }
    }

    pub(super) fn find_task(&self, key: TaskKey) -> Result<Option<&Task>, Stop> {
        match self.tasks.get(&key) {
            Some(row) => Ok(row.as_ref().map(|row| &row.value)),
            None => Err(Need::Task(key).into()),
        }
    }

    pub(super) fn task(&self, key: TaskKey) -> Result<&Task, Stop> {
        self.find_task(key)?
            .ok_or_else(|| Refusal::UnknownExecution(key.execution).into())
    }

    /// That all these tasks are loaded, or every one that is missing.
    pub(super) fn require_tasks(&self, keys: impl Iterator<Item = TaskKey>) -> Result<(), Stop> {
        let missing: Vec<Need> = keys
            .filter(|key| !self.tasks.contains_key(key))
            .map(Need::Task)
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Stop::Missing(missing))
        }
    }

    pub(super) fn change_execution<R>(
        &mut self,
        id: ExecutionId,
        change: impl FnOnce(&mut Execution, &mut Vec<Event>) -> Result<R, Illegal>,
    ) -> Result<R, Stop> {
        match self.executions.get_mut(&id) {
            Some(Some(row)) => {
                self.undo.push(Undo::Execution(id, Some(row.clone())));
                row.dirty = true;
                Ok(change(&mut row.value, &mut self.effects.events)?)
            }
            Some(None) => Err(Refusal::UnknownExecution(id).into()),
            None => Err(Need::Execution(id).into()),
        }
    }

    pub(super) fn change_task<R>(
        &mut self,
        key: TaskKey,
        change: impl FnOnce(&mut Task, &mut Vec<Event>) -> Result<R, Illegal>,
    ) -> Result<R, Stop> {
        match self.tasks.get_mut(&key) {
            Some(Some(row)) => {
                self.undo.push(Undo::Task(key, Some(row.clone())));
                row.dirty = true;
                Ok(change(&mut row.value, &mut self.effects.events)?)
            }
            Some(None) => Err(Refusal::UnknownExecution(key.execution).into()),
            None => Err(Need::Task(key).into()),
        }
    }

    pub(super) fn add_execution(&mut self, value: Execution) {
        let id = value.id;
        self.undo.push(Undo::Execution(id, None));
        self.executions.insert(
            id,
            Some(Row {
                value,
                new: true,
                dirty: true,
            }),
        );
    }

    pub(super) fn add_task(&mut self, value: Task) {
        let key = value.key;
        self.undo.push(Undo::Task(key, None));
        self.tasks.insert(
            key,
            Some(Row {
                value,
                new: true,
                dirty: true,
            }),
        );
    }

    pub(super) fn instance(&self, instance: &Arc<str>) -> Result<Option<&Latest>, Stop> {
        match self.instances.get(instance) {
            Some(latest) => Ok(latest.as_ref()),
            None => Err(Need::Instance(instance.clone()).into()),
        }
    }

    pub(super) fn set_instance(&mut self, instance: Arc<str>, latest: Latest) {
        let before = self
            .instances
            .insert(instance.clone(), Some(latest))
            .flatten();
        self.undo.push(Undo::Instance(instance, before));
    }

    pub(super) fn graph_of(&self, execution: &Execution) -> Result<Arc<Graph>, Stop> {
        let found = match execution.own_graph {
            true => self.own_graphs.get(&execution.id),
            false => self.graphs.get(&execution.workflow),
        };
        let need = || Need::Graph(execution.id, execution.workflow, execution.own_graph).into();
        found.cloned().ok_or_else(need)
    }

    /// The keys of the execution's open tasks that are loaded, in order, and whether more are not.
    pub(super) fn open_tasks(&self, id: ExecutionId) -> Result<(Vec<TaskKey>, bool), Stop> {
        let more = *self.open_tasks.get(&id).ok_or(Need::OpenTasks(id))?;
        Ok((
            self.loaded_tasks(id, |task| !task.phase.is_terminal()),
            more,
        ))
    }

    /// The keys of the execution's failed tasks, in order.
    pub(super) fn failures(&self, id: ExecutionId) -> Result<Vec<TaskKey>, Stop> {
        use crate::status::Phase;
        self.failures.get(&id).ok_or(Need::Failures(id))?;
        Ok(self.loaded_tasks(id, |task| {
            matches!(task.phase, Phase::Failed | Phase::Abandoned)
        }))
    }

    fn loaded_tasks(&self, id: ExecutionId, which: impl Fn(&Task) -> bool) -> Vec<TaskKey> {
        let of_execution = self
            .tasks
            .values()
            .flatten()
            .map(|row| &row.value)
            .filter(|task| task.key.execution == id);
        let mut keys: Vec<TaskKey> = of_execution
            .filter(|task| which(task))
            .map(|task| task.key)
            .collect();
        keys.sort_unstable();
        keys
    }

    pub(super) fn context(&self, id: ExecutionId) -> Result<&ContextParts, Stop> {
        self.contexts
            .get(&id)
            .ok_or_else(|| Need::Context(id).into())
    }

    /// What a task changed, as far as it is known to this flush.
    pub(super) fn changes<'a>(
        &'a self,
        key: TaskKey,
        parts: &'a ContextParts,
    ) -> Option<&'a Changes> {
        self.fresh_changes
            .get(&key)
            .or_else(|| parts.changes.get(&key.number))
    }

    pub(super) fn end_task(&mut self, key: TaskKey, end: TaskEnd) {
        if let Some(changes) = &end.changes {
            self.undo.push(Undo::Fresh(key));
            self.fresh_changes.insert(key, changes.clone());
        }
        self.effects.task_ends.push((key, end));
    }

    pub(super) fn waits(&self, key: TaskKey) -> Result<&[Operation], Stop> {
        self.waits
            .get(&key)
            .map(Vec::as_slice)
            .ok_or_else(|| Need::Waits(key).into())
    }

    pub(super) fn set_waits(&mut self, key: TaskKey, waits: Vec<Operation>) {
        let before = self.waits.insert(key, waits).unwrap_or_default();
        self.undo.push(Undo::Waits(key, before));
    }

    /// How many operations the task has recorded, those of this flush included.
    pub(super) fn step_count(&self, key: TaskKey) -> Result<u32, Stop> {
        let recorded = *self.step_counts.get(&key).ok_or(Need::StepCount(key))?;
        let fresh = self.effects.steps.iter().filter(
            |change| matches!(change, StepChange::Write(write) if write.key == key && !write.answers),
        );
        Ok(recorded + fresh.count() as u32)
    }

    /// Writes a step where none is.
    pub(super) fn add_step(&mut self, key: TaskKey, step: StepRecord) -> Result<(), Stop> {
        let number = step.id.number;
        let at = (key, number);
        let before = self.steps.get(&at).ok_or(Need::Step(key, number))?.clone();
        if let Some(recorded) = before {
            return Err(Refusal::StepTaken {
                key,
                number,
                recorded,
            }
            .into());
        }
        self.undo.push(Undo::Step(at, before));
        self.steps.insert(at, Some(step.id.to_string()));
        let write = StepWrite {
            key,
            step,
            answers: false,
        };
        self.effects.steps.push(StepChange::Write(write));
        Ok(())
    }

    /// Writes the result of a recorded wait.
    pub(super) fn answer_wait(&mut self, key: TaskKey, step: StepRecord) {
        let write = StepWrite {
            key,
            step,
            answers: true,
        };
        self.effects.steps.push(StepChange::Write(write));
    }

    pub(super) fn withdraw_wait(&mut self, key: TaskKey, number: u32) {
        self.forget_steps(key, |of| of == number);
        self.effects.steps.push(StepChange::Withdraw(key, number));
    }

    pub(super) fn supersede(&mut self, key: TaskKey, supersede: Supersede) {
        self.forget_steps(key, |of| of == supersede.failed || of >= supersede.from);
        self.effects
            .steps
            .push(StepChange::Supersede(key, supersede));
    }

    fn forget_steps(&mut self, key: TaskKey, which: impl Fn(u32) -> bool) {
        for (at, recorded) in &mut self.steps {
            if at.0 == key && which(at.1) && recorded.is_some() {
                self.undo.push(Undo::Step(*at, recorded.take()));
            }
        }
    }

    /// The oldest unread signal of a mailbox, those sent in this flush included.
    pub(super) fn unread_signal(
        &self,
        id: ExecutionId,
        name: &Arc<str>,
    ) -> Result<Option<(i64, Payload)>, Stop> {
        let mailbox = self.mailboxes.get(&(id, name.clone()));
        let mailbox = mailbox
            .filter(|mailbox| mailbox.is_known())
            .ok_or_else(|| Need::Mailbox(id, name.clone()))?;
        if let Some(oldest) = mailbox.unread.front() {
            return Ok(Some(oldest.clone()));
        }
        let sent = self.effects.signals.iter().find(|signal| {
            signal.execution == id && signal.name == *name && signal.number > mailbox.read_to
        });
        Ok(sent.map(|signal| (signal.number, signal.payload.clone())))
    }

    /// Takes it out.
    pub(super) fn read_signal(
        &mut self,
        id: ExecutionId,
        name: &Arc<str>,
    ) -> Result<Option<(i64, Payload)>, Stop> {
        let Some((number, payload)) = self.unread_signal(id, name)? else {
            return Ok(None);
        };
        let mailbox = self.mailboxes.entry((id, name.clone())).or_default();
        self.undo
            .push(Undo::Mailbox((id, name.clone()), mailbox.clone()));
        if mailbox.unread.pop_front().is_none() {
            mailbox.read_to = number;
        }
        Ok(Some((number, payload)))
    }

    pub(super) fn next_signal_number(
        &mut self,
        instance: &Arc<str>,
        name: &Arc<str>,
    ) -> Result<i64, Stop> {
        let key = (instance.clone(), name.clone());
        let Some(next) = self.signal_numbers.get_mut(&key) else {
            return Err(Need::SignalNumber(key.0, key.1).into());
        };
        let number = *next;
        *next += 1;
        self.undo.push(Undo::SignalNumber(key, number));
        Ok(number)
    }

    /// Who waits for a signal, whether recorded before or in this flush.
    pub(super) fn signal_waiters(
        &self,
        id: ExecutionId,
        name: &Arc<str>,
    ) -> Result<Vec<TaskKey>, Stop> {
        let recorded = self
            .signal_waiters
            .get(&(id, name.clone()))
            .ok_or_else(|| Need::SignalWaiters(id, name.clone()))?;
        let mut waiters = recorded.clone();
        waiters.extend(
            self.effects
                .waiters
                .iter()
                .filter(|(of, n, _)| *of == id && n == name)
                .map(|(_, _, key)| *key),
        );
        // What was withdrawn or answered in this flush is still recorded.
        waiters.retain(|key| {
            let waits = self.waits.get(key);
            waits.is_none_or(|waits| waits.iter().any(|wait| waits_for(wait, name)))
        });
        waiters.sort_unstable();
        waiters.dedup();
        Ok(waiters)
    }

    pub(super) fn worker_alive(&self, id: WorkerId) -> Result<bool, Stop> {
        self.workers
            .get(&id)
            .copied()
            .ok_or_else(|| Need::Worker(id).into())
    }

    pub(super) fn ready_head(&self, queues: &Arc<[VersionId]>) -> Result<Option<i16>, Stop> {
        self.ready_head
            .ok_or_else(|| Need::ReadyHead(queues.clone()).into())
    }

    pub(super) fn add_to_outbox(&mut self, row: OutboxRow) {
        if row.worker.is_none()
            && let Some(head) = self.ready_head
        {
            self.undo.push(Undo::ReadyHead(self.ready_head));
            self.ready_head = Some(Some(
                head.map_or(row.priority, |head| head.max(row.priority)),
            ));
        }
        self.effects.outbox.push(Change::Add(row));
    }

    pub(super) fn remove_from_outbox(&mut self, row: OutboxRow) {
        self.effects.outbox.push(Change::Remove(row));
    }

    pub(super) fn add_timer(&mut self, timer: Timer) {
        self.effects.timers.push(Change::Add(timer));
    }

    pub(super) fn remove_timer(&mut self, timer: Timer) {
        self.effects.timers.push(Change::Remove(timer));
    }
}

fn waits_for(wait: &Operation, signal: &str) -> bool {
    wait.id.kind == StepKind::Signal && wait.id.name == signal
}
