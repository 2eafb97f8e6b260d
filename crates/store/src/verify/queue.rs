//! What goes on with an open task or execution: its outbox row, its timer, its holder, its waits.
//! And the other way round: rows of the queue and of the timers name only what they should.

use std::collections::HashMap;

use abide_core::graph::Graph;
use abide_core::status::{ExecutionStatus, Phase};
use abide_core::step::StepKind;
use abide_core::timer::{NEVER, TimerKind};
use rusqlite::{Connection, OptionalExtension, params};

use super::report::{Invariant, Problems};
use super::rows::{ExecutionCells, StoredOutbox, StoredTimer};
use super::steps::Steps;
use super::words::{self, time};

/// Workers by id.
pub(super) type Workers = HashMap<i64, KnownWorker>;

/// What is known of a worker.
pub(super) struct KnownWorker {
    /// What it held has been forgotten: it has ended, and another worker ran for long enough since to take
    /// it back. Until then that may be underway: the worker that declared it dead may have died too, or an
    /// answer to its last claim was on its way.
    pub(super) is_forgotten: bool,
    /// The workflow versions that it knows, if it said so.
    pub(super) queues: Option<Vec<i64>>,
}

impl KnownWorker {
    fn knows(&self, queue: i64) -> bool {
        let queues = self.queues.as_ref();
        queues.is_none_or(|queues| queues.contains(&queue))
    }
}

/// What the check of a task's queue needs of its execution.
pub(super) struct Home<'a> {
    pub(super) id: i64,
    pub(super) row: &'a ExecutionCells,
    pub(super) status: ExecutionStatus,
    pub(super) graph: Option<&'a Graph>,
    pub(super) workers: &'a Workers,
    pub(super) connection: &'a Connection,
}

/// Where a task stands, and what it stands there for.
pub(super) struct Holding {
    pub(super) phase: Phase,
    pub(super) worker: Option<i64>,
    pub(super) ready_at: Option<i64>,
    pub(super) wake_at: Option<i64>,
}

/// A task and the rows that name it.
pub(super) struct Queued<'a> {
    pub(super) number: u32,
    pub(super) holding: Holding,
    pub(super) steps: &'a Steps,
    pub(super) outbox: &'a [StoredOutbox],
    pub(super) timers: &'a [StoredTimer],
}

