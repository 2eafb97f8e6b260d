//! What the end of a task does to the rest of its graph: dependents count down, the last
//! dependency decides, a no skips and spreads on. Bounded: at most [`PIECE`] dependents a request,
//! the rest from a timer that is due at once.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::context::{fold, sources};
use crate::graph::Graph;
use crate::ids::{ExecutionId, TaskKey};
use crate::status::{ExecutionStatus, Phase};
use crate::timer::{Timer, TimerKind};
use crate::transition::Cause;
use crate::trigger::{self, Decision, Ending};

use super::PIECE;
use super::need::Stop;
use super::request::{Claimed, Offer, OutboxRow};
use super::working::Working;

/// One request's walk over a graph.
pub(super) struct Spread<'a> {
    execution: ExecutionId,
    graph: Arc<Graph>,
    offer: Option<&'a Offer>,
    /// A start waits behind ready rows of its own priority; a successor only behind higher ones.
    first: bool,
    ended: VecDeque<(u32, u32)>,
    budget: u32,
    pub(super) claimed: Vec<Claimed>,
}

impl<'a> Spread<'a> {
    pub(super) fn new(
        execution: ExecutionId,
        graph: Arc<Graph>,
        offer: Option<&'a Offer>,
        first: bool,
    ) -> Spread<'a> {
        Spread {
            execution,
            graph,
            offer,
            first,
            ended: VecDeque::new(),
            budget: PIECE,
            claimed: Vec::new(),
        }
    }

    /// A task ended; its dependents from the n-th on are to be told.
    pub(super) fn ended(&mut self, number: u32, from: u32) {
        self.ended.push_back((number, from));
    }

    fn key(&self, number: u32) -> TaskKey {
        TaskKey::new(self.execution, number)
    }
}

impl Working {
    /// Tells dependents until nothing more follows or the budget is used up.
    pub(super) fn spread(&mut self, spread: &mut Spread<'_>) -> Result<(), Stop> {
        while let Some((number, from)) = spread.ended.pop_front() {
            let completed = self.task(spread.key(number))?.phase == Phase::Completed;
            let graph = spread.graph.clone();
            let dependents = &graph.dependents(number)[from as usize..];
            let now_told = dependents.len().min(spread.budget as usize);
            self.require_tasks(
                dependents[..now_told]
                    .iter()
                    .map(|&dependent| spread.key(dependent)),
            )?;
            for &dependent in &dependents[..now_told] {
                let last = self.change_task(spread.key(dependent), |task, _| {
                    Ok(task.lower_waiting(completed))
                })?;
                if last {
                    self.decide(spread, dependent)?;
                }
            }
            spread.budget -= now_told as u32;
            if now_told < dependents.len() {
                let timer = Timer::of_task(
                    self.now,
                    TimerKind::Propagate,
                    spread.key(number),
                    from + now_told as u32,
                );
                self.add_timer(timer);
            }
        }
        Ok(())
    }

    /// Decides a task whose dependencies have all ended: it becomes Ready, or is skipped and that
    /// spreads on.
    pub(super) fn decide(&mut self, spread: &mut Spread<'_>, number: u32) -> Result<(), Stop> {
        let key = spread.key(number);
        let task = self.task(key)?;
        if task.phase != Phase::Pending {
            return Ok(());
        }
        let execution = self.execution(spread.execution)?;
        if execution.status == ExecutionStatus::Cancelling || execution.status.is_terminal() {
            // The stop that is under way cancels it.
            return Ok(());
        }
        let all_met = task.unmet == 0;
        let cause = Cause::engine(self.now);
        match self.verdict(&spread.graph, key, all_met)? {
            Decision::Run => {
                self.change_task(key, |task, log| task.mark_ready(&cause, log))?;
                self.hand_out(spread, key)
            }
            Decision::Skip(reason) => {
                self.change_task(key, |task, log| task.skip(&reason, &cause, log))?;
                self.change_execution(spread.execution, |execution, _| {
                    execution.open = execution.open.saturating_sub(1);
                    Ok(())
                })?;
                spread.ended(number, 0);
                Ok(())
            }
        }
    }

