//! One execution: its own stream and row, then its tasks, then what they add up to.

use std::collections::HashMap;

use abide_core::ids::{ExecutionId, TaskKey};
use abide_core::status::{ExecutionStatus, Phase};

use super::compare;
use super::decisions::{Standing, Tasks};
use super::fold_execution::ExecutionFold;
use super::queue::Home;
use super::report::{Invariant, Problems, Subject};
use super::rows::{ExecutionCells, StoredExecution};
use super::walk::{QUEUES, Walk};

/// One execution while its tasks are read.
pub(super) struct Run<'a> {
    pub(super) home: Home<'a>,
    /// Whether its history was removed.
    pub(super) pruned: bool,
    /// Where its history says that it ended.
    pub(super) end_position: Option<i64>,
    pub(super) standing: Vec<Option<Standing>>,
    pub(super) propagating: HashMap<u32, u32>,
    pub(super) undecided_from: Option<u32>,
    pub(super) claimed: bool,
    /// The tasks that have a checkpoint of the context, ascending.
    pub(super) checkpoints: Vec<u32>,
}

impl Walk<'_, '_> {
    pub(super) fn execution(&mut self, stored: StoredExecution) -> rusqlite::Result<()> {
        let subject = Subject::execution(ExecutionId(stored.id));
        let row = match stored.cells {
            Ok(row) => row,
            Err(error) => {
                self.findings.add(Invariant::I1, subject, error);
                return self.tables.skip(stored.id).map(drop);
            }
        };
        if row.generation.is_none() {
            return self.unpublished(stored.id, &row);
        }
        let mut problems = Problems::default();
        let fold = self.fold_execution(stored.id, &row, &mut problems)?;
        let fold = fold.as_ref().filter(|fold| !fold.stream.broken);
        self.check_execution_payloads(&row, fold, &mut problems)?;
        let status = match fold.and_then(|fold| fold.status()) {
            Some(status) => Ok(status),
            None => compare::stored_status(&row),
        };
        match status {
            Ok(status) => self.contents(stored.id, &row, status, fold, &mut problems)?,
            Err(error) => {
                problems.add(Invariant::I6, error);
                self.tables.skip(stored.id)?;
            }
        }
        self.findings.take(&subject, &mut problems);
        Ok(())
    }

    /// Checks what an execution consists of, whose status is known. `fold` is its history, if that
    /// is whole.
    fn contents(
        &mut self,
        id: i64,
        row: &ExecutionCells,
        status: ExecutionStatus,
        fold: Option<&ExecutionFold>,
        problems: &mut Problems,
    ) -> rusqlite::Result<()> {
        let graph = self
            .graphs
            .load(self.connection, &mut self.payloads, row, problems)?;
        let nodes = graph.as_ref().map_or(0, |graph| graph.len());
        let created = fold.and_then(|fold| fold.created.as_ref());
        if let Some(created) = created.filter(|created| graph.is_some() && created.tasks != nodes) {
            let tasks = created.tasks;
            let what = format!("history recorded {tasks} tasks, its graph has {nodes}");
            problems.add(Invariant::I6, what);
        }
        let home = Home {
            id,
            row,
            status,
            graph: graph.as_deref(),
            workers: self.workers,
            connection: self.connection,
        };
        let mut timers = Vec::new();
        while let Some(timer) = self.tables.timers.next_of_task(id, 0)? {
            timers.push(timer);
        }
        let starts_from = home.check_execution(&timers, problems);
        let undecided_from = match (starts_from, &graph) {
            (Some(from), Some(graph)) => graph.roots().nth(from as usize),
            _ => None,
        };
        let mut run = Run {
            home,
            pruned: row.history_pruned_at.is_some(),
            end_position: fold.and_then(|fold| fold.end_position),
            standing: vec![None; nodes as usize],
            propagating: HashMap::new(),
            undecided_from,
            claimed: false,
            checkpoints: Vec::new(),
        };
        self.tasks(&mut run)?;
        self.contexts(&run)?;
        let started = fold.map(|fold| fold.started_at.is_some());
        self.conclude(&run, started, problems);
        Ok(())
    }

    /// An execution whose graph is still being written is known to nobody, and has not begun.
    fn unpublished(&mut self, id: i64, row: &ExecutionCells) -> rusqlite::Result<()> {
        self.checked.unpublished += 1;
        let had = self.tables.skip(id)?;
        let begun = row.version > 1 || row.status != ExecutionStatus::Pending.as_str();
        if begun || had.iter().any(|what| QUEUES.contains(what)) {
            let what =
                "it has no generation, as if its graph were still being written, but it has begun";
            let subject = Subject::execution(ExecutionId(id));
            self.findings.add(Invariant::I2, subject, what);
        }
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
        if row.history_pruned_at.is_some() && self.tables.events.execution() == Some(id) {
            let what = "its history is said to have been removed, but is there";
            problems.add(Invariant::I5, what);
        }
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

    /// What can be said once every task of the execution was read.
    fn conclude(&mut self, run: &Run<'_>, started: Option<bool>, problems: &mut Problems) {
        let Some(graph) = run.home.graph else { return };
        run.check_counts(problems);
        if run.claimed && started == Some(false) {
            let what = "a task of it was claimed, but history has no start of it";
            problems.add(Invariant::I6, what);
        }
        let tasks = Tasks {
            graph,
            standing: &run.standing,
            propagating: &run.propagating,
            undecided_from: run.undecided_from,
            status: run.home.status,
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

impl Run<'_> {
    /// Compares what the execution counts with what its tasks are.
    fn check_counts(&self, problems: &mut Problems) {
        let (row, status) = (self.home.row, self.home.status);
        let (mut known, mut open, mut failed) = (0, 0, 0);
        for standing in self.standing.iter().flatten() {
            known += 1;
            open += u32::from(!standing.phase.is_terminal());
            failed += u32::from(matches!(standing.phase, Phase::Failed | Phase::Abandoned));
        }
        if status.is_terminal() && open > 0 {
            let what = format!("it is {status}, but {open} of its tasks are open");
            problems.add(Invariant::I6, what);
        }
        if known < self.standing.len() {
            // Tasks are missing, which was said.
            return;
        }
        if row.open != open {
            problems.differs("open", row.open, open);
        }
        if row.failed != failed {
            problems.differs("failed", row.failed, failed);
        }
        if !status.is_terminal() && open == 0 {
            let what = format!("it is {status}, but none of its tasks is open");
            problems.add(Invariant::I8, what);
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