impl Home<'_> {
    /// Checks the timers of the execution itself. Answers from the how-manieth root on one of them
    /// will go on deciding.
    pub(super) fn check_execution(
        &self,
        timers: &[StoredTimer],
        problems: &mut Problems,
    ) -> Option<u32> {
        let mut starts_from = None;
        let (mut deadline, mut cancel) = (false, false);
        for timer in timers {
            let Some(kind) = kind(timer, problems) else {
                continue;
            };
            let expected = match kind {
                TimerKind::Start => {
                    starts_from = starts_from.min(Some(timer.piece)).or(Some(timer.piece));
                    if timer.piece == 0 {
                        self.row.start_at
                    } else {
                        Some(timer.due_at)
                    }
                }
                TimerKind::Deadline => {
                    deadline = true;
                    self.row.deadline_at.filter(|_| timer.piece == 0)
                }
                TimerKind::Cancel => {
                    cancel = true;
                    if timer.piece == 0 {
                        self.row.grace_until
                    } else {
                        Some(timer.due_at)
                    }
                }
                _ => {
                    problems.add(Invariant::I8, format!("its {kind} timer names no task"));
                    continue;
                }
            };
            // A timer that goes on with a piece of work finds nothing left to do, and goes.
            let goes_on = timer.piece > 0 && kind != TimerKind::Deadline;
            if self.status.is_terminal() && !goes_on {
                let (status, at) = (self.status, time(timer.due_at));
                let what = format!("it is {status}, but has a {kind} timer at {at}");
                problems.mendable(Invariant::I8, what, "delete the timer");
            } else if expected != Some(timer.due_at) {
                let (at, expected) = (
                    time(timer.due_at),
                    expected.map_or_else(|| "none".to_owned(), time),
                );
                let what = format!("its {kind} timer is set for {at}, its row says {expected}");
                problems.add(Invariant::I8, what);
            }
        }
        self.check_missing(deadline, cancel, problems);
        starts_from
    }

    fn check_missing(&self, deadline: bool, cancel: bool, problems: &mut Problems) {
        let stopping = self.status == ExecutionStatus::Cancelling;
        if self.status.is_terminal() {
            return;
        }
        if stopping && !cancel {
            problems.add(
                Invariant::I8,
                "it is Cancelling, but no timer goes on with that",
            );
        }
        if let Some(at) = self.row.deadline_at.filter(|_| !stopping && !deadline) {
            problems.mendable(
                Invariant::I8,
                format!("its deadline is {at}, but no timer watches it"),
                format!("add a deadline timer at {at}"),
            );
        }
    }

    /// Checks one task.
    pub(super) fn check_task(
        &self,
        task: &Queued<'_>,
        propagating: &mut HashMap<u32, u32>,
        problems: &mut Problems,
    ) -> rusqlite::Result<()> {
        for row in task.outbox {
            self.check_outbox(task, row, problems);
        }
        let mut armed = None;
        for timer in task.timers {
            let Some(kind) = kind(timer, problems) else {
                continue;
            };
            if kind == TimerKind::Propagate {
                self.check_propagation(task, timer, propagating, problems);
                continue;
            }
            let (fits, at) = match kind {
                TimerKind::Retry => (task.holding.phase == Phase::Ready, task.holding.ready_at),
                TimerKind::Wait => (task.holding.phase == Phase::Evicted, task.holding.wake_at),
                TimerKind::Code => (
                    task.holding.phase == Phase::Evicted,
                    task.holding.wake_at.filter(|at| *at == NEVER.0),
                ),
                _ => (false, None),
            };
            if fits && at == Some(timer.due_at) && timer.piece == 0 {
                armed = Some(kind);
            } else {
                let (phase, due) = (task.holding.phase, time(timer.due_at));
                let what = format!(
                    "a {kind} timer is set for {due}, but the task is {phase} and does not wait for it"
                );
                problems.mendable(Invariant::I8, what, "delete the timer");
            }
        }
        match task.holding.phase {
            Phase::Ready => self.check_ready(task, armed, problems),
            Phase::Active | Phase::Deferred => self.check_held(task, problems),
            Phase::Evicted => self.check_evicted(task, armed, problems)?,
            _ => {}
        }
        Ok(())
    }

    fn check_outbox(&self, task: &Queued<'_>, row: &StoredOutbox, problems: &mut Problems) {
        if row.worker != 0 {
            let addressed = self.workers.get(&row.worker);
            if addressed.is_none_or(|worker| worker.is_forgotten) {
                let worker = words::worker(Some(row.worker));
                let what = format!("a wake-up is addressed to {worker}, who is gone");
                problems.mendable(Invariant::I8, what, "delete the outbox row");
            }
        } else if task.holding.phase != Phase::Ready {
            let what = format!("it is in the outbox, but is {}", task.holding.phase);
            problems.mendable(Invariant::I8, what, "delete the outbox row");
            return;
        }
        // A wake-up has no priority, and says since when it is there, not since when the task is ready.
        let (priority, ready_at) = match row.worker {
            0 => (self.priority(task.number), task.holding.ready_at),
            _ => (Some(0), None),
        };
        for (column, found, right) in [
            ("queue", row.queue, self.row.workflow),
            ("priority", row.priority, priority.unwrap_or(row.priority)),
            ("ready_at", row.ready_at, ready_at.unwrap_or(row.ready_at)),
        ] {
            if found != right {
                let what = format!("its outbox row has {column} {found}, it should be {right}");
                problems.mendable(Invariant::I8, what, format!("set {column} to {right}"));
            }
        }
    }

    fn priority(&self, number: u32) -> Option<i64> {
        let graph = self.graph.filter(|graph| number <= graph.len())?;
        Some(i64::from(
            self.row.priority.saturating_add(graph.priority_of(number)),
        ))
    }

    fn check_propagation(
        &self,
        task: &Queued<'_>,
        timer: &StoredTimer,
        propagating: &mut HashMap<u32, u32>,
        problems: &mut Problems,
    ) {
        if task.holding.phase.is_terminal() && task.holding.phase != Phase::Cancelled {
            let from = propagating.entry(task.number).or_insert(timer.piece);
            *from = timer.piece.min(*from);
        } else {
            let what = format!(
                "a timer tells its dependents that it ended, but it is {}",
                task.holding.phase
            );
            problems.add(Invariant::I8, what);
        }
    }

    fn check_ready(&self, task: &Queued<'_>, armed: Option<TimerKind>, problems: &mut Problems) {
        let queued = task.outbox.iter().any(|row| row.worker == 0);
        match (queued, armed) {
            (true, Some(_)) => problems.add(
                Invariant::I8,
                "it is in the outbox although its retry is not due yet",
            ),
            (false, None) => {
                let priority = self.priority(task.number).unwrap_or_default();
                let (queue, ready_at) =
                    (self.row.workflow, task.holding.ready_at.unwrap_or_default());
                problems.mendable(
                    Invariant::I8,
                    "it is Ready, but neither in the outbox nor waiting for a retry",
                    format!("add an outbox row with queue {queue}, priority {priority}, ready_at {ready_at}"),
                );
            }
            _ => {}
        }
    }

    fn check_held(&self, task: &Queued<'_>, problems: &mut Problems) {
        let (phase, worker) = (task.holding.phase, words::worker(task.holding.worker));
        let wrong = match task
            .holding
            .worker
            .and_then(|worker| self.workers.get(&worker))
        {
            Some(known) if known.is_forgotten => {
                "has ended long ago, and nobody recovers it".to_owned()
            }
            Some(known) if !known.knows(self.row.workflow) => {
                format!("doesn't know its workflow version {}", self.row.workflow)
            }
            Some(_) => return,
            None => "is not known".to_owned(),
        };
        problems.add(
            Invariant::I8,
            format!("it is {phase}, but {worker} {wrong}"),
        );
    }

    /// An evicted task is woken by a timer, by a signal, or by other code.
    fn check_evicted(
        &self,
        task: &Queued<'_>,
        armed: Option<TimerKind>,
        problems: &mut Problems,
    ) -> rusqlite::Result<()> {
        if let Some(at) = task.holding.wake_at.filter(|_| armed.is_none()) {
            problems.add(
                Invariant::I8,
                format!("it waits until {}, but no timer wakes it", time(at)),
            );
        }
        if task.holding.wake_at == Some(NEVER.0) || task.steps.unreadable {
            return Ok(());
        }
        let due = task.steps.due_at();
        if due != task.holding.wake_at {
            let shown = |at: Option<i64>| at.map_or_else(|| "no time".to_owned(), time);
            let what = format!(
                "it is woken at {}, but what it waits for first is due at {}",
                shown(task.holding.wake_at),
                shown(due)
            );
            problems.add(Invariant::I8, what);
        }
        let mut waits_for_something = task.holding.wake_at.is_some();
        for wait in task
            .steps
            .waits
            .iter()
            .filter(|wait| wait.kind == StepKind::Signal)
        {
            waits_for_something = true;
            if let Some(number) = self.unread(&wait.name)? {
                let what = format!(
                    "operation {} waits for signal `{}`, whose number {number} is there, but it was not woken",
                    wait.number,
                    wait.name.escape_debug()
                );
                problems.add(Invariant::I8, what);
            }
        }
        if !waits_for_something {
            problems.add(
                Invariant::I8,
                "it waits, but nothing that it waits for is recorded",
            );
        }
        Ok(())
    }

    // Relies on signals_unread.
    fn unread(&self, name: &str) -> rusqlite::Result<Option<i64>> {
        let sql = "SELECT number FROM signals WHERE execution = ?1 AND name = ?2 AND read_execution IS NULL \
                   ORDER BY number LIMIT 1";
        self.connection
            .prepare_cached(sql)?
            .query_row(params![self.id, name], |row| row.get(0))
            .optional()
    }
}

fn kind(timer: &StoredTimer, problems: &mut Problems) -> Option<TimerKind> {
    let kind = TimerKind::from_code(timer.kind);
    if kind.is_none() {
        problems.add(
            Invariant::I8,
            format!("a timer is of the unknown kind {}", timer.kind),
        );
    }
    kind
}