    /// What the task's trigger rule says.
    fn verdict(&self, graph: &Arc<Graph>, key: TaskKey, all_met: bool) -> Result<Decision, Stop> {
        let rule = graph.task_of(key.number).trigger.as_ref();
        if rule.is_none() && all_met {
            return Ok(Decision::Run);
        }
        let of = |number: u32| TaskKey::new(key.execution, number);
        self.require_tasks(
            graph
                .dependencies(key.number)
                .iter()
                .map(|&number| of(number)),
        )?;
        let context = match rule.is_some_and(|rule| rule.uses_context()) {
            true => Some(self.context_of(graph, key)?),
            false => None,
        };
        let ending_of = |number: u32| match self.task(of(number)).map(|task| task.phase) {
            Ok(Phase::Completed) => Ending::Completed,
            Ok(Phase::Failed) => Ending::Failed,
            Ok(Phase::Abandoned) => Ending::Abandoned,
            Ok(Phase::Skipped) => Ending::Skipped,
            // Every dependency is loaded and has ended, so nothing else is left.
            _ => Ending::Cancelled,
        };
        Ok(trigger::decide(graph, key.number, &ending_of, &|| {
            context.clone().unwrap_or_default()
        }))
    }

    fn context_of(
        &self,
        graph: &Arc<Graph>,
        key: TaskKey,
    ) -> Result<serde_json::Map<String, serde_json::Value>, Stop> {
        let parts = self.context(key.execution)?;
        let sources = sources(graph, key.number, &|number| {
            parts.checkpoints.contains_key(&number)
        });
        let checkpoint = sources
            .checkpoint
            .and_then(|number| parts.checkpoints.get(&number));
        let changed = sources
            .changes
            .iter()
            .filter_map(|&number| self.changes(TaskKey::new(key.execution, number), parts));
        let changes = checkpoint.into_iter().chain(changed);
        Ok(fold(parts.base.clone(), changes))
    }

    /// A task became Ready: it is claimed into an offered slot, or goes to the outbox.
    fn hand_out(&mut self, spread: &mut Spread<'_>, key: TaskKey) -> Result<(), Stop> {
        let priority = self.priority_of(&spread.graph, key)?;
        if let Some(offer) = spread.offer
            && spread.claimed.len() < offer.slots as usize
            && self.may_bypass_outbox(offer, priority, spread.first)?
        {
            let claimed = self.claim_ready(key, offer.worker, offer.hop)?;
            spread.claimed.push(claimed);
            return Ok(());
        }
        self.queue(key)
    }

    /// Puts a Ready task into the outbox, for anyone.
    pub(super) fn queue(&mut self, key: TaskKey) -> Result<(), Stop> {
        let row = self.outbox_row(key)?;
        self.add_to_outbox(row);
        Ok(())
    }

    /// The outbox row of a Ready task.
    pub(super) fn outbox_row(&self, key: TaskKey) -> Result<OutboxRow, Stop> {
        let execution = self.execution(key.execution)?;
        let graph = self.graph_of(execution)?;
        let task = self.task(key)?;
        Ok(OutboxRow {
            worker: None,
            queue: execution.workflow,
            priority: self.priority_of(&graph, key)?,
            ready_at: task.ready_at.unwrap_or(task.changed_at),
            key,
        })
    }

    /// A wake-up for the worker that holds the task.
    pub(super) fn notify_holder(&mut self, key: TaskKey) -> Result<(), Stop> {
        let worker = self.task(key)?.worker;
        let row = OutboxRow {
            worker,
            ready_at: self.now,
            ..self.outbox_row(key)?
        };
        self.add_to_outbox(row);
        Ok(())
    }

    pub(super) fn priority_of(&self, graph: &Graph, key: TaskKey) -> Result<i16, Stop> {
        Ok(self
            .execution(key.execution)?
            .priority
            .saturating_add(graph.priority_of(key.number)))
    }

    fn may_bypass_outbox(&self, offer: &Offer, priority: i16, first: bool) -> Result<bool, Stop> {
        if offer.hop >= super::MAX_HOPS {
            return Ok(false);
        }
        Ok(match self.ready_head(&offer.queues)? {
            None => true,
            Some(head) if first => head < priority,
            Some(head) => head <= priority,
        })
    }
}
