//! The one ordered pass over executions, tasks, events, operations, outbox and timers, side by
//! side. What is kept in memory is one execution: its graph, and a few words for each task.

use abide_core::ids::ExecutionId;
use rusqlite::Connection;

use super::cursor::Cursor;
use super::graphs::Graphs;
use super::payloads::Payloads;
use super::queue::Workers;
use super::report::{Checked, Findings, Invariant, Subject};
use super::rows::{
    self, StoredEvent, StoredExecution, StoredOutbox, StoredRead, StoredStep, StoredTask,
    StoredTimer,
};

/// Walks everything that belongs to an execution.
pub(super) fn walk(
    connection: &Connection,
    workers: &Workers,
    findings: &mut Findings,
    checked: &mut Checked,
) -> rusqlite::Result<()> {
    let mut statements = [
        connection.prepare(rows::EXECUTIONS)?,
        connection.prepare(rows::TASKS)?,
        connection.prepare(rows::EVENTS)?,
        connection.prepare(rows::STEPS)?,
        connection.prepare(rows::READS)?,
        connection.prepare(rows::OUTBOX)?,
        connection.prepare(rows::TIMERS)?,
    ];
    let [executions, tasks, events, steps, reads, outbox, timers] = &mut statements;
    let mut walk = Walk {
        connection,
        workers,
        executions: Cursor::new(executions, rows::execution)?,
        tables: Tables {
            tasks: Cursor::new(tasks, rows::task)?,
            events: Cursor::new(events, rows::event)?,
            steps: Cursor::new(steps, rows::step)?,
            reads: Cursor::new(reads, rows::read)?,
            outbox: Cursor::new(outbox, rows::outbox)?,
            timers: Cursor::new(timers, rows::timer)?,
        },
        payloads: Payloads::new(connection),
        graphs: Graphs::default(),
        findings,
        checked,
    };
    let walked = walk.all();
    walk.count();
    walked
}

/// The tables that say what happens next, in words.
pub(super) const QUEUES: [&str; 2] = ["outbox rows", "timers"];

/// The tables that belong to executions, but for their own.
pub(super) struct Tables<'s> {
    pub(super) tasks: Cursor<'s, StoredTask>,
    pub(super) events: Cursor<'s, StoredEvent>,
    pub(super) steps: Cursor<'s, StoredStep>,
    pub(super) reads: Cursor<'s, StoredRead>,
    pub(super) outbox: Cursor<'s, StoredOutbox>,
    pub(super) timers: Cursor<'s, StoredTimer>,
}

impl Tables<'_> {
    /// The first execution that has a row left in any of them.
    fn execution(&self) -> Option<i64> {
        let heads = [
            self.tasks.execution(),
            self.events.execution(),
            self.steps.execution(),
            self.reads.execution(),
            self.outbox.execution(),
            self.timers.execution(),
        ];
        heads.into_iter().flatten().min()
    }

    /// The first task of an execution that has a row left in any of them.
    pub(super) fn task(&self, execution: i64) -> Option<u32> {
        let heads = [
            self.tasks.task(execution),
            self.events.task(execution),
            self.steps.task(execution),
            self.reads.task(execution),
            self.outbox.task(execution),
            self.timers.task(execution),
        ];
        heads.into_iter().flatten().min()
    }

    /// Passes over what is left of a task.
    pub(super) fn skip_task(&mut self, execution: i64, task: u32) -> rusqlite::Result<()> {
        while self.tasks.next_of_task(execution, task)?.is_some() {}
        while self.events.next_of_task(execution, task)?.is_some() {}
        while self.steps.next_of_task(execution, task)?.is_some() {}
        while self.reads.next_of_task(execution, task)?.is_some() {}
        while self.outbox.next_of_task(execution, task)?.is_some() {}
        while self.timers.next_of_task(execution, task)?.is_some() {}
        Ok(())
    }

    /// Passes over what is left of an execution. Answers which tables had something of it.
    pub(super) fn skip(&mut self, execution: i64) -> rusqlite::Result<Vec<&'static str>> {
        let mut had = Vec::new();
        macro_rules! skip {
            ($($table:ident, $what:expr;)+) => { $(
                if self.$table.execution() == Some(execution) {
                    had.push($what);
                    while self.$table.next_of_execution(execution)?.is_some() {}
                }
            )+ };
        }
        skip! {
            tasks, "tasks";
            events, "events";
            steps, "recorded operations";
            reads, "signals that it read";
            outbox, QUEUES[0];
            timers, QUEUES[1];
        }
        Ok(had)
    }
}

/// The walk, and what it needs.
pub(super) struct Walk<'s, 'c> {
    pub(super) connection: &'c Connection,
    pub(super) workers: &'c Workers,
    pub(super) executions: Cursor<'s, StoredExecution>,
    pub(super) tables: Tables<'s>,
    pub(super) payloads: Payloads<'c>,
    pub(super) graphs: Graphs,
    pub(super) findings: &'c mut Findings,
    pub(super) checked: &'c mut Checked,
}

impl Walk<'_, '_> {
    fn all(&mut self) -> rusqlite::Result<()> {
        loop {
            let stored = self.executions.execution();
            let Some(id) = stored.into_iter().chain(self.tables.execution()).min() else {
                return Ok(());
            };
            match self.executions.next_of_execution(id)? {
                Some(row) => self.execution(row)?,
                None => self.orphans(id)?,
            }
        }
    }

    fn count(&mut self) {
        let tables = &mut self.tables;
        self.checked.executions = self.executions.read;
        self.checked.tasks = tables.tasks.read;
        self.checked.events = tables.events.read;
        self.checked.steps = tables.steps.read;
        self.checked.outbox = tables.outbox.read;
        self.checked.timers = tables.timers.read;
        self.checked.payloads += self.payloads.read;
        for (table, unreadable) in [
            ("executions", &self.executions.unreadable),
            ("task_executions", &tables.tasks.unreadable),
            ("execution_events", &tables.events.unreadable),
            ("steps", &tables.steps.unreadable),
            ("signals", &tables.reads.unreadable),
            ("task_outbox", &tables.outbox.unreadable),
            ("timers", &tables.timers.unreadable),
        ] {
            for error in unreadable {
                let what = format!("a row of {table} cannot be read: {error}");
                self.findings.add(Invariant::I1, Subject::Database, what);
            }
        }
    }

    /// Rows of an execution that is not stored.
    fn orphans(&mut self, id: i64) -> rusqlite::Result<()> {
        let had = self.tables.skip(id)?;
        let only_queue = had.iter().all(|what| QUEUES.contains(what));
        let invariant = if only_queue {
            Invariant::I8
        } else {
            Invariant::I1
        };
        let what = format!("it is not stored, but has {}", had.join(", "));
        self.findings
            .add(invariant, Subject::execution(ExecutionId(id)), what);
        Ok(())
    }
}
