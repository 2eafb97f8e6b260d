//! Recorded operations of one task: each has one result, in one place of the order in which they
//! ended, or is waited for.

use abide_core::failure::Failure;
use abide_core::step::{StepKind, StepState};

use super::payloads::Payloads;
use super::report::{Invariant, Problems};
use super::rows::{StepCells, StoredStep};

/// What a task has recorded.
#[derive(Default)]
pub(super) struct Steps {
    /// What it waits for.
    pub(super) waits: Vec<Wait>,
    /// Some of it could not be read, so that there may be more.
    pub(super) unreadable: bool,
    /// The places of those that ended.
    ordinals: Vec<u32>,
}

/// An operation that is waited for.
pub(super) struct Wait {
    pub(super) number: u32,
    pub(super) kind: StepKind,
    pub(super) name: String,
    pub(super) due_at: Option<i64>,
}

impl Steps {
    pub(super) fn take(
        &mut self,
        step: &StoredStep,
        payloads: &mut Payloads<'_>,
        problems: &mut Problems,
    ) -> rusqlite::Result<()> {
        let number = step.number;
        let cells = match &step.cells {
            Ok(cells) => cells,
            Err(error) => {
                problems.add(Invariant::I1, format!("operation {number}: {error}"));
                self.unreadable = true;
                return Ok(());
            }
        };
        if number == 0 {
            problems.add(Invariant::I1, "an operation has no number");
        }
        let what = format!("the result of operation {number}");
        let result = payloads.text(&what, cells.result.as_deref(), problems)?;
        let Some((kind, state)) = parse(number, cells, problems) else {
            self.unreadable = true;
            return Ok(());
        };
        if state == StepState::Waiting {
            self.waiting(number, kind, cells, problems);
            return Ok(());
        }
        self.ordinals.push(cells.ordinal);
        if state == StepState::GivenBack {
            check_given_back(number, kind, cells, problems);
        } else if cells.result.is_none() {
            problems.add(
                Invariant::I1,
                format!("operation {number} is {state} without a result"),
            );
        }
        if state == StepState::Failed
            && let Some(Err(error)) = result.map(|json| serde_json::from_str::<Failure>(&json))
        {
            problems.add(Invariant::I1, format!("{what} is no error: {error}"));
        }
        Ok(())
    }

    fn waiting(&mut self, number: u32, kind: StepKind, cells: &StepCells, problems: &mut Problems) {
        if cells.result.is_some() || cells.ordinal != 0 {
            let what = format!(
                "operation {number} is waited for, but has ended in place {}",
                cells.ordinal
            );
            problems.add(Invariant::I4, what);
        }
        if kind == StepKind::Sleep && cells.due_at.is_none() {
            problems.add(
                Invariant::I8,
                format!("operation {number} is a sleep without an end"),
            );
        }
        self.waits.push(Wait {
            number,
            kind,
            name: cells.name.clone(),
            due_at: cells.due_at,
        });
    }

    /// All were taken. `whole` tells that none of them was ever superseded, as the next attempt
    /// does with what failed the last.
    pub(super) fn end(&mut self, whole: bool, problems: &mut Problems) {
        self.ordinals.sort_unstable();
        let mut last = 0;
        let whole = whole && !self.unreadable;
        for &ordinal in &self.ordinals {
            if ordinal == 0 {
                problems.add(
                    Invariant::I4,
                    "an operation has ended without a place in the order of results",
                );
            } else if ordinal == last {
                problems.add(
                    Invariant::I4,
                    format!("two results stand in place {ordinal} of their order"),
                );
            } else if whole && ordinal != last + 1 {
                problems.add(
                    Invariant::I1,
                    format!("the result in place {} of their order is missing", last + 1),
                );
            }
            last = ordinal;
        }
        self.ordinals = Vec::new();
    }

    /// When the first of the waits is over, if that is a matter of time.
    pub(super) fn due_at(&self) -> Option<i64> {
        self.waits.iter().filter_map(|wait| wait.due_at).min()
    }
}

/// Only a signal goes back, and its payload goes with it.
fn check_given_back(number: u32, kind: StepKind, cells: &StepCells, problems: &mut Problems) {
    let state = StepState::GivenBack;
    if kind != StepKind::Signal {
        problems.add(
            Invariant::I4,
            format!("operation {number} is {state}, but is a {kind}"),
        );
    }
    if cells.result.is_some() {
        problems.add(
            Invariant::I4,
            format!("operation {number} is {state}, but has a result"),
        );
    }
}

fn parse(number: u32, cells: &StepCells, problems: &mut Problems) -> Option<(StepKind, StepState)> {
    let kind = StepKind::parse(&cells.kind);
    let state = StepState::parse(&cells.state);
    for (column, text, known) in [
        ("kind", &cells.kind, kind.is_some()),
        ("state", &cells.state, state.is_some()),
    ] {
        if !known {
            let text = text.escape_debug();
            problems.add(
                Invariant::I1,
                format!("operation {number} has the unknown {column} `{text}`"),
            );
        }
    }
    kind.zip(state)
}
