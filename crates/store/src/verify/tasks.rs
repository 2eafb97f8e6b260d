//! One task after the other: its stream and row, its operations, and what names it.

use abide_core::context::Changes;
use abide_core::graph::Graph;
use abide_core::ids::{ExecutionId, TaskKey};
use serde_json::Value;

use super::compare;
use super::decisions::Standing;
use super::executions::Run;
use super::fold_task::TaskFold;
use super::payloads::compare as compare_digest;
use super::queue::{Holding, Queued};
use super::report::{Invariant, Problems, Subject};
use super::rows::{StoredOutbox, StoredRead, StoredStep, StoredTimer, TaskCells};
use super::steps::Steps;
use super::walk::Walk;

/// What belongs to one task.
#[derive(Default)]
struct Belongings {
    steps: Steps,
    outbox: Vec<StoredOutbox>,
    timers: Vec<StoredTimer>,
    has_steps: bool,
}

/// A task as far as it can be read: its row, and its history if that is whole.
struct Known<'a> {
    number: u32,
    cells: Option<&'a TaskCells>,
    fold: Option<&'a TaskFold>,
}

impl Known<'_> {
    /// Where the task stands: by its history, or by its row where that is all there is.
    fn holding(&self, problems: &mut Problems) -> Option<Holding> {
        if let Some(fold) = self.fold {
            return Some(Holding {
                phase: fold.phase()?,
                worker: fold.worker,
                ready_at: fold.ready_at,
                wake_at: fold.wake_at,
            });
        }
        let cells = self.cells?;
        match compare::stored_phase(cells) {
            Ok(phase) => Some(Holding {
                phase,
                worker: cells.worker,
                ready_at: cells.ready_at,
                wake_at: cells.wake_at,
            }),
            Err(error) => {
                problems.add(Invariant::I6, error);
                None
            }
        }
    }
}

