//! What a graph makes of how its tasks ended: counters, decisions and the execution's outcome,
//! worked out again from the graph with code of its own.

use std::collections::HashMap;

use abide_core::graph::Graph;
use abide_core::status::{ExecutionStatus, Phase};
use abide_core::trigger::Trigger;

use super::report::{Invariant, Problems};

/// What is known of a task once its rows were read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) phase: Phase,
    /// As stored; none if its row is missing.
    pub(super) counters: Option<(u32, u32)>,
    /// Whether its rule was found to hold, if history says so.
    pub(super) decided: Option<bool>,
}

/// The tasks of an execution, read so far.
pub(super) struct Tasks<'a> {
    pub(super) graph: &'a Graph,
    /// By number; none if nothing is known of a task.
    pub(super) standing: &'a [Option<Standing>],
    /// Ended tasks whose dependents are still being told, and from the how-manieth on.
    pub(super) propagating: &'a HashMap<u32, u32>,
    /// The first of the roots that a timer will still decide, if there is one.
    pub(super) undecided_from: Option<u32>,
    pub(super) status: ExecutionStatus,
}

impl Tasks<'_> {
    fn phase(&self, number: u32) -> Option<Phase> {
        let standing = self.standing.get((number as usize).checked_sub(1)?)?;
        standing.map(|standing| standing.phase)
    }

    /// Whether a task's end was told to this dependent of it.
    fn was_told(&self, dependency: u32, number: u32) -> Option<bool> {
        let phase = self.phase(dependency)?;
        // Cancelled tasks tell nobody: all that is open is cancelled with them.
        if !phase.is_terminal() || phase == Phase::Cancelled {
            return Some(false);
        }
        let Some(&from) = self.propagating.get(&dependency) else {
            return Some(true);
        };
        let place = self.graph.dependents(dependency).binary_search(&number);
        Some(place.is_ok_and(|place| place < from as usize))
    }

    /// Checks one task against the ends of its dependencies.
    pub(super) fn check(&self, number: u32, standing: &Standing, problems: &mut Problems) {
        let (mut waiting, mut unmet) = (0, 0);
        for &dependency in self.graph.dependencies(number) {
            match self.was_told(dependency, number) {
                Some(true) => unmet += u32::from(self.phase(dependency) != Some(Phase::Completed)),
                Some(false) => waiting += 1,
                // Its row is missing, which was said.
                None => return,
            }
        }
        if let Some((stored_waiting, stored_unmet)) = standing.counters {
            if stored_waiting != waiting {
                problems.differs("waiting", stored_waiting, waiting);
            }
            if stored_unmet != unmet {
                problems.differs("unmet", stored_unmet, unmet);
            }
        }
        match standing.decided {
            Some(_) if waiting > 0 => {
                let what =
                    format!("it was decided while {waiting} of its dependencies had not ended");
                problems.add(Invariant::I6, what);
            }
            Some(decided) => self.check_decision(number, decided, problems),
            None if standing.phase == Phase::Pending => {
                self.check_pending(number, waiting, problems)
            }
            None => {}
        }
    }

    fn check_decision(&self, number: u32, decided: bool, problems: &mut Problems) {
        let holds = match &self.graph.task_of(number).trigger {
            None => Some(
                self.graph
                    .dependencies(number)
                    .iter()
                    .all(|&dependency| self.completed(dependency)),
            ),
            Some(rule) => self.holds(number, rule),
        };
        if let Some(holds) = holds.filter(|holds| *holds != decided) {
            let (was, should) = if decided {
                ("made ready", "skipped")
            } else {
                ("skipped", "made ready")
            };
            let holds = if holds { "holds" } else { "does not hold" };
            let what = format!("it was {was}, but its rule {holds}: it should have been {should}");
            problems.add(Invariant::I6, what);
        }
    }

    /// A task that nobody decided yet must still be waited for, or something will decide it.
    fn check_pending(&self, number: u32, waiting: u32, problems: &mut Problems) {
        if self.status == ExecutionStatus::Cancelling || self.status.is_terminal() {
            return;
        }
        let dependencies = self.graph.dependencies(number);
        if dependencies.is_empty() {
            if self.undecided_from.is_none_or(|from| number < from) {
                problems.add(
                    Invariant::I8,
                    "it waits for nothing, but was never made ready",
                );
            }
        } else if waiting == 0 {
            problems.add(
                Invariant::I8,
                "all its dependencies have ended, but it was never decided",
            );
        } else {
            let cancelled = |number: &&u32| self.phase(**number) == Some(Phase::Cancelled);
            let never = dependencies.iter().filter(cancelled).count();
            if never as u32 == waiting {
                problems.add(Invariant::I8, "it waits only for tasks that were cancelled");
            }
        }
    }

    fn completed(&self, number: u32) -> bool {
        self.phase(number) == Some(Phase::Completed)
    }

    /// Whether a rule holds, unless that depends on the context.
    fn holds(&self, number: u32, rule: &Trigger) -> Option<bool> {
        // Of several parts, one that decides is enough, whatever those that are not known say.
        let several = |parts: &[Trigger], decisive: bool| {
            let mut unknown = false;
            for part in parts {
                match self.holds(number, part) {
                    Some(holds) if holds == decisive => return Some(decisive),
                    Some(_) => {}
                    None => unknown = true,
                }
            }
            (!unknown).then_some(!decisive)
        };
        let failed = |phase| matches!(phase, Phase::Failed | Phase::Abandoned);
        match rule {
            Trigger::All(parts) => several(parts, false),
            Trigger::Any(parts) => several(parts, true),
            Trigger::None(parts) => several(parts, true).map(|any| !any),
            Trigger::Success(name) => self
                .any(number, name, |phase| phase != Phase::Completed)
                .map(|any| !any),
            Trigger::Failed(name) => self.any(number, name, failed),
            Trigger::Skipped(name) => self.any(number, name, |phase| phase == Phase::Skipped),
            Trigger::Context { .. } => None,
        }
    }

    /// Whether one of the dependencies that a name stands for ended so.
    fn any(&self, number: u32, name: &str, so: impl Fn(Phase) -> bool) -> Option<bool> {
        let dependencies = self.graph.dependencies(number);
        let node = self
            .graph
            .number_of(name)
            .filter(|node| dependencies.binary_search(node).is_ok());
        if let Some(node) = node {
            return self.phase(node).map(so);
        }
        let task = self.graph.task_index(name)?;
        let mut of_task = dependencies
            .iter()
            .filter(|number| self.graph.task_index_of(**number) == task);
        Some(of_task.any(|number| self.phase(*number).is_some_and(&so)))
    }

    /// The first failed task that no completed dependent's rule names.
    pub(super) fn uncaught(&self) -> Option<u32> {
        let failed =
            |number: &u32| matches!(self.phase(*number), Some(Phase::Failed | Phase::Abandoned));
        self.graph.numbers().filter(failed).find(|&number| {
            let handlers = self.graph.dependents(number).iter();
            !handlers
                .filter(|handler| self.completed(**handler))
                .any(|&handler| {
                    let rule = self.graph.task_of(handler).trigger.as_ref();
                    rule.is_some_and(|rule| self.names_failure(rule, number, true))
                })
        })
    }

    /// Whether a rule asks for the failure of this task, and not for its absence.
    fn names_failure(&self, rule: &Trigger, number: u32, asks: bool) -> bool {
        match rule {
            Trigger::All(parts) | Trigger::Any(parts) => parts
                .iter()
                .any(|part| self.names_failure(part, number, asks)),
            Trigger::None(parts) => parts
                .iter()
                .any(|part| self.names_failure(part, number, !asks)),
            Trigger::Failed(name) => {
                asks && (name == self.graph.node_id(number)
                    || *name == self.graph.task_of(number).id)
            }
            _ => false,
        }
    }
}
