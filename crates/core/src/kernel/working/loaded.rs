//! The side of the working set that a store fills in. A row that the flush has already is kept: it
//! may be newer than what is stored.

use std::sync::Arc;

use crate::execution::Execution;
use crate::graph::Graph;
use crate::ids::{ExecutionId, TaskKey, VersionId, WorkerId};
use crate::kernel::effects::Row;
use crate::kernel::need::{Need, TaskSet};
use crate::kernel::outbox_row::OutboxRow;
use crate::payload::Payload;
use crate::step::{Operation, StepEnd, StepRecord};
use crate::task::Task;
use crate::timer::Timer;

use super::journal::{Journal, Recorded};
use super::mailbox::Mailbox;
use super::{ContextParts, Latest, Message, Working};

impl Working {
    /// Whether this was read already.
    pub fn has(&self, need: &Need) -> bool {
        match need {
            Need::Instance(instance) => self.instances.contains_key(instance),
            Need::Execution(id) => self.executions.contains_key(id),
            Need::WorkflowName(version) => self.workflow_names.contains_key(version),
            Need::Task(key) => self.tasks.contains_key(key),
            Need::Graph(id, version, own) => match own {
                true => self.own_graphs.contains_key(id),
                false => self.graphs.contains_key(version),
            },
            Need::Tasks(id, set) => self.task_sets.contains_key(&(*id, *set)),
            Need::Context(id) => self.contexts.contains_key(id),
            Need::Waits(key) => self.knows(key, |journal| journal.waits.is_some()),
            Need::StepCount(key) => self.knows(key, |journal| journal.stored.is_some()),
            Need::Step(key, number) => {
                self.knows(key, |journal| journal.steps.contains_key(number))
            }
            Need::SignalRead(key, operation) => {
                self.knows(key, |journal| journal.reads.contains_key(operation))
            }
            Need::Mailbox(id, name) => self
                .mailboxes
                .get(&(*id, name.clone()))
                .is_some_and(Mailbox::is_known),
            Need::SignalNumber(instance, name) => self
                .signal_numbers
                .contains_key(&(instance.clone(), name.clone())),
            Need::SignalWaiters(id, name) => self
                .mailboxes
                .get(&(*id, name.clone()))
                .is_some_and(|mailbox| mailbox.stored_waiting.is_some()),
            Need::Worker(id) => self.workers.contains_key(id),
            Need::ReadyHead(queues) => self.unread_heads(queues).next().is_none(),
        }
    }

    fn knows(&self, key: &TaskKey, what: impl Fn(&Journal) -> bool) -> bool {
        self.journals.get(key).is_some_and(what)
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
        if !self.tasks.contains_key(&key) {
            let row = row.map(|value| Row {
                value,
                new: false,
                dirty: false,
            });
            self.put_task(key, row);
        }
    }

    /// The latest execution of an instance.
    pub fn load_instance(&mut self, instance: Arc<str>, latest: Option<Latest>) {
        self.instances.insert(instance, latest);
    }

    /// The name of a workflow version's workflow.
    pub fn load_workflow_name(&mut self, version: VersionId, name: Arc<str>) {
        self.workflow_names.insert(version, name);
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

    /// Rows of those tasks of the execution, and whether more remain than were read.
    pub fn load_tasks(&mut self, id: ExecutionId, set: TaskSet, tasks: Vec<Task>, more: bool) {
        for task in tasks {
            self.load_task(task.key, Some(task));
        }
        self.task_sets.insert((id, set), more);
    }

    /// What context rules read.
    pub fn load_context(&mut self, id: ExecutionId, parts: ContextParts) {
        self.contexts.insert(id, parts);
    }

    /// The waits that a task has recorded.
    pub fn load_waits(&mut self, key: TaskKey, waits: Vec<Operation>) {
        self.journal(key).waits = Some(waits);
    }

    /// How many operations a task has recorded.
    pub fn load_step_count(&mut self, key: TaskKey, count: u32) {
        self.journal(key).stored = Some(count);
    }

    /// What a task has recorded at a number.
    pub fn load_step(&mut self, key: TaskKey, number: u32, recorded: Option<&StepRecord>) {
        let recorded = recorded.map(|step| match step.end {
            StepEnd::GivenBack => Recorded::GivenBack,
            _ => Recorded::Taken(step.id.to_string()),
        });
        self.journal(key).steps.insert(number, recorded);
    }

    /// The signal that an operation of a task read, if there is one.
    pub fn load_signal_read(&mut self, key: TaskKey, operation: u32, signal: Option<Message>) {
        self.journal(key).reads.insert(operation, signal);
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
        let mailbox = self.mailbox((id, name));
        mailbox.loaded = true;
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
        self.mailbox((id, name)).stored_waiting = Some(tasks);
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

    /// The highest priority that is ready in a queue of the store.
    pub fn load_ready_head(&mut self, queue: VersionId, priority: Option<i16>) {
        self.heads.entry(queue).or_default().stored = Some(priority);
    }
}
