//! The one ordered pass over executions, tasks, events, operations, outbox and timers, side by
//! side. What is kept in memory is one execution: its graph, and a few words for each task.

use std::collections::HashMap;

use abide_core::context::Changes;
use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey};
use abide_core::status::{ExecutionStatus, Phase};
use rusqlite::Connection;
use serde_json::Value;

use super::compare;
use super::cursor::Cursor;
use super::decisions::{Standing, Tasks};
use super::fold_execution::ExecutionFold;
use super::fold_task::TaskFold;
use super::graphs::Graphs;
use super::payloads::Payloads;
use super::queue::{Home, Queued, Workers};
use super::report::{Checked, Findings, Invariant, Problems, Subject};
use super::rows::{
    self, ExecutionCells, StoredEvent, StoredExecution, StoredOutbox, StoredStep, StoredTask,
    StoredTimer, TaskCells,
};
use super::steps::Steps;

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
        connection.prepare(rows::OUTBOX)?,
        connection.prepare(rows::TIMERS)?,
    ];
    let [executions, tasks, events, steps, outbox, timers] = &mut statements;
    let mut walk = Walk {
        connection,
        workers,
        executions: Cursor::new(executions, rows::execution)?,
        tables: Tables {
            tasks: Cursor::new(tasks, rows::task)?,
            events: Cursor::new(events, rows::event)?,
            steps: Cursor::new(steps, rows::step)?,
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

struct Tables<'s> {
    tasks: Cursor<'s, StoredTask>,
    events: Cursor<'s, StoredEvent>,
    steps: Cursor<'s, StoredStep>,
    outbox: Cursor<'s, StoredOutbox>,
    timers: Cursor<'s, StoredTimer>,
}

impl Tables<'_> {
    /// The first execution that has a row left in any of them.
    fn execution(&self) -> Option<i64> {
        let heads = [
            self.tasks.execution(),
            self.events.execution(),
            self.steps.execution(),
            self.outbox.execution(),
            self.timers.execution(),
        ];
        heads.into_iter().flatten().min()
    }

    /// The first task of an execution that has a row left in any of them.
    fn task(&self, execution: i64) -> Option<u32> {
        let heads = [
            self.tasks.task(execution),
            self.events.task(execution),
            self.steps.task(execution),
            self.outbox.task(execution),
            self.timers.task(execution),
        ];
        heads.into_iter().flatten().min()
    }

    /// Passes over what is left of an execution. Answers which tables had something of it.
    fn skip(&mut self, execution: i64) -> rusqlite::Result<Vec<&'static str>> {
        let mut had = Vec::new();
        macro_rules! skip {
            ($($table:ident, $what:literal;)+) => { $(
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
            outbox, "outbox rows";
            timers, "timers";
        }
        Ok(had)
    }
}

/// What belongs to one task.
#[derive(Default)]
struct Belongings {
    steps: Steps,
    outbox: Vec<StoredOutbox>,
    timers: Vec<StoredTimer>,
    has_steps: bool,
}

struct Walk<'s, 'c> {
    connection: &'c Connection,
    workers: &'c Workers,
    executions: Cursor<'s, StoredExecution>,
    tables: Tables<'s>,
    payloads: Payloads<'c>,
    graphs: Graphs,
    findings: &'c mut Findings,
    checked: &'c mut Checked,
}

/// One execution while its tasks are read.
struct Run<'a> {
    home: Home<'a>,
    /// Whether its history was removed.
    pruned: bool,
    /// Where its history says that it ended.
    end_position: Option<i64>,
    standing: Vec<Option<Standing>>,
    propagating: HashMap<u32, u32>,
    undecided_from: Option<u32>,
    claimed: bool,
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
        let only_queue = had
            .iter()
            .all(|what| ["outbox rows", "timers"].contains(what));
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

    fn execution(&mut self, stored: StoredExecution) -> rusqlite::Result<()> {
        let id = stored.id;
        let subject = Subject::execution(ExecutionId(id));
        let row = match stored.cells {
            Ok(row) => row,
            Err(error) => {
                self.findings.add(Invariant::I1, subject, error);
                return self.tables.skip(id).map(drop);
            }
        };
        if row.generation.is_none() {
            self.checked.unpublished += 1;
            return self.tables.skip(id).map(drop);
        }
        let mut problems = Problems::default();
        let fold = self.fold_execution(id, &row, &mut problems)?;
        let whole = fold.as_ref().filter(|fold| !fold.stream.broken);
        self.check_execution_payloads(&row, whole, &mut problems)?;
        let status = whole
            .and_then(|fold| fold.status())
            .map_or_else(|| compare::stored_status(&row), Ok);
        let graph = self
            .graphs
            .load(self.connection, &mut self.payloads, &row, &mut problems)?;
        let status = match status {
            Ok(status) => status,
            Err(error) => {
                problems.add(Invariant::I6, error);
                self.findings.take(&subject, &mut problems);
                return self.tables.skip(id).map(drop);
            }
        };
        if let (Some(created), Some(graph)) = (whole.and_then(|fold| fold.created.as_ref()), &graph)
            && created.tasks != graph.len()
        {
            let (tasks, nodes) = (created.tasks, graph.len());
            problems.add(
                Invariant::I6,
                format!("history recorded {tasks} tasks, its graph has {nodes}"),
            );
        }
        let home = Home {
            id,
            row: &row,
            status,
            graph: graph.as_deref(),
            workers: self.workers,
            connection: self.connection,
        };
        let mut timers = Vec::new();
        while let Some(timer) = self.tables.timers.next_of_task(id, 0)? {
            timers.push(timer);
        }
        let starts_from = home.check_execution(&timers, &mut problems);
        let undecided_from = match (starts_from, &graph) {
            (Some(from), Some(graph)) => graph.roots().nth(from as usize),
            _ => None,
        };
        let mut run = Run {
            home,
            pruned: row.history_pruned_at.is_some(),
            end_position: whole.and_then(|fold| fold.end_position),
            standing: vec![None; graph.as_ref().map_or(0, |graph| graph.len() as usize)],
            propagating: HashMap::new(),
            undecided_from,
            claimed: false,
        };
        self.findings.take(&subject, &mut problems);
        self.tasks(&mut run)?;
        let started = whole.map(|fold| fold.started_at.is_some());
        self.conclude(&run, started, &mut problems);
        self.findings.take(&subject, &mut problems);
        Ok(())
    }

    /// Replays the execution's own stream. None if its history was removed.
    fn fold_execution(
        &mut self,
        id: i64,
        row: &ExecutionCells,
        problems: &mut Problems,
    ) -> rusqlite::Result<Option<ExecutionFold>> {
        let mut fold = ExecutionFold::new();
        while let Some(event) = self.tables.events.next_of_task(id, 0)? {
            fold.take(&event, problems);
        }
        if row.history_pruned_at.is_some() {
            self.checked.without_history += 1;
            if compare::stored_status(row).is_ok_and(|status| !status.is_terminal()) {
                problems.add(
                    Invariant::I5,
                    "its history was removed although it has not ended",
                );
            }
            return Ok(None);
        }
        fold.stream.end(Some(row.version), problems);
        if !fold.stream.broken {
            compare::execution(row, &fold, problems);
        }
        Ok(Some(fold))
    }

    fn check_execution_payloads(
        &mut self,
        row: &ExecutionCells,
        fold: Option<&ExecutionFold>,
        problems: &mut Problems,
    ) -> rusqlite::Result<()> {
        let created = fold.and_then(|fold| fold.created.as_ref());
        let recorded = created.map(|created| created.input.as_ref());
        self.payloads
            .recorded("its input", row.input.as_deref(), recorded, problems)?;
        let tags = row.tags.as_deref().map(serde_json::from_str::<Vec<String>>);
        if let Some(Err(error)) = tags {
            problems.add(
                Invariant::I1,
                format!("its tags are no list of texts: {error}"),
            );
        }
        Ok(())
    }

    fn tasks(&mut self, run: &mut Run<'_>) -> rusqlite::Result<()> {
        let id = run.home.id;
        let mut expected = 1;
        while let Some(number) = self.tables.task(id) {
            for missing in expected..number.min(run.standing.len() as u32 + 1) {
                self.missing_task(id, missing);
            }
            expected = number + 1;
            self.task(run, number)?;
        }
        for missing in expected..=run.standing.len() as u32 {
            self.missing_task(id, missing);
        }
        Ok(())
    }

    fn missing_task(&mut self, id: i64, number: u32) {
        let key = TaskKey::new(ExecutionId(id), number);
        let what = "its graph has this task, but neither a row nor a history is stored";
        self.findings.add(Invariant::I1, Subject::task(key), what);
    }

    fn task(&mut self, run: &mut Run<'_>, number: u32) -> rusqlite::Result<()> {
        let id = run.home.id;
        let subject = Subject::task(TaskKey::new(ExecutionId(id), number));
        let mut problems = Problems::default();
        let row = self.tables.tasks.next_of_task(id, number)?;
        let mut fold = TaskFold::new();
        while let Some(event) = self.tables.events.next_of_task(id, number)? {
            fold.take(&event, &mut problems);
        }
        let belongings = self.belongings(id, number, &mut problems)?;
        let cells = match row.map(|row| row.cells) {
            Some(Ok(cells)) => Some(cells),
            Some(Err(error)) => {
                problems.add(Invariant::I1, error);
                None
            }
            None => {
                self.no_row(&fold, &belongings, &mut problems);
                None
            }
        };
        let version = cells.as_ref().map(|cells| cells.version);
        if !run.pruned {
            fold.stream.end(version, &mut problems);
        }
        let whole = (!run.pruned && !fold.stream.broken && fold.phase().is_some()).then_some(&fold);
        self.check_task(
            run,
            number,
            cells.as_ref(),
            whole,
            belongings,
            &mut problems,
        )?;
        self.findings.take(&subject, &mut problems);
        Ok(())
    }

    fn no_row(&self, fold: &TaskFold, belongings: &Belongings, problems: &mut Problems) {
        if fold.stream.n > 0 {
            problems.add(Invariant::I1, "it has a history, but its row is missing");
        } else if belongings.has_steps {
            problems.add(
                Invariant::I1,
                "it has recorded operations, but its row is missing",
            );
        } else {
            problems.add(
                Invariant::I8,
                "the outbox or a timer names it, but it is not stored",
            );
        }
    }

    fn belongings(
        &mut self,
        id: i64,
        number: u32,
        problems: &mut Problems,
    ) -> rusqlite::Result<Belongings> {
        let mut all = Belongings::default();
        while let Some(step) = self.tables.steps.next_of_task(id, number)? {
            all.has_steps = true;
            all.steps.take(&step, &mut self.payloads, problems)?;
        }
        while let Some(row) = self.tables.outbox.next_of_task(id, number)? {
            all.outbox.push(row);
        }
        while let Some(timer) = self.tables.timers.next_of_task(id, number)? {
            all.timers.push(timer);
        }
        Ok(all)
    }

    /// Checks a task by its history where that is whole, and by its row where it is not.
    fn check_task(
        &mut self,
        run: &mut Run<'_>,
        number: u32,
        cells: Option<&TaskCells>,
        fold: Option<&TaskFold>,
        belongings: Belongings,
        problems: &mut Problems,
    ) -> rusqlite::Result<()> {
        let Belongings {
            mut steps,
            outbox,
            timers,
            ..
        } = belongings;
        if let (Some(cells), Some(fold)) = (cells, fold) {
            compare::task(cells, fold, problems);
        }
        if let Some(cells) = cells {
            self.check_task_payloads(cells, fold, problems)?;
            self.check_node(run, number, cells, problems);
        }
        if let Some(fold) = fold {
            check_attempts(run.home.graph, number, fold, problems);
            if run.end_position.is_some_and(|end| end < fold.last_position) {
                problems.add(Invariant::I3, "it went on after its execution had ended");
            }
        }
        steps.end(fold.is_some_and(|fold| fold.error.is_none()), problems);
        let stored = cells.map(compare::stored_phase);
        let phase = match (fold.and_then(TaskFold::phase), stored) {
            (Some(phase), _) | (None, Some(Ok(phase))) => phase,
            (None, Some(Err(error))) => {
                problems.add(Invariant::I6, error);
                return Ok(());
            }
            (None, None) => return Ok(()),
        };
        run.claimed |= fold.is_some_and(|fold| fold.epoch > 0 && fold.started_at.is_some());
        if let Some(standing) = run.standing.get_mut(number as usize - 1) {
            *standing = Some(Standing {
                phase,
                counters: cells.map(|cells| (cells.waiting, cells.unmet)),
                decided: fold.and_then(|fold| fold.decided),
            });
        }
        let queued = Queued {
            number,
            phase,
            worker: fold.map_or_else(|| cells.and_then(|cells| cells.worker), |fold| fold.worker),
            ready_at: fold.map_or_else(
                || cells.and_then(|cells| cells.ready_at),
                |fold| fold.ready_at,
            ),
            wake_at: fold.map_or_else(
                || cells.and_then(|cells| cells.wake_at),
                |fold| fold.wake_at,
            ),
            steps: &steps,
            outbox: &outbox,
            timers: &timers,
        };
        run.home.check_task(&queued, &mut run.propagating, problems)
    }

    fn check_task_payloads(
        &mut self,
        cells: &TaskCells,
        fold: Option<&TaskFold>,
        problems: &mut Problems,
    ) -> rusqlite::Result<()> {
        let payloads = &mut self.payloads;
        let recorded = fold.map(|fold| fold.output.as_ref());
        payloads.recorded("its output", cells.output.as_deref(), recorded, problems)?;
        payloads.text("its input", cells.input.as_deref(), problems)?;
        payloads.text("its progress", cells.progress.as_deref(), problems)?;
        for (what, stored) in [
            ("its changes", &cells.changes),
            ("its checkpoint", &cells.checkpoint),
        ] {
            let text = payloads.text(what, stored.as_deref(), problems)?;
            if let Some(Err(error)) = text.map(|text| serde_json::from_str::<Changes>(&text)) {
                problems.add(Invariant::I1, format!("{what} cannot be read: {error}"));
            }
        }
        let error = payloads.text("its error", cells.error.as_deref(), problems)?;
        let Some(fold) = fold else { return Ok(()) };
        let value = |json: &str| serde_json::from_str::<Value>(json).ok();
        match (error, &fold.error) {
            (Some(stored), Some(history)) if value(&stored) != value(history.get()) => {
                problems.differs("error", stored, history);
            }
            (Some(stored), None) => problems.differs("error", stored, "NULL"),
            (None, Some(history)) if cells.error.is_none() => {
                problems.differs("error", "NULL", history);
            }
            _ => {}
        }
        Ok(())
    }

    fn check_node(&self, run: &Run<'_>, number: u32, cells: &TaskCells, problems: &mut Problems) {
        let Some(graph) = run.home.graph else { return };
        if number > graph.len() {
            let what = format!("its graph has only {} tasks", graph.len());
            problems.add(Invariant::I6, what);
        } else if cells.node != graph.node_id(number) {
            let (node, id) = (
                cells.node.escape_debug(),
                graph.node_id(number).escape_debug(),
            );
            let what = format!("node is `{node}`, its graph says `{id}`");
            problems.mendable(Invariant::I6, what, format!("set node to `{id}`"));
        }
    }

    /// What can be said once every task of the execution was read.
    fn conclude(&mut self, run: &Run<'_>, started: Option<bool>, problems: &mut Problems) {
        let (row, status) = (run.home.row, run.home.status);
        let Some(graph) = run.home.graph else { return };
        let known = run.standing.iter().flatten();
        let count = |which: &dyn Fn(Phase) -> bool| {
            known
                .clone()
                .filter(|standing| which(standing.phase))
                .count() as u32
        };
        let whole = known.clone().count() == graph.len() as usize;
        let open = count(&|phase| !phase.is_terminal());
        let failed = count(&|phase| matches!(phase, Phase::Failed | Phase::Abandoned));
        if whole {
            if row.open != open {
                problems.differs("open", row.open, open);
            }
            if row.failed != failed {
                problems.differs("failed", row.failed, failed);
            }
        }
        match (status.is_terminal(), open) {
            (true, 1..) => problems.add(
                Invariant::I6,
                format!("it is {status}, but {open} of its tasks are open"),
            ),
            (false, 0) if whole => {
                problems.add(
                    Invariant::I8,
                    format!("it is {status}, but none of its tasks is open"),
                );
            }
            _ => {}
        }
        if run.claimed && started == Some(false) {
            problems.add(
                Invariant::I6,
                "a task of it was claimed, but history has no start of it",
            );
        }
        let tasks = Tasks {
            graph,
            standing: &run.standing,
            propagating: &run.propagating,
            undecided_from: run.undecided_from,
            status,
        };
        check_outcome(&tasks, problems);
        for (number, standing) in graph.numbers().zip(&run.standing) {
            let Some(standing) = standing else { continue };
            let mut of_task = Problems::default();
            tasks.check(number, standing, &mut of_task);
            let key = TaskKey::new(ExecutionId(run.home.id), number);
            self.findings.take(&Subject::task(key), &mut of_task);
        }
    }
}

fn check_outcome(tasks: &Tasks<'_>, problems: &mut Problems) {
    let uncaught = match tasks.status {
        ExecutionStatus::Completed | ExecutionStatus::Failed => tasks.uncaught(),
        _ => return,
    };
    match (tasks.status, uncaught) {
        (ExecutionStatus::Completed, Some(number)) => {
            let node = tasks.graph.node_id(number).escape_debug();
            let what =
                format!("it is Completed, but the failure of its task `{node}` was not caught");
            problems.add(Invariant::I6, what);
        }
        (ExecutionStatus::Failed, None) => {
            problems.add(
                Invariant::I6,
                "it is Failed, but every failure of a task was caught",
            );
        }
        _ => {}
    }
}

/// At most one attempt more than retries and crashes account for.
fn check_attempts(graph: Option<&Graph>, number: u32, fold: &TaskFold, problems: &mut Problems) {
    let Some(graph) = graph.filter(|graph| number <= graph.len()) else {
        return;
    };
    let allowed = graph.task_of(number).retry.retries;
    if fold.retries > allowed {
        let retries = fold.retries;
        let what = format!("history has {retries} retries, its definition allows {allowed}");
        problems.add(Invariant::I4, what);
    }
}