impl Walk<'_, '_> {
    /// Checks every task of an execution, and names those that are missing.
    pub(super) fn tasks(&mut self, run: &mut Run<'_>) -> rusqlite::Result<()> {
        let id = run.home.id;
        let nodes = run.standing.len() as u32;
        let mut expected = 1;
        while let Some(number) = self.tables.task(id) {
            if number == 0 {
                self.tables.skip_task(id, 0)?;
                let what = "a row names task 0 of it, which stands for no task";
                self.findings
                    .add(Invariant::I8, Subject::execution(ExecutionId(id)), what);
                continue;
            }
            for missing in expected..number.min(nodes.saturating_add(1)) {
                self.missing_task(id, missing);
            }
            expected = number.saturating_add(1);
            self.task(run, number)?;
        }
        for missing in expected..=nodes {
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
        let mut problems = Problems::default();
        let row = self.tables.tasks.next_of_task(id, number)?;
        let mut fold = TaskFold::new();
        while let Some(event) = self.tables.events.next_of_task(id, number)? {
            fold.take(&event, &mut problems);
        }
        let belongings = self.belongings(run, number, &mut problems)?;
        let cells = match row.map(|row| row.cells) {
            Some(Ok(cells)) => Some(cells),
            Some(Err(error)) => {
                problems.add(Invariant::I1, error);
                None
            }
            None => {
                no_row(&fold, &belongings, &mut problems);
                None
            }
        };
        if !run.pruned {
            let version = cells.as_ref().map(|cells| cells.version);
            fold.stream.end(version, &mut problems);
        }
        let whole = !run.pruned && !fold.stream.broken && fold.phase().is_some();
        let known = Known {
            number,
            cells: cells.as_ref(),
            fold: whole.then_some(&fold),
        };
        self.check_task(run, &known, belongings, &mut problems)?;
        let key = TaskKey::new(ExecutionId(id), number);
        self.findings.take(&Subject::task(key), &mut problems);
        Ok(())
    }

    fn belongings(
        &mut self,
        run: &Run<'_>,
        number: u32,
        problems: &mut Problems,
    ) -> rusqlite::Result<Belongings> {
        let id = run.home.id;
        let mut read = self.tables.reads.next_of_task(id, number)?;
        let mut all = Belongings::default();
        while let Some(step) = self.tables.steps.next_of_task(id, number)? {
            all.has_steps = true;
            all.steps.take(&step, &mut self.payloads, problems)?;
            let mut was_read = false;
            while let Some(signal) = read.take_if(|read| read.operation <= step.number) {
                self.check_read(run, &signal, Some(&step).filter(|_| !was_read))?;
                was_read |= signal.operation == step.number;
                read = self.tables.reads.next_of_task(id, number)?;
            }
            if !was_read && step.is_read_signal() {
                let what = format!(
                    "operation {} is done, but no signal was read by it",
                    step.number
                );
                problems.add(Invariant::I4, what);
            }
        }
        while let Some(signal) = read {
            self.check_read(run, &signal, None)?;
            read = self.tables.reads.next_of_task(id, number)?;
        }
        while let Some(row) = self.tables.outbox.next_of_task(id, number)? {
            all.outbox.push(row);
        }
        while let Some(timer) = self.tables.timers.next_of_task(id, number)? {
            all.timers.push(timer);
        }
        Ok(all)
    }

    /// Checks that a signal that was read is the result of the operation that read it.
    fn check_read(
        &mut self,
        run: &Run<'_>,
        signal: &StoredRead,
        step: Option<&StoredStep>,
    ) -> rusqlite::Result<()> {
        let reader = format!(
            "number {} was read by operation {}",
            signal.number, signal.operation
        );
        let step = step.filter(|step| step.number == signal.operation);
        let wrong = match step.map(|step| &step.cells) {
            None => Some(format!("{reader} of a task that has not recorded that")),
            // That was said.
            Some(Err(_)) => None,
            Some(Ok(cells))
                if signal.instance != run.home.row.instance || !cells.reads(&signal.name) =>
            {
                let (kind, name) = (cells.kind.escape_debug(), cells.name.escape_debug());
                Some(format!(
                    "{reader}, which is {kind} `{name}`, {}",
                    cells.state.escape_debug()
                ))
            }
            Some(Ok(cells)) => {
                let mut said_elsewhere = Problems::default();
                let mut text = |stored| self.payloads.text("", stored, &mut said_elsewhere);
                let payload = text(Some(&signal.payload))?;
                let differs = payload != text(cells.result.as_deref())?;
                differs.then(|| format!("{reader}, whose result is another payload"))
            }
        };
        if let Some(wrong) = wrong {
            let (instance, name) = (signal.instance.clone(), signal.name.clone());
            self.findings
                .add(Invariant::I4, Subject::Mailbox { instance, name }, wrong);
        }
        Ok(())
    }

    fn check_task(
        &mut self,
        run: &mut Run<'_>,
        known: &Known<'_>,
        belongings: Belongings,
        problems: &mut Problems,
    ) -> rusqlite::Result<()> {
        let Known {
            number,
            cells,
            fold,
        } = *known;
        if let Some(cells) = cells {
            self.check_task_payloads(cells, fold, problems)?;
            if cells.checkpoint.is_some() {
                run.checkpoints.push(number);
            }
            check_node(run.home.graph, number, cells, problems);
        }
        if let Some(fold) = fold {
            if let Some(cells) = cells {
                compare::task(cells, fold, problems);
            }
            check_attempts(run.home.graph, number, fold, problems);
            run.claimed |= fold.started_at.is_some();
            if run.end_position.is_some_and(|end| end < fold.last_position) {
                problems.add(Invariant::I3, "it went on after its execution had ended");
            }
        }
        let mut steps = belongings.steps;
        steps.end(fold.is_some_and(|fold| fold.error.is_none()), problems);
        let Some(holding) = known.holding(problems) else {
            return Ok(());
        };
        if let Some(standing) = run.standing.get_mut(number as usize - 1) {
            *standing = Some(Standing {
                phase: holding.phase,
                counters: cells.map(|cells| (cells.waiting, cells.unmet)),
                decided: fold.and_then(|fold| fold.decided),
            });
        }
        let queued = Queued {
            number,
            holding,
            steps: &steps,
            outbox: &belongings.outbox,
            timers: &belongings.timers,
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
        let changes = fold.map(|fold| fold.changes.as_ref());
        let checkpoint = fold.map(|fold| fold.checkpoint.as_ref());
        for (what, stored, history) in [
            ("its changes", cells.changes.as_deref(), changes),
            ("its checkpoint", cells.checkpoint.as_deref(), checkpoint),
        ] {
            let text = payloads.text(what, stored, problems)?;
            let read = text.as_deref().map(serde_json::from_str::<Changes>);
            match read {
                Some(Err(error)) => {
                    problems.add(Invariant::I1, format!("{what} cannot be read: {error}"));
                }
                _ => compare_digest(what, stored, text.as_deref(), history, problems),
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

fn check_node(graph: Option<&Graph>, number: u32, cells: &TaskCells, problems: &mut Problems) {
    let Some(graph) = graph else { return };
    if number > graph.len() {
        let what = format!("its graph has only {} tasks", graph.len());
        problems.add(Invariant::I6, what);
    } else if cells.node != graph.node_id(number) {
        let node = cells.node.escape_debug();
        let id = graph.node_id(number).escape_debug();
        let what = format!("node is `{node}`, its graph says `{id}`");
        problems.mendable(Invariant::I6, what, format!("set node to `{id}`"));
    }
}

fn no_row(fold: &TaskFold, belongings: &Belongings, problems: &mut Problems) {
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
