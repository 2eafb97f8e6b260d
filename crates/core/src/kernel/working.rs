//! The working set of one flush: the rows it read, what the rules made of them, and what is to be
//! written. A request that stops half-way leaves no trace in it.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::context::Changes;
use crate::event::Event;
use crate::execution::Execution;
use crate::graph::Graph;
use crate::ids::{ExecutionId, TaskKey, Timestamp, VersionId, WorkerId};
use crate::payload::Payload;
use crate::step::{Operation, StepKind, StepRecord};
use crate::table::Illegal;
use crate::task::Task;
use crate::timer::Timer;

use super::effects::{Change, Effects, Mark, Row, StepChange, StepWrite, TaskEnd};
use super::need::{Need, Stop};
use super::request::{OutboxRow, Refusal, Supersede};

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
pub(super) struct Mailbox {
    /// Stored signals that are unread, oldest first, as far as they were loaded.
    pub(super) unread: VecDeque<(i64, Payload)>,
    /// The number of the last one that was loaded.
    pub(super) loaded_to: i64,
    /// Whether more are stored.
    pub(super) more: bool,
    /// The last one sent in this flush that was read in it too.
    pub(super) read_to: i64,
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
    pub(super) fn is_known(&self) -> bool {
        !self.unread.is_empty() || !self.more
    }
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
    pub(super) own_graphs: FxHashMap<ExecutionId, Arc<Graph>>,
    pub(super) graphs: FxHashMap<VersionId, Arc<Graph>>,
    pub(super) instances: FxHashMap<Arc<str>, Option<Latest>>,
    pub(super) open_tasks: FxHashMap<ExecutionId, bool>,
    pub(super) failures: FxHashMap<ExecutionId, ()>,
    pub(super) contexts: FxHashMap<ExecutionId, ContextParts>,
    pub(super) fresh_changes: FxHashMap<TaskKey, Changes>,
    pub(super) waits: FxHashMap<TaskKey, Vec<Operation>>,
    pub(super) step_counts: FxHashMap<TaskKey, u32>,
    pub(super) steps: FxHashMap<(TaskKey, u32), Option<String>>,
    pub(super) mailboxes: FxHashMap<(ExecutionId, Arc<str>), Mailbox>,
    pub(super) signal_numbers: FxHashMap<(Arc<str>, Arc<str>), i64>,
    pub(super) signal_waiters: FxHashMap<(ExecutionId, Arc<str>), Vec<TaskKey>>,
    pub(super) workers: FxHashMap<WorkerId, bool>,
    pub(super) ready_head: Option<Option<i16>>,
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

    /// Runs one request and takes back what it did.
    pub(super) fn rehearse<R>(
        &mut self,
        rule: impl FnOnce(&mut Working) -> Result<R, Stop>,
    ) -> Result<R, Stop> {
        self.begun = self.effects.mark(self.undo.len());
        let result = rule(self);
        self.roll_back(self.begun);
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

    /// How many operations the task has recorded, with what this flush added and withdrew. It
    /// superseded none: what it makes ready for another attempt it does not claim from the outbox.
    pub(super) fn step_count(&self, key: TaskKey) -> Result<u32, Stop> {
        let stored = *self.step_counts.get(&key).ok_or(Need::StepCount(key))?;
        let count = |which: fn(&StepChange) -> Option<TaskKey>| {
            let changes = self.effects.steps.iter().filter_map(which);
            changes.filter(|of| *of == key).count() as u32
        };
        let added = count(|change| match change {
            StepChange::Write(write) if !write.answers => Some(write.key),
            _ => None,
        });
        let withdrawn = count(|change| match change {
            StepChange::Withdraw(key, _) => Some(*key),
            _ => None,
        });
        Ok(stored + added - withdrawn)
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
