//! Ends: of a task, whose dependents are told, and of the execution with its last task.

use std::sync::Arc;

use crate::execution::FailedBy;
use crate::graph::Graph;
use crate::ids::{ExecutionId, TaskKey};
use crate::status::{ExecutionStatus, Phase};
use crate::timer::{Timer, TimerKind};
use crate::transition::Cause;
use crate::trigger::catches;

use super::effects::ExecutionEnd;
use super::need::{Stop, TaskSet};
use super::offer::Offer;
use super::propagate::Spread;
use super::request::Claimed;
use super::working::Working;

impl Working {
    /// A task ended: its execution counts it, its dependents are told, and with the last task the
    /// execution ends.
    pub(super) fn close_task(
        &mut self,
        key: TaskKey,
        failed: bool,
        offer: Option<&Offer>,
    ) -> Result<Vec<Claimed>, Stop> {
        self.change_execution(key.execution, |execution, _| {
            execution.open = execution.open.saturating_sub(1);
            execution.failed += u32::from(failed);
            Ok(())
        })?;
        let graph = self.graph_of(self.execution(key.execution)?)?;
        let mut spread = Spread::new(key.execution, graph, offer);
        spread.ended(key.number, 0);
        self.spread(&mut spread)?;
        self.end_if_done(key.execution)?;
        Ok(spread.claimed)
    }

    /// Ends the execution if no task is open any more.
    pub(super) fn end_if_done(&mut self, id: ExecutionId) -> Result<(), Stop> {
        let execution = self.execution(id)?;
        if execution.open > 0 || execution.status.is_terminal() {
            return Ok(());
        }
        let stopping = execution.status == ExecutionStatus::Cancelling;
        let failure = match execution.failed {
            0 => None,
            _ if stopping => None,
            _ => self.uncaught_failure(id)?,
        };
        let cause = Cause::engine(self.now);
        self.disarm(id)?;
        self.change_execution(id, |execution, log| {
            let failure = failure.as_ref().map(|(graph, task, phase)| FailedBy {
                task: *task,
                node: graph.node_id(*task),
                phase: *phase,
            });
            execution.finish(failure, &cause, log)
        })?;
        let status = self.execution(id)?.status;
        self.effects.ended.push(ExecutionEnd { id, status });
        Ok(())
    }

    /// Removes the timers of an execution that ends.
    pub(super) fn disarm(&mut self, id: ExecutionId) -> Result<(), Stop> {
        let execution = self.execution(id)?;
        let timers = [
            // A large graph may be stopped before its start time.
            execution
                .start_at
                .map(|at| Timer::of_execution(at, TimerKind::Start, id, 0)),
            execution
                .deadline_at
                .map(|at| Timer::of_execution(at, TimerKind::Deadline, id, 0)),
            execution
                .grace_until
                .map(|at| Timer::of_execution(at, TimerKind::Cancel, id, 0)),
        ];
        for timer in timers.into_iter().flatten() {
            self.remove_timer(timer);
        }
        Ok(())
    }

    /// The first failed task that no Completed dependent's rule names, and how it ended.
    fn uncaught_failure(&self, id: ExecutionId) -> Result<Option<(Arc<Graph>, u32, Phase)>, Stop> {
        let graph = self.graph_of(self.execution(id)?)?;
        let failures = self.tasks(id, TaskSet::Failed)?.0;
        // All at once: each round of reading runs the whole request again.
        let handlers = failures.iter().flat_map(|key| graph.dependents(key.number));
        self.require_tasks(handlers.map(|&number| TaskKey::new(id, number)))?;
        for key in failures {
            let dependents = graph.dependents(key.number);
            let mut caught = false;
            for &handler in dependents {
                let completed = self.task(TaskKey::new(id, handler))?.phase == Phase::Completed;
                caught |= completed && catches(&graph, handler, key.number);
            }
            if !caught {
                let phase = self.task(key)?.phase;
                return Ok(Some((graph, key.number, phase)));
            }
        }
        Ok(None)
    }
}
