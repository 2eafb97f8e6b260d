//! The side of the working set that a store fills in. A row that the flush has already is kept: it
//! may be newer than what is stored.

use std::sync::Arc;

use crate::execution::Execution;
use crate::graph::Graph;
use crate::ids::{ExecutionId, TaskKey, VersionId, WorkerId};
use crate::payload::Payload;
use crate::step::Operation;
use crate::task::Task;
use crate::timer::Timer;

use super::effects::{Change, Row};
use super::need::Need;
use super::request::OutboxRow;
use super::working::{ContextParts, Latest, Mailbox, Working};

impl Working {
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

    /// Whether it is to be read for a request that stopped for it. A request that stops for a mailbox
    /// has read through the signals that are known, although it gave them back: it needs those that
    /// follow.
    pub fn lacks(&self, need: &Need) -> bool {
        matches!(need, Need::Mailbox(..)) || !self.has(need)
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

    /// Takes out a row of the outbox that no request can act on.
    pub fn drop_outbox_row(&mut self, row: OutboxRow) {
        self.remove_from_outbox(row);
    }

    /// Takes out a timer that no request can act on.
    pub fn drop_timer(&mut self, timer: Timer) {
        self.remove_timer(timer);
    }

    /// The highest priority that is ready in the store. What the flush made ready counts too.
    pub fn load_ready_head(&mut self, priority: Option<i16>) {
        let fresh = self
            .effects
            .outbox
            .iter()
            .filter_map(|change| match change {
                Change::Add(row) if row.worker.is_none() => Some(row.priority),
                _ => None,
            });
        self.ready_head = Some(priority.max(fresh.max()));
    }

    /// The latest execution of an instance, if it was read and there is one.
    pub fn latest(&self, instance: &str) -> Option<ExecutionId> {
        let latest = self.instances.get(instance)?.as_ref()?;
        Some(latest.id)
    }
}
